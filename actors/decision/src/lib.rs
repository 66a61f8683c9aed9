//! Anomalies and events become incidents, incidents become decisions.
//!
//! [`incident::Correlator`] joins a host's signals, [`describe`] tells them as text, [`embed`]
//! makes a vector of the text, [`rank`] searches the playbooks with it and weighs what speaks for
//! each, [`confidence`] says how sure that is and who may start it. All of it is pure; [`actor`]
//! alone waits for messages and asks through ports.

pub mod actor;
pub mod autonomy;
pub mod catalogue;
pub mod coefficients;
pub mod confidence;
pub mod describe;
pub mod embed;
pub mod evidence;
pub mod features;
pub mod incident;
pub mod index;
pub mod lexical;
pub mod products;
pub mod query;
pub mod rank;
pub mod replay;
pub mod words;
