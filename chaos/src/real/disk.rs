//! A disk for each host: an ext4 file system of its own in a file, that can be filled, frozen, made
//! to fail and robbed of what was not synced.

use super::RealError;
use super::tool::{found, run};
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

/// How large it is, in bytes; the file is sparse.
const SIZE: u64 = 2 << 30;
/// After this many seconds a frozen disk is thawed even if this program is no more.
const LONGEST_FREEZE: u32 = 30;

/// A mounted disk. It is unmounted when dropped.
#[derive(Debug)]
pub(super) struct Disk {
    image: PathBuf,
    at: PathBuf,
    is_frozen: bool,
}

/// A directory below which disks are mounted, so that a disk that is unmounted is unmounted everywhere:
/// processes with mounts of their own, such as those of `ip netns exec`, would keep a copy of it, and
/// it could not be mounted anew. Taken away when dropped.
#[derive(Debug)]
pub(super) struct Shared(PathBuf);

impl Shared {
    /// Makes a directory one; where that can't be done no disk can be mounted either.
    pub(super) fn make(dir: &Path) -> Option<Self> {
        let at = text(dir);
        run("mount", &["--bind", &at, &at]).ok()?;
        let this = Self(dir.to_owned());
        run("mount", &["--make-shared", &at]).ok()?;
        Some(this)
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        // Lazily, as the disks below it.
        let _ = run("umount", &["-l", &text(&self.0)]);
    }
}

/// What a power loss takes; without it a disk can only be filled and frozen.
const SHUTDOWN: &str = "xfs_io";

impl Disk {
    /// Makes one and mounts it; or why that can't be done here.
    pub(super) fn make(image: PathBuf, at: PathBuf) -> Result<Self, String> {
        for (program, package) in [
            ("mkfs.ext4", "e2fsprogs"),
            ("mount", "mount"),
            (SHUTDOWN, "xfsprogs"),
        ] {
            if !found(program) {
                return Err(format!("`{program}` is not installed (Debian: {package})"));
            }
        }
        let file = File::create(&image).and_then(|f| f.set_len(SIZE));
        file.map_err(|e| format!("{}: {e}", image.display()))?;
        fs::create_dir_all(&at).map_err(|e| format!("{}: {e}", at.display()))?;
        run("mkfs.ext4", &["-q", "-F", &text(&image)])?;
        let this = Self {
            image,
            at,
            is_frozen: false,
        };
        this.mount("noatime")?;
        Ok(this)
    }

    fn mount(&self, how: &str) -> Result<(), String> {
        let options = format!("loop,{how}");
        let args = ["-o", &options, &text(&self.image), &text(&self.at)];
        // The system may still be letting go of what was mounted there.
        patiently(|| run("mount", &args))
    }

    fn unmount(&self) -> Result<(), String> {
        // A child of a host may have to end first.
        patiently(|| match self.is_mounted() {
            true => run("umount", &[&text(&self.at)]),
            false => Ok(()),
        })
    }

    fn is_mounted(&self) -> bool {
        let mounts = fs::read_to_string("/proc/self/mounts").unwrap_or_default();
        let at = text(&self.at);
        mounts.lines().any(|l| l.split(' ').nth(1) == Some(&at))
    }

    fn ballast(&self) -> PathBuf {
        self.at.join("ballast")
    }

    /// Takes all its room.
    pub(super) fn fill(&self) -> Result<(), String> {
        let told = |e: std::io::Error| format!("{}: {e}", self.at.display());
        let file = File::create(self.ballast()).map_err(told)?;
        // In ever smaller pieces, down to a block.
        let (mut end, mut piece) = (0, SIZE / 2);
        while piece >= 4096 {
            let flags = rustix::fs::FallocateFlags::empty();
            match rustix::fs::fallocate(&file, flags, end, piece) {
                Ok(()) => end += piece,
                Err(_) => piece /= 2,
            }
        }
        Ok(())
    }

    /// Stops every write until it is thawed.
    pub(super) fn freeze(&mut self) -> Result<(), String> {
        let at = text(&self.at);
        // Should this program die meanwhile, nobody must wait for the disk for ever.
        let guard = format!("sleep {LONGEST_FREEZE}; fsfreeze -u \"$0\" 2>/dev/null");
        let mut sh = Command::new("sh");
        sh.args(["-c", &guard, &at]);
        sh.stdin(Stdio::null()).stdout(Stdio::null());
        let spawned = sh.stderr(Stdio::null()).spawn();
        spawned.map_err(|e| format!("sh: {e}"))?;
        run("fsfreeze", &["-f", &at])?;
        self.is_frozen = true;
        Ok(())
    }

    /// From now on every access fails, and what was not synced is lost, until it is mounted anew.
    pub(super) fn fail(&self) -> Result<(), String> {
        run(SHUTDOWN, &["-x", "-c", "shutdown", &text(&self.at)])
    }

    /// Mounts it anew, for writing or not: nobody may have files open on it.
    pub(super) fn mount_anew(&self, writable: bool) -> Result<(), String> {
        self.unmount()?;
        self.mount(if writable { "noatime" } else { "noatime,ro" })
    }

    /// Makes it empty.
    pub(super) fn wipe(&self) -> Result<(), String> {
        self.unmount()?;
        run("mkfs.ext4", &["-q", "-F", &text(&self.image)])?;
        self.mount("noatime")
    }

    /// There is room again, and it answers.
    pub(super) fn recover(&mut self) {
        if std::mem::take(&mut self.is_frozen) {
            // The guard may have been first.
            let _ = run("fsfreeze", &["-u", &text(&self.at)]);
        }
        let _ = fs::remove_file(self.ballast());
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        self.recover();
        // Lazily: a child of a host may have a file open still.
        let _ = run("umount", &["-l", &text(&self.at)]);
    }
}

/// Unmounts what processes left that were killed: disks below directories of theirs.
pub(super) fn sweep() {
    let mounts = fs::read_to_string("/proc/self/mounts").unwrap_or_default();
    for at in mounts.lines().filter_map(|l| l.split(' ').nth(1)) {
        let pid = at.split("hale-chaos-").nth(1);
        let pid = pid.and_then(|rest| rest.split('/').next()?.parse::<u32>().ok());
        if pid.is_some_and(|pid| !Path::new(&format!("/proc/{pid}")).exists()) {
            let _ = run("umount", &["-l", at]);
        }
    }
}

/// Tries for ten seconds, and gives what came of the last time.
#[allow(
    clippy::disallowed_methods,
    reason = "nothing else can be done meanwhile, and the clients have a worker of their own"
)]
fn patiently(mut act: impl FnMut() -> Result<(), String>) -> Result<(), String> {
    let mut done = act();
    for _ in 0..100 {
        if done.is_ok() {
            break;
        }
        std::thread::sleep(Duration::from_millis(100));
        done = act();
    }
    done
}

fn text(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}

impl From<String> for RealError {
    fn from(why: String) -> Self {
        Self::NotReady(why)
    }
}
