//! The host's own state on disk, and the one home of sled for it: baselines, incidents, the
//! execution journal, the outbox of records. Each value carries a checksum; what is
//! written durably is on the platter before the call returns.
//!
//! sled takes damage for what a crash left, and goes on with less or nothing. So each part counts
//! its writes and rows, and a file beside sled witnesses the count: what is gone is noticed.
//!
//! After an error of the disk sled takes nothing more, and what the kernel shows of a sync that
//! failed may not be on the platter. So the store is closed then, its files are written anew, and it
//! is opened again by the next write.

use hale_model::Digest;
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::{Duration, Instant};

/// How long another may take to let go of the files.
const LET_GO: Duration = Duration::from_secs(3);

/// A part of the host's state.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Part {
    /// Baselines, one value for some series each.
    Baselines,
    /// Open and remembered incidents.
    Incidents,
    /// What an execution is about to do.
    Journal,
    /// Records that the ledger has not acknowledged yet.
    Outbox,
}

impl Part {
    const ALL: [Self; 4] = [
        Self::Baselines,
        Self::Incidents,
        Self::Journal,
        Self::Outbox,
    ];

    fn name(self) -> &'static str {
        match self {
            Self::Baselines => "baselines",
            Self::Incidents => "incidents",
            Self::Journal => "journal",
            Self::Outbox => "outbox",
        }
    }
}

/// Why the host's state can't be read or written.
#[derive(Debug, thiserror::Error)]
pub(crate) enum StoreError {
    /// The directory can't be used.
    #[error(
        "the state in {path} can't be opened; check the directory's owner and the disk's free space"
    )]
    Open {
        /// Where.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// What is there is damaged.
    #[error(
        "the state in {path} is damaged ({what}); move it away with `mv {path} {path}.damaged` and \
         start again: the node learns its baselines anew, the ledger is not touched"
    )]
    Damaged {
        /// Where.
        path: PathBuf,
        /// What was found.
        what: String,
    },
    /// A newer binary wrote it.
    #[error(
        "the state in {path} has format {found}, this binary knows {FORMAT}; use the newer binary"
    )]
    Newer {
        /// Where.
        path: PathBuf,
        /// The format found.
        found: String,
    },
    /// A write failed.
    #[error("the state in {path} can't be written; is the disk full?")]
    Write {
        /// Where.
        path: PathBuf,
        /// Why.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

/// A key and its value.
pub(crate) type Row = (Vec<u8>, Vec<u8>);

const FORMAT: &str = "hale host state 1";
const CHECKSUM_BYTES: usize = 8;
/// The row that holds a part's count. Other keys are texts.
const COUNT_KEY: &[u8] = b"\0count";
/// A part's place in the witness: the number of its last write, and a checksum.
const WITNESS_BYTES: usize = 16;

/// How often a part was written, and how many rows it has.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Count {
    writes: u64,
    rows: u64,
}

impl Count {
    fn bytes(self) -> Vec<u8> {
        [self.writes.to_be_bytes(), self.rows.to_be_bytes()].concat()
    }

    fn read(bytes: &[u8]) -> Option<Self> {
        let (writes, rest) = bytes.split_first_chunk()?;
        let (writes, rows) = (
            u64::from_be_bytes(*writes),
            u64::from_be_bytes(rest.try_into().ok()?),
        );
        Some(Self { writes, rows })
    }
}

/// The host's state. Cloning shares it.
#[derive(Clone)]
pub(crate) struct HostStore {
    path: Arc<Path>,
    /// Nothing after an error of the disk, until it can be opened again.
    opened: Arc<RwLock<Option<Opened>>>,
}

/// With less room than this, in bytes, a store that could not be written is not opened again.
const ROOM: u64 = 4 << 20;

impl HostStore {
    /// Opens the state in `path`, or founds it.
    pub(crate) fn open(path: &Path) -> Result<Self, StoreError> {
        let opened = Opened::open(path)?;
        Ok(Self {
            path: path.into(),
            opened: Arc::new(RwLock::new(Some(opened))),
        })
    }

    /// Puts and removes (`None`) in one step; on the platter when it returns.
    pub(crate) fn write(
        &self,
        part: Part,
        changes: impl IntoIterator<Item = (Vec<u8>, Option<Vec<u8>>)>,
    ) -> Result<(), StoreError> {
        let changes: Changes = changes.into_iter().collect();
        let tried = self.with(|opened| opened.write(part, &changes));
        match tried {
            Some(Err(StoreError::Write { source, .. })) if self.has_room() => {
                tracing::error!(path = %self.path.display(), why = %source,
                    "the host's state could not be written: it is closed and opened again");
            }
            Some(tried) => return tried,
            None => {}
        }
        self.open_again()?;
        let again = self.with(|opened| opened.write(part, &changes));
        // Somebody else closed it again meanwhile.
        again.unwrap_or_else(|| Err(self.closed()))
    }

    /// All of a part, by key.
    pub(crate) fn scan(&self, part: Part) -> Result<Vec<Row>, StoreError> {
        self.with(|opened| opened.scan(part))
            .unwrap_or_else(|| Err(self.closed()))
    }

    /// Bytes on disk.
    pub(crate) fn size(&self) -> u64 {
        self.with(|opened| opened.db.size_on_disk().unwrap_or(0))
            .unwrap_or(0)
    }

    fn with<T>(&self, f: impl FnOnce(&Opened) -> T) -> Option<T> {
        let opened = self.opened.read().unwrap_or_else(PoisonError::into_inner);
        opened.as_ref().map(f)
    }

    /// Closes it if it is open, and opens what the disk has.
    fn open_again(&self) -> Result<(), StoreError> {
        let mut opened = self.opened.write().unwrap_or_else(PoisonError::into_inner);
        // sled may assert that what it can't write any more was written.
        let old = std::panic::AssertUnwindSafe(opened.take());
        let _ = std::panic::catch_unwind(|| drop(old));
        write_again(&self.path).map_err(|source| StoreError::Open {
            path: self.path.to_path_buf(),
            source,
        })?;
        *opened = Some(Opened::open(&self.path)?);
        tracing::info!(path = %self.path.display(), "the host's state is open again");
        Ok(())
    }

    fn closed(&self) -> StoreError {
        StoreError::Write {
            path: self.path.to_path_buf(),
            source: "it is closed after an error of the disk, until a write opens it again".into(),
        }
    }

    fn has_room(&self) -> bool {
        let found = rustix::fs::statvfs(&*self.path);
        found.is_ok_and(|f| f.f_bavail * f.f_frsize >= ROOM)
    }
}

/// Puts the format's name into a new store, in one step and on the platter.
fn mark(dir: &Path, marker: &Path) -> std::io::Result<()> {
    let new = dir.with_extension("new");
    fs::write(&new, FORMAT)?;
    File::open(&new)?.sync_all()?;
    fs::rename(&new, marker)?;
    File::open(dir)?.sync_all()
}

/// Writes every file of a directory to a new one and syncs it. After a sync that failed, the kernel
/// may show bytes that are not on the disk and never write them: their pages are marked clean.
fn write_again(dir: &Path) -> std::io::Result<()> {
    let new = dir.with_extension("new");
    for file in fs::read_dir(dir)? {
        let file = file?;
        if file.file_type()?.is_file() {
            fs::copy(file.path(), &new)?;
            File::open(&new)?.sync_all()?;
            fs::rename(&new, file.path())?;
        }
    }
    File::open(dir)?.sync_all()
}

/// Opens sled's files. Whoever had them open may take a moment to let go of the lock: a process that
/// is ending, or sled's own threads.
fn open_sled(path: &Path) -> Result<sled::Db, sled::Error> {
    let begun = Instant::now();
    loop {
        let opened = sled::Config::new()
            .path(path)
            .cache_capacity(8 << 20)
            .flush_every_ms(None)
            .mode(sled::Mode::LowSpace)
            .open();
        match opened {
            Err(sled::Error::Io(e))
                if e.to_string().contains("could not acquire lock") && begun.elapsed() < LET_GO =>
            {
                std::thread::park_timeout(Duration::from_millis(20));
            }
            other => return other,
        }
    }
}

/// What is put under each key, or that it is removed.
type Changes = BTreeMap<Vec<u8>, Option<Vec<u8>>>;

struct Opened {
    path: PathBuf,
    db: sled::Db,
    trees: Vec<sled::Tree>,
    counts: Vec<Mutex<Count>>,
    witness: File,
}

impl Opened {
    fn open(path: &Path) -> Result<Self, StoreError> {
        let io = |source| StoreError::Open {
            path: path.to_owned(),
            source,
        };
        let damaged = |what: String| StoreError::Damaged {
            path: path.to_owned(),
            what,
        };
        fs::create_dir_all(path).map_err(io)?;
        let marker = path.join("FORMAT");
        match fs::read_to_string(&marker) {
            Ok(text) if text.trim() == FORMAT => {}
            // The power failed while it was founded.
            Ok(text) if text.is_empty() => mark(path, &marker).map_err(io)?,
            Ok(text) => {
                let found = text.trim().chars().take(40).collect();
                return Err(StoreError::Newer {
                    path: path.to_owned(),
                    found,
                });
            }
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => {
                mark(path, &marker).map_err(io)?;
            }
            Err(e) => return Err(io(e)),
        }
        // sled asserts on some kinds of damage; an assertion is an answer too, not a crash.
        let opened = std::panic::catch_unwind(|| {
            let db = open_sled(path)?;
            let trees = Part::ALL
                .iter()
                .map(|p| db.open_tree(p.name()))
                .collect::<Result<_, _>>()?;
            Ok::<_, sled::Error>((db, trees))
        });
        let (db, trees) = match opened {
            Ok(Ok(parts)) => parts,
            Ok(Err(sled::Error::Io(e))) => return Err(io(e)),
            Ok(Err(e)) => return Err(damaged(e.to_string())),
            Err(_) => return Err(damaged("its pages do not fit together".into())),
        };
        let witness = File::options()
            .create(true)
            .truncate(false)
            .read(true)
            .write(true)
            .open(path.join("written"))
            .map_err(io)?;
        let store = Self {
            path: path.to_owned(),
            db,
            trees,
            counts: Part::ALL.map(|_| Mutex::default()).into(),
            witness,
        };
        for part in Part::ALL {
            *store.count(part) = store.checked(part)?;
        }
        Ok(store)
    }

    fn count(&self, part: Part) -> MutexGuard<'_, Count> {
        // Set in one step: what a panicking thread left is whole.
        self.counts[part as usize]
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// Reads a part whole, and holds it against its count and the count against its witness.
    fn checked(&self, part: Part) -> Result<Count, StoreError> {
        let name = part.name();
        let damaged = |what: String| StoreError::Damaged {
            path: self.path.clone(),
            what,
        };
        let rows = self.scan(part)?.len() as u64;
        let count = match self.tree(part).get(COUNT_KEY) {
            Ok(None) => Count::default(),
            Ok(Some(bytes)) => Count::read(&self.unsealed(part, &bytes)?)
                .ok_or_else(|| damaged(format!("the count of `{name}` is none")))?,
            Err(e) => return Err(damaged(e.to_string())),
        };
        if rows != count.rows {
            let counted = count.rows;
            return Err(damaged(format!(
                "`{name}` has {rows} rows where {counted} were counted"
            )));
        }
        let witnessed = self.witnessed(part)?;
        if count.writes < witnessed {
            let writes = count.writes;
            return Err(damaged(format!(
                "`{name}` knows of {writes} writes, {witnessed} were done"
            )));
        }
        Ok(count)
    }

    /// How many writes of a part the witness saw on the platter.
    fn witnessed(&self, part: Part) -> Result<u64, StoreError> {
        let mut seen = [0; WITNESS_BYTES];
        let at = (part as usize * WITNESS_BYTES) as u64;
        let found = self.witness.read_exact_at(&mut seen, at);
        let (writes, sum) = seen.split_at(WITNESS_BYTES - CHECKSUM_BYTES);
        match found {
            Err(e) if e.kind() == std::io::ErrorKind::UnexpectedEof => Ok(0),
            Err(source) => Err(StoreError::Open {
                path: self.path.clone(),
                source,
            }),
            Ok(()) if seen == [0; WITNESS_BYTES] => Ok(0),
            Ok(()) if sum == &Digest::of(writes).as_bytes()[..CHECKSUM_BYTES] => {
                Ok(u64::from_be_bytes(writes.try_into().unwrap_or_default()))
            }
            Ok(()) => Err(StoreError::Damaged {
                path: self.path.clone(),
                what: "the file `written` does not match its checksums".into(),
            }),
        }
    }

    fn tree(&self, part: Part) -> &sled::Tree {
        &self.trees[part as usize]
    }

    fn write_error(&self, e: impl std::error::Error + Send + Sync + 'static) -> StoreError {
        StoreError::Write {
            path: self.path.clone(),
            source: Box::new(e),
        }
    }

    fn write(&self, part: Part, changes: &Changes) -> Result<(), StoreError> {
        let tree = self.tree(part);
        let mut held = self.count(part);
        let mut count = *held;
        let mut batch = sled::Batch::default();
        for (key, value) in changes {
            let was_there = tree.contains_key(key).map_err(|e| self.write_error(e))?;
            count.rows = count.rows - u64::from(was_there) + u64::from(value.is_some());
            match value {
                Some(value) => batch.insert(key.as_slice(), sealed(value)),
                None => batch.remove(key.as_slice()),
            }
        }
        count.writes += 1;
        batch.insert(COUNT_KEY, sealed(&count.bytes()));
        tree.apply_batch(batch).map_err(|e| self.write_error(e))?;
        *held = count;
        tree.flush().map_err(|e| self.write_error(e))?;
        // sled's flush only asks for write-back (sync_file_range); this waits for the platter.
        File::open(self.path.join("db"))
            .and_then(|f| f.sync_data())
            .map_err(|e| self.write_error(e))?;
        // Never before what it witnesses; that it may reach the platter later only makes it blind.
        let seen = count.writes.to_be_bytes();
        let mut witness = seen.to_vec();
        witness.extend_from_slice(&Digest::of(&seen).as_bytes()[..CHECKSUM_BYTES]);
        let at = (part as usize * WITNESS_BYTES) as u64;
        self.witness
            .write_all_at(&witness, at)
            .map_err(|e| self.write_error(e))
    }

    fn scan(&self, part: Part) -> Result<Vec<Row>, StoreError> {
        let all = self.tree(part).iter();
        let is_own = |row: &sled::Result<(sled::IVec, _)>| {
            row.as_ref().is_ok_and(|(key, _)| key == COUNT_KEY)
        };
        all.filter(|row| !is_own(row))
            .map(|row| {
                let (key, value) = row.map_err(|e| StoreError::Damaged {
                    path: self.path.clone(),
                    what: e.to_string(),
                })?;
                Ok((key.to_vec(), self.unsealed(part, &value)?))
            })
            .collect()
    }

    fn unsealed(&self, part: Part, bytes: &[u8]) -> Result<Vec<u8>, StoreError> {
        let damaged = || StoreError::Damaged {
            path: self.path.clone(),
            what: format!("a value in `{}` does not match its checksum", part.name()),
        };
        let (sum, value) = bytes.split_at_checked(CHECKSUM_BYTES).ok_or_else(damaged)?;
        let right = Digest::of(value).as_bytes()[..CHECKSUM_BYTES] == *sum;
        if right {
            Ok(value.to_vec())
        } else {
            Err(damaged())
        }
    }
}

fn sealed(value: &[u8]) -> Vec<u8> {
    let mut out = Digest::of(value).as_bytes()[..CHECKSUM_BYTES].to_vec();
    out.extend_from_slice(value);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_written_is_there_after_a_restart() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("state");
        let store = HostStore::open(&path).unwrap();
        store
            .write(Part::Journal, [(b"a".to_vec(), Some(b"1".to_vec()))])
            .unwrap();
        store
            .write(
                Part::Journal,
                [(b"b".to_vec(), Some(b"2".to_vec())), (b"a".to_vec(), None)],
            )
            .unwrap();
        drop(store);
        let store = HostStore::open(&path).unwrap();
        assert_eq!(
            store.scan(Part::Journal).unwrap(),
            [(b"b".to_vec(), b"2".to_vec())]
        );
        assert_eq!(store.scan(Part::Outbox).unwrap(), []);
    }

    #[test]
    fn a_store_that_lost_its_rows_is_not_taken_for_an_empty_one() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("state");
        let store = HostStore::open(&path).unwrap();
        for n in 0..40u8 {
            let row = (vec![b'k', n], Some(vec![n; 2000]));
            store.write(Part::Journal, [row]).unwrap();
        }
        store.write(Part::Journal, [(vec![b'k', 7], None)]).unwrap();
        drop(store);
        let rows = HostStore::open(&path).unwrap().scan(Part::Journal).unwrap();
        assert_eq!(rows.len(), 39);
        let db = fs::read(path.join("db")).unwrap();
        let used: Vec<usize> = (0..db.len()).filter(|n| db[*n] != 0).collect();
        let mut refused = 0;
        for part in 0..20 {
            let mut wrong = db.clone();
            wrong[used[used.len() * part / 20]] ^= 0x5a;
            fs::write(path.join("db"), &wrong).unwrap();
            match HostStore::open(&path) {
                // What was flipped belonged to a row that was written over.
                Ok(store) => assert_eq!(store.scan(Part::Journal).unwrap(), rows, "part {part}"),
                Err(e) => {
                    assert!(e.to_string().contains("damaged"), "{e}");
                    refused += 1;
                }
            }
        }
        assert!(refused > 10, "only {refused} of 20 were refused");
    }

    #[test]
    fn a_store_that_was_closed_by_its_disk_is_opened_by_the_next_write() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("state");
        let store = HostStore::open(&path).unwrap();
        let row = |n: u8| [(vec![n], Some(vec![n; 3000]))];
        for n in 0..9 {
            store.write(Part::Journal, row(n)).unwrap();
        }
        drop(store.opened.write().unwrap().take());
        assert!(store.scan(Part::Journal).is_err());
        store.clone().write(Part::Journal, row(9)).unwrap();
        assert_eq!(store.scan(Part::Journal).unwrap().len(), 10);
        drop(store);
        let again = HostStore::open(&path).unwrap();
        assert_eq!(again.scan(Part::Journal).unwrap().len(), 10);
    }

    #[test]
    fn a_damaged_value_is_refused_with_what_to_do() {
        let dir = tempfile::tempdir().unwrap();
        let store = HostStore::open(dir.path()).unwrap();
        let spoil = |opened: &Opened| {
            let tree = opened.tree(Part::Incidents);
            tree.insert(b"k", b"no checksum here").unwrap();
        };
        store.with(spoil).unwrap();
        let error = store.scan(Part::Incidents).unwrap_err().to_string();
        assert!(
            error.contains("damaged") && error.contains("mv "),
            "{error}"
        );
    }

    #[test]
    fn a_power_loss_while_it_was_founded_is_no_newer_format() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("state");
        fs::create_dir(&path).unwrap();
        fs::write(path.join("FORMAT"), "").unwrap();
        drop(HostStore::open(&path).unwrap());
        assert_eq!(fs::read_to_string(path.join("FORMAT")).unwrap(), FORMAT);
        HostStore::open(&path).unwrap();
    }

    #[test]
    fn a_newer_format_is_not_touched() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("FORMAT"), "hale host state 9").unwrap();
        assert!(matches!(
            HostStore::open(dir.path()),
            Err(StoreError::Newer { .. })
        ));
    }
}
