//! Where the chain's entries are kept. The ledger says which entries there are; whoever implements
//! [`ChainStore`] keeps their bytes.

use hale_model::Digest;
use hale_model::chain::Entry;
use std::io;
use std::ops::Range;

/// Keeps the chain's entries in order. One caller writes; any number may read.
///
/// An entry reaches the chain after its command is on the Raft log's disk, so what a crash takes
/// from the chain's end is made again from the log. Two things are asked of an implementation: what
/// a crash leaves is a prefix of what was appended, and what [`ChainStore::sync`] returned for is
/// in that prefix.
pub trait ChainStore: Send + Sync + 'static {
    /// Puts entries at the end. They may still be on their way to the disk.
    ///
    /// # Errors
    /// If they can't be written. A first part of them may be there then, each entry whole, and
    /// [`ChainStore::len`] says so.
    fn append(&self, entries: &[Entry]) -> io::Result<()>;

    /// Returns when all that was appended is on the disk (fdatasync). May be a no-op if `append`
    /// waits for it.
    ///
    /// # Errors
    /// If the disk does not take it.
    fn sync(&self) -> io::Result<()>;

    /// How many entries there are.
    fn len(&self) -> u64;

    /// Whether there are none.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The hash of the last entry; [`Digest::ZERO`] if there is none.
    fn tip(&self) -> Digest;

    /// Entries by number, as many of the range as there are.
    ///
    /// # Errors
    /// If they can't be read or are damaged.
    fn read(&self, range: Range<u64>) -> io::Result<Vec<Entry>>;

    /// Called before the ledger starts, and again before it starts anew after a write failed: a
    /// store that stopped at the failure looks at its files again here.
    ///
    /// # Errors
    /// If they still can't be used.
    fn reopen(&self) -> io::Result<()> {
        Ok(())
    }

    /// Forgets all entries from number `len` on. Only an operator's recovery does this: what is on
    /// the chain was committed.
    ///
    /// # Errors
    /// If the disk does not take it.
    fn truncate_to(&self, len: u64) -> io::Result<()>;
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use std::sync::Mutex;

    /// Entries in memory, for tests.
    #[derive(Default)]
    pub(crate) struct InMemory(pub(crate) Mutex<Vec<Entry>>);

    impl ChainStore for InMemory {
        fn append(&self, entries: &[Entry]) -> io::Result<()> {
            self.0.lock().unwrap().extend_from_slice(entries);
            Ok(())
        }

        fn sync(&self) -> io::Result<()> {
            Ok(())
        }

        fn len(&self) -> u64 {
            self.0.lock().unwrap().len() as u64
        }

        fn tip(&self) -> Digest {
            self.0
                .lock()
                .unwrap()
                .last()
                .map_or(Digest::ZERO, Entry::hash)
        }

        fn read(&self, range: Range<u64>) -> io::Result<Vec<Entry>> {
            let all = self.0.lock().unwrap();
            let end = range.end.min(all.len() as u64);
            let start = range.start.min(end);
            Ok(all[start as usize..end as usize].to_vec())
        }

        fn truncate_to(&self, len: u64) -> io::Result<()> {
            self.0.lock().unwrap().truncate(len as usize);
            Ok(())
        }
    }
}
