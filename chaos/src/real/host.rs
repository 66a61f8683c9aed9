//! A host: a `hale` process with a directory, a disk, a clock, an address and a configuration of its
//! own.

use super::RealError;
use super::caps::Cap;
use super::clock::Clock;
use super::disk::Disk;
use super::syscalls::{Injected, Syncs};
use std::fs::{self, File};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

/// One host.
#[derive(Debug)]
pub(super) struct Host {
    pub(super) name: String,
    /// Where it answers over HTTP, and where over QUIC.
    pub(super) addr: SocketAddr,
    pub(super) dir: PathBuf,
    pub(super) namespace: Option<String>,
    pub(super) hale: PathBuf,
    /// How it joins: the others' addresses and a token. The first one founds.
    pub(super) join: Option<(Vec<String>, String)>,
    pub(super) disk: Result<Disk, String>,
    /// Whether its disk has to be mounted anew.
    disk_is_lost: bool,
    pub(super) clock: Option<Clock>,
    child: Option<Child>,
    is_stopped: bool,
    /// What is done to it while a fault lasts.
    injected: Option<Injected>,
    cap: Option<Cap>,
}

impl Host {
    /// One that does not run yet, with a disk of its own where that can be made.
    pub(super) fn make(
        dir: &Path,
        name: String,
        addr: SocketAddr,
        namespace: Option<String>,
        hale: &Path,
    ) -> Result<Self, RealError> {
        let disk = Disk::make(
            dir.join(format!("{name}.ext4")),
            dir.join(format!("{name}-disk")),
        );
        let host = Self {
            disk,
            clock: Clock::make(dir.join(format!("{name}.clock"))),
            dir: dir.to_owned(),
            namespace,
            hale: hale.to_owned(),
            join: None,
            child: None,
            is_stopped: false,
            disk_is_lost: false,
            injected: None,
            cap: None,
            name,
            addr,
        };
        let (path, text) = (host.file("toml"), host.configuration());
        let what = format!("{} can't be written", path.display());
        fs::write(&path, text).map_err(RealError::io(what))?;
        Ok(host)
    }

    fn file(&self, kind: &str) -> PathBuf {
        self.dir.join(format!("{}.{kind}", self.name))
    }

    /// Its data directory.
    pub(super) fn data(&self) -> PathBuf {
        self.dir.join(format!("{}-disk", self.name)).join("data")
    }

    /// Where its output goes.
    pub(super) fn log(&self) -> PathBuf {
        self.file("log")
    }

    fn configuration(&self) -> String {
        let Self { name, addr, .. } = self;
        let (data, directory) = (self.data(), self.dir.join("playbooks"));
        let library = hale_playbooks::load_all(hale_playbooks::library()).unwrap_or_default();
        let disabled: Vec<String> = library.iter().map(|p| p.name.to_string()).collect();
        // Only what is provoked shall happen: the machine is not watched.
        let quiet = ["system.*", "process.*"]
            .map(|s| format!("[[baseline.overrides]]\nseries = {s:?}\nignore = true\n"))
            .concat();
        format!(
            "[node]\nhost = {name:?}\nenvironment = \"chaos\"\ndata_dir = {data:?}\n\
             listen = \"{addr}\"\n\n[cluster]\nbind = \"{addr}\"\njoin_timeout = \"60s\"\n\n\
             [telemetry]\ninterval = \"2s\"\n\n[executor]\nlease_ttl = \"3s\"\n\n\
             [playbooks]\ndirectory = {directory:?}\ndisabled = {disabled:?}\n\n{quiet}"
        )
    }

    /// A command of `hale` on this host.
    pub(super) fn hale(&self, args: &[&str]) -> Command {
        let mut command = match &self.namespace {
            None => Command::new(&self.hale),
            Some(namespace) => {
                // Not `ip netns exec`: each of those would keep every disk mounted that it found.
                let mut command = Command::new("nsenter");
                command.arg(format!("--net=/run/netns/{namespace}"));
                command.arg(&self.hale);
                command
            }
        };
        // Nothing of the caller's own settings.
        for (name, _) in std::env::vars_os() {
            if name.to_string_lossy().starts_with("HALE_") {
                command.env_remove(name);
            }
        }
        command.args(args).arg("--config").arg(self.file("toml"));
        command.stdin(Stdio::null());
        if let Some(clock) = &self.clock {
            clock.give(&mut command);
        }
        command
    }

    /// Starts it, if it does not run.
    pub(super) fn start(&mut self) -> Result<(), RealError> {
        if self.is_running() {
            return Ok(());
        }
        let mut args = vec!["node"];
        if let Some((seeds, token)) = &self.join {
            args = vec!["join"];
            args.extend(seeds.iter().map(String::as_str));
            args.extend(["--token", token]);
        }
        let log = File::options().create(true).append(true).open(self.log());
        let log = log.and_then(|log| Ok((log.try_clone()?, log)));
        let (one, two) = log.map_err(RealError::io("the log can't be written"))?;
        let spawned = self.hale(&args).stdout(one).stderr(two).spawn();
        let what = format!("{} can't be run", self.hale.display());
        self.child = Some(spawned.map_err(RealError::io(what))?);
        Ok(())
    }

    pub(super) fn is_running(&mut self) -> bool {
        self.child
            .as_mut()
            .is_some_and(|c| matches!(c.try_wait(), Ok(None)))
    }

    fn pid(&self) -> Result<i32, String> {
        let child = self.child.as_ref().ok_or("it does not run")?;
        i32::try_from(child.id()).map_err(|e| e.to_string())
    }

    pub(super) fn signal(&self, signal: rustix::process::Signal) {
        if let Some(child) = &self.child {
            // It may have ended by itself.
            let _ = rustix::process::kill_process(rustix::process::Pid::from_child(child), signal);
        }
    }

    /// SIGSTOP, until it goes on.
    pub(super) fn stop(&mut self) {
        self.signal(rustix::process::Signal::STOP);
        self.is_stopped = true;
    }

    fn own_disk(&mut self) -> Result<&mut Disk, String> {
        self.disk.as_mut().map_err(|why| why.clone())
    }

    /// Its disk has no room.
    pub(super) fn fill_disk(&mut self) -> Result<(), String> {
        self.own_disk()?.fill()
    }

    /// Its disk answers nothing.
    pub(super) fn freeze_disk(&mut self) -> Result<(), String> {
        self.own_disk()?.freeze()
    }

    /// Its disk fails every access, and what was not synced is lost.
    pub(super) fn fail_disk(&mut self) -> Result<(), String> {
        self.own_disk()?.fail()?;
        self.disk_is_lost = true;
        Ok(())
    }

    /// It starts on a disk that can only be read.
    pub(super) fn start_read_only(&mut self) -> Result<(), String> {
        self.own_disk()?;
        self.kill();
        self.disk_is_lost = true;
        self.own_disk()?.mount_anew(false)?;
        self.start().map_err(|e| e.to_string())
    }

    /// All that it kept is gone. It must not run.
    pub(super) fn lose_everything(&mut self) -> Result<(), String> {
        let data = self.data();
        match &mut self.disk {
            Ok(disk) => disk.wipe(),
            Err(_) => fs::remove_dir_all(&data).map_err(|e| format!("{}: {e}", data.display())),
        }
    }

    /// Gives it its disk back if it was taken: it is killed for that.
    pub(super) fn repair_disk(&mut self) -> Result<(), String> {
        if std::mem::take(&mut self.disk_is_lost) {
            self.kill();
            self.own_disk()?.mount_anew(true)?;
        }
        Ok(())
    }

    /// From now on every sync of it fails or is late.
    pub(super) fn inject(&mut self, what: Syncs) -> Result<(), String> {
        self.injected = Some(Injected::into(self.pid()?, what)?);
        Ok(())
    }

    /// It gets so many thousandths of a core.
    pub(super) fn cap_cpu(&mut self, thousandths: u64) -> Result<(), String> {
        self.cap = Some(Cap::cpu(self.pid()?, thousandths)?);
        Ok(())
    }

    /// It gets so many bytes of memory on top of what it has.
    pub(super) fn cap_memory(&mut self, bytes: u64) -> Result<(), String> {
        self.cap = Some(Cap::memory(self.pid()?, bytes)?);
        Ok(())
    }

    /// Undoes what was done to the process, its clock and its disk.
    pub(super) fn go_on(&mut self) {
        self.injected = None;
        self.cap = None;
        if let Some(clock) = &self.clock {
            // It is in this program's own directory.
            let _ = clock.set(0);
        }
        if let Ok(disk) = &mut self.disk {
            disk.recover();
        }
        if std::mem::take(&mut self.is_stopped) {
            self.signal(rustix::process::Signal::CONT);
        }
    }

    /// SIGKILL.
    pub(super) fn kill(&mut self) {
        // What holds on to the process lets go first.
        self.injected = None;
        if let Some(mut child) = self.child.take() {
            // It may have ended by itself.
            let _ = child.kill();
            let _ = child.wait();
        }
        self.cap = None;
        self.is_stopped = false;
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        self.go_on();
        self.kill();
    }
}
