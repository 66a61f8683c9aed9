//! The chain on disk: segment files that survive a crash at any byte, and copies of what is
//! sealed.

mod active;
pub mod directory;
mod format;
#[cfg(any(test, fuzzing))]
pub mod fuzz;
mod open;
mod read;
mod recover;
pub mod segments;

pub use directory::Directory;
pub use open::check_segment;
pub use read::Entries;
pub use segments::{Options, Segments, TornTail};
