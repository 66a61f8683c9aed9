//! The store against openraft's own suite.

use super::log::LogStore;
use super::machine::{LiveLedger, Machine};
use crate::chain_store::tests::InMemory;
use crate::types::{StorageError, Types};
use openraft::testing::{StoreBuilder, Suite};
use std::sync::Arc;
use tempfile::TempDir;
use tokio::sync::broadcast;

struct Fresh;

impl StoreBuilder<Types, LogStore, Machine, TempDir> for Fresh {
    async fn build(&self) -> Result<(TempDir, LogStore, Machine), StorageError> {
        let dir = tempfile::tempdir().unwrap();
        let log = LogStore::open(&dir.path().join("log")).unwrap();
        let (news, _) = broadcast::channel(16);
        let chain = Arc::new(InMemory::default());
        let machine = Machine::open(dir.path(), LiveLedger::default(), chain, news).unwrap();
        Ok((dir, log, machine))
    }
}

#[test]
fn the_store_passes_openrafts_own_suite() {
    Suite::test_all(Fresh).unwrap();
}
