//! What the tests of running nodes share: a chain in a file, a node, commands to give it.

#![allow(
    dead_code,
    unreachable_pub,
    clippy::unwrap_used,
    reason = "each test binary uses its own part of this"
)]

use hale_consensus::{ChainStore, Config, Consensus, NoPeers};
use hale_model::chain::Entry;
use hale_model::ledger::{
    Acquire, Answer, Command, Disposition, EntryKind, EntryRef, Scope, Signed,
};
use hale_model::{
    Digest, ExecutionId, Fence, HostName, Keypair, OutcomeStatus, PlaybookName, canonical,
};
use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::ops::Range;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// Entries in one file, each behind its length. What a crash cut short is dropped.
pub struct FileChain(Mutex<(File, Vec<Entry>)>);

impl FileChain {
    pub fn open(path: &Path) -> Self {
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(path)
            .unwrap();
        let mut bytes = vec![];
        file.read_to_end(&mut bytes).unwrap();
        let (mut entries, mut rest, mut whole) = (vec![], &bytes[..], 0);
        while let Some((len, tail)) = rest.split_first_chunk::<4>() {
            let Some((entry, tail)) = tail.split_at_checked(u32::from_be_bytes(*len) as usize)
            else {
                break;
            };
            entries.push(Entry::from_bytes(entry).unwrap());
            whole += 4 + entry.len() as u64;
            rest = tail;
        }
        file.set_len(whole).unwrap();
        io::Seek::seek(&mut file, io::SeekFrom::End(0)).unwrap();
        Self(Mutex::new((file, entries)))
    }
}

impl ChainStore for FileChain {
    fn append(&self, new: &[Entry]) -> io::Result<()> {
        let (file, entries) = &mut *self.0.lock().unwrap();
        let mut bytes = vec![];
        for entry in new {
            let entry = entry.to_bytes();
            bytes.extend((entry.len() as u32).to_be_bytes());
            bytes.extend(entry);
        }
        let before = io::Seek::stream_position(file)?;
        if let Err(e) = file.write_all(&bytes) {
            file.set_len(before)?;
            io::Seek::seek(file, io::SeekFrom::Start(before))?;
            return Err(e);
        }
        entries.extend_from_slice(new);
        Ok(())
    }

    fn sync(&self) -> io::Result<()> {
        self.0.lock().unwrap().0.sync_data()
    }

    fn len(&self) -> u64 {
        self.0.lock().unwrap().1.len() as u64
    }

    fn tip(&self) -> Digest {
        self.0
            .lock()
            .unwrap()
            .1
            .last()
            .map_or(Digest::ZERO, Entry::hash)
    }

    fn read(&self, range: Range<u64>) -> io::Result<Vec<Entry>> {
        let entries = &self.0.lock().unwrap().1;
        let end = range.end.min(entries.len() as u64);
        Ok(entries[range.start.min(end) as usize..end as usize].to_vec())
    }

    fn truncate_to(&self, len: u64) -> io::Result<()> {
        let (file, entries) = &mut *self.0.lock().unwrap();
        entries.truncate(len as usize);
        let whole: u64 = entries.iter().map(|e| 4 + e.to_bytes().len() as u64).sum();
        file.set_len(whole)?;
        io::Seek::seek(file, io::SeekFrom::End(0)).map(drop)
    }
}

pub fn key(n: u8) -> Keypair {
    Keypair::from_seed(&[n + 1; 32])
}

pub fn config(dir: &Path, n: u8) -> Config {
    let host = HostName::new(format!("host-{n}")).unwrap();
    let mut config = Config::new(dir.join("ledger"), key(n), 7, host);
    config.reserve_bytes = 0;
    config
}

/// A node of a group of one in `dir`, founded if it is new.
pub async fn node(dir: &Path) -> Consensus {
    let chain = Arc::new(FileChain::open(&dir.join("chain")));
    let node = Consensus::start(config(dir, 0), chain, Arc::new(NoPeers))
        .await
        .unwrap();
    if !node.is_founded() {
        node.found().await.unwrap();
    }
    node
}

pub fn signed(kind: EntryKind, by: u8, what: &str) -> Signed {
    let body = canonical::to_bytes(&serde_json::json!({ "what": what })).unwrap();
    Signed::new(kind, body, &key(by))
}

pub fn acquire(by: u8, scope: &str, run: &str) -> Acquire {
    Acquire {
        scope: Scope::Custom(scope.into()),
        holder: key(by).node_id(),
        ttl_ms: 1_000,
        execution: ExecutionId::new(run).unwrap(),
        plan_digest: Digest::of(b"plan"),
        playbook: PlaybookName::new("restart").unwrap(),
        service: None,
        approval: None,
        entry: signed(EntryKind::Intent, by, run),
    }
}

pub fn close(by: u8, fence: Fence, what: &str) -> Command {
    Command::Close {
        fence,
        holder: key(by).node_id(),
        disposition: Disposition::Done,
        outcome: OutcomeStatus::Success,
        entry: signed(EntryKind::Record, by, what),
    }
}

pub fn append(by: u8, what: &str) -> Command {
    Command::Append {
        entry: signed(EntryKind::Record, by, what),
    }
}

pub async fn written(node: &Consensus, command: Command) -> EntryRef {
    match node.propose(command).await.unwrap() {
        Answer::Done { entry: Some(entry) } => entry,
        other => panic!("not written: {other:?}"),
    }
}

/// Checks each link and signature; gives the bodies.
pub fn verified(chain: &dyn ChainStore) -> Vec<String> {
    let (mut bodies, mut tip) = (vec![], Digest::ZERO);
    for (n, entry) in chain.read(0..chain.len()).unwrap().into_iter().enumerate() {
        entry.follows(n as u64, tip).unwrap();
        tip = entry.hash();
        bodies.push(String::from_utf8(entry.body).unwrap());
    }
    bodies
}

/// Waits until it holds, at most 20 s.
pub async fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let began = Instant::now();
    while !holds() {
        assert!(began.elapsed() < Duration::from_secs(20), "in vain: {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}
