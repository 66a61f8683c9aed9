//! The door that stays shut.
//!
//! `NodeServer` opens a TCP listener whatever it is told, and is of no use if it can't. So it gets
//! one on loopback, on any port, behind TLS that has no certificate to show: no handshake ever
//! completes (RFC 8446 section 4.4.2: a server always sends one), so no byte that comes in there
//! reaches an actor, and there is no key that could leak. All sessions come over QUIC.

use crate::error::GatewayError;
use ractor_cluster::IncomingEncryptionMode;
use rustls::ServerConfig;
use rustls::crypto::aws_lc_rs;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

/// Where it is.
pub(crate) const ADDR: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

#[derive(Debug)]
struct NoCertificate;

impl ResolvesServerCert for NoCertificate {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        None
    }
}

/// TLS with which nobody gets in.
pub(crate) fn shut() -> Result<IncomingEncryptionMode, GatewayError> {
    let config = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(|e| GatewayError::Start(e.to_string()))?
        .with_no_client_auth()
        .with_cert_resolver(Arc::new(NoCertificate));
    Ok(IncomingEncryptionMode::Tls(Arc::new(config).into()))
}
