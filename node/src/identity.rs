//! Who this node is, kept in its data directory: the Ed25519 key, the API's token, and the lock
//! that keeps a second node out. Wipe the directory and it is a new node.

use hale_model::Keypair;
use hale_model::crypto::CryptoError;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::net::SocketAddr;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// A node that was killed while it was starting a command leaves the lock to that process for the
/// moment between its fork and its exec; on a busy host that is no short one.
const LOCK_PATIENCE: Duration = Duration::from_secs(1);

/// Why the data directory can't be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum IdentityError {
    /// A file or the directory itself.
    #[error("{path} can't be used; give a directory of your own with --data-dir")]
    Io {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// Another node runs in it.
    #[error(
        "another node runs in {0}; `hale status` asks it, a second one needs its own --data-dir"
    )]
    InUse(PathBuf),
    /// The key file is no key.
    #[error(
        "{0} is not a node's key; restore it from a backup, or move it away to become a new node"
    )]
    BadKey(PathBuf),
    /// No randomness.
    #[error("no key could be made")]
    Key(#[source] CryptoError),
}

pub(crate) fn at(path: &Path) -> impl Fn(io::Error) -> IdentityError + '_ {
    move |source| IdentityError::Io {
        path: path.to_owned(),
        source,
    }
}

/// A node's data directory, locked.
pub(crate) struct DataDir {
    path: PathBuf,
    /// Held while the node runs.
    _lock: File,
}

impl DataDir {
    /// Opens it for this process alone, or makes it.
    pub(crate) fn open(path: &Path) -> Result<Self, IdentityError> {
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(path)
            .map_err(at(path))?;
        // Incidents and log lines are nobody else's business, also in a directory that was there.
        fs::set_permissions(path, fs::Permissions::from_mode(0o700)).map_err(at(path))?;
        let lock_path = path.join("lock");
        let lock = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .mode(0o600)
            .open(&lock_path)
            .map_err(at(&lock_path))?;
        let began = Instant::now();
        loop {
            match lock.try_lock() {
                Ok(()) => {
                    let path = path.to_owned();
                    return Ok(Self { path, _lock: lock });
                }
                Err(fs::TryLockError::WouldBlock) if began.elapsed() < LOCK_PATIENCE => {
                    std::thread::park_timeout(Duration::from_millis(20));
                }
                Err(fs::TryLockError::WouldBlock) => {
                    return Err(IdentityError::InUse(path.to_owned()));
                }
                Err(fs::TryLockError::Error(e)) => return Err(at(&lock_path)(e)),
            }
        }
    }

    /// A path in it.
    pub(crate) fn join(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    /// The node's key; made at the first start.
    pub(crate) fn key(&self) -> Result<Keypair, IdentityError> {
        let path = self.join("node.key");
        match fs::read(&path) {
            Ok(bytes) => <[u8; 32]>::try_from(bytes)
                .map(|seed| Keypair::from_seed(&seed))
                .map_err(|_| IdentityError::BadKey(path)),
            Err(e) if e.kind() == io::ErrorKind::NotFound => {
                let key = Keypair::generate().map_err(IdentityError::Key)?;
                write_private(&path, &key.seed())?;
                Ok(key)
            }
            Err(e) => Err(at(&path)(e)),
        }
    }

    /// The API's bearer token; made at the first start.
    pub(crate) fn token(&self) -> Result<String, IdentityError> {
        let path = self.join("api.token");
        match fs::read_to_string(&path) {
            Ok(text) if text.trim().len() >= 32 => Ok(text.trim().to_owned()),
            Ok(_) => Err(IdentityError::Io {
                path,
                source: io::Error::other(
                    "the token is shorter than 32 characters; delete the file for a new one",
                ),
            }),
            Err(e) if e.kind() == io::ErrorKind::NotFound => {
                let mut bytes = [0u8; 32];
                fill_random(&mut bytes)?;
                let token: String = bytes.iter().map(|b| format!("{b:02x}")).collect();
                write_private(&path, token.as_bytes())?;
                Ok(token)
            }
            Err(e) => Err(at(&path)(e)),
        }
    }

    /// Tells the CLI where the node answers.
    pub(crate) fn announce(&self, addr: SocketAddr, token: &str) -> Result<(), IdentityError> {
        let known = serde_json::json!({"addr": addr, "token": token});
        write_private(&self.join("api.json"), known.to_string().as_bytes())
    }

    /// The directory itself.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// The cluster's number, the same in all its frames; none if the node belongs to no cluster.
    pub(crate) fn cluster(&self) -> Result<Option<u64>, IdentityError> {
        let path = self.join("cluster.id");
        match fs::read_to_string(&path) {
            Ok(text) => u64::from_str_radix(text.trim(), 16)
                .map(Some)
                .map_err(|e| at(&path)(io::Error::other(format!("it is no cluster id: {e}")))),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(e) => Err(at(&path)(e)),
        }
    }

    /// Settles which cluster the node belongs to.
    pub(crate) fn set_cluster(&self, id: u64) -> Result<(), IdentityError> {
        write_private(&self.join("cluster.id"), format!("{id:016x}\n").as_bytes())
    }

    /// The number of the cluster that this node founds; made if there is none yet.
    pub(crate) fn found_cluster(&self) -> Result<u64, IdentityError> {
        if let Some(id) = self.cluster()? {
            return Ok(id);
        }
        let mut bytes = [0u8; 8];
        fill_random(&mut bytes)?;
        let id = u64::from_be_bytes(bytes);
        self.set_cluster(id)?;
        Ok(id)
    }

    /// The number of this life of the node: later than all before, whatever the clock says. Only one
    /// that nobody believed is not gone on from, since nobody would believe the next.
    pub(crate) fn next_life(&self, now_ms: u64) -> Result<u64, IdentityError> {
        let path = self.join("life");
        let last = fs::read_to_string(&path).ok();
        let last: Option<u64> = last.and_then(|t| t.trim().parse().ok());
        let is_believed = |life: &u64| *life < hale_membership::latest_life(now_ms);
        let last = last.filter(is_believed).unwrap_or(0);
        let life = now_ms.max(last.saturating_add(1));
        write_private(&path, format!("{life}\n").as_bytes())?;
        Ok(life)
    }
}

/// Randomness of the system's.
pub(crate) fn fill_random(bytes: &mut [u8]) -> Result<(), IdentityError> {
    getrandom::fill(bytes).map_err(|e| IdentityError::Key(CryptoError::NoEntropy(e.to_string())))
}

/// Writes a file that only its owner reads, whole or not at all.
pub(crate) fn write_private(path: &Path, bytes: &[u8]) -> Result<(), IdentityError> {
    let new = path.with_extension("new");
    let mut file = OpenOptions::new()
        .create(true)
        .truncate(true)
        .write(true)
        .mode(0o600)
        .open(&new)
        .map_err(at(&new))?;
    file.write_all(bytes)
        .and_then(|()| file.sync_all())
        .map_err(at(&new))?;
    fs::rename(&new, path).map_err(at(path))?;
    let parent = path.parent().unwrap_or(Path::new("."));
    File::open(parent)
        .and_then(|d| d.sync_all())
        .map_err(at(parent))
}

/// Where a node keeps its state unless told otherwise: `/var/lib/hale` for root, a directory of
/// the user's own else.
pub(crate) fn default_data_dir() -> PathBuf {
    if rustix::process::geteuid().is_root() {
        return PathBuf::from("/var/lib/hale");
    }
    std::env::var_os("XDG_DATA_HOME")
        .map(PathBuf::from)
        .or_else(|| std::env::var_os("HOME").map(|h| PathBuf::from(h).join(".local/share")))
        .unwrap_or_else(std::env::temp_dir)
        .join("hale")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_keeps_its_key_and_token_and_keeps_others_out() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("data");
        let data = DataDir::open(&path).unwrap();
        let (id, token) = (data.key().unwrap().node_id(), data.token().unwrap());
        assert!(matches!(DataDir::open(&path), Err(IdentityError::InUse(_))));
        assert_eq!(data.cluster().unwrap(), None);
        let cluster = data.found_cluster().unwrap();
        let life = data.next_life(5).unwrap();
        drop(data);
        let data = DataDir::open(&path).unwrap();
        assert_eq!(
            (data.key().unwrap().node_id(), data.token().unwrap()),
            (id, token)
        );
        assert_eq!(data.found_cluster().unwrap(), cluster);
        assert!(data.next_life(3).unwrap() > life);
        fs::write(path.join("life"), format!("{}\n", u64::MAX)).unwrap();
        assert_eq!(data.next_life(9).unwrap(), 9, "nobody believed it");
        let mode =
            std::os::unix::fs::MetadataExt::mode(&fs::metadata(path.join("node.key")).unwrap());
        assert_eq!(mode & 0o777, 0o600);
    }

    #[test]
    fn a_lock_that_a_dying_process_still_holds_is_waited_for() {
        let dir = tempfile::tempdir().unwrap();
        let held = DataDir::open(dir.path()).unwrap();
        let later = std::thread::spawn({
            let path = dir.path().to_owned();
            move || DataDir::open(&path).is_ok()
        });
        std::thread::park_timeout(Duration::from_millis(50));
        drop(held);
        assert!(later.join().unwrap());
    }

    #[test]
    fn a_damaged_key_is_never_replaced_silently() {
        let dir = tempfile::tempdir().unwrap();
        let data = DataDir::open(dir.path()).unwrap();
        fs::write(data.join("node.key"), b"short").unwrap();
        assert!(matches!(data.key(), Err(IdentityError::BadKey(_))));
    }
}
