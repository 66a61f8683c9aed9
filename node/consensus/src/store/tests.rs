//! The store against openraft's own suite.

use super::log::LogStore;
use super::machine::{LiveLedger, Machine, Teller};
use crate::chain_store::tests::InMemory;
use crate::types::{StorageError, Types};
use openraft::testing::{StoreBuilder, Suite};
use std::sync::Arc;
use tempfile::TempDir;

struct Fresh;

impl StoreBuilder<Types, LogStore, Machine, TempDir> for Fresh {
    async fn build(&self) -> Result<(TempDir, LogStore, Machine), StorageError> {
        let dir = tempfile::tempdir().unwrap();
        let log = LogStore::open(&dir.path().join("log"), u64::MAX).unwrap();
        let chain = Arc::new(InMemory::default());
        let machine = Machine::open(
            dir.path(),
            LiveLedger::default(),
            chain,
            Arc::new(Teller::new(16)),
        )
        .unwrap();
        Ok((dir, log, machine))
    }
}

#[test]
fn the_store_passes_openrafts_own_suite() {
    Suite::test_all(Fresh).unwrap();
}
