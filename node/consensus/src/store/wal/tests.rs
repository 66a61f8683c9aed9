use super::*;
use proptest::prelude::*;
use std::collections::BTreeMap;
use std::fs;

fn id(index: u64) -> WalId {
    WalId {
        term: 1,
        node: 1,
        index,
    }
}

fn entry(index: u64, bytes: usize) -> (WalId, Vec<u8>) {
    let payload = (0..bytes).map(|n| (index as usize * 31 + n) as u8);
    (id(index), payload.collect())
}

fn indexes(wal: &Wal) -> Vec<u64> {
    let all = wal.read(0, u64::MAX, usize::MAX).unwrap();
    for (id, payload) in &all {
        assert_eq!(**payload, entry(id.index, payload.len()).1);
    }
    all.iter().map(|(id, _)| id.index).collect()
}

fn files(dir: &Path) -> Vec<PathBuf> {
    let files = fs::read_dir(dir).unwrap().map(|f| f.unwrap().path());
    let mut files: Vec<_> = files
        .filter(|f| f.extension().is_some_and(|e| e == "wal"))
        .collect();
    files.sort();
    files
}

#[test]
fn what_was_written_is_there_again() {
    let dir = tempfile::tempdir().unwrap();
    let vote = WalVote {
        term: 4,
        node: 2,
        committed: true,
    };
    {
        let wal = Wal::open(dir.path()).unwrap();
        assert_eq!((wal.last(), wal.vote()), (None, None));
        wal.append((0..9).map(|n| entry(n, 100)).collect()).unwrap();
        wal.save_vote(vote).unwrap();
        wal.commit(id(6)).unwrap();
        wal.sync_and_wait().unwrap();
        wal.truncate(8).unwrap();
        wal.purge(id(2)).unwrap();
        assert_eq!(indexes(&wal), [3, 4, 5, 6, 7]);
    }
    for _ in 0..3 {
        let wal = Wal::open(dir.path()).unwrap();
        assert_eq!(indexes(&wal), [3, 4, 5, 6, 7]);
        assert_eq!(wal.vote(), Some(vote));
        assert_eq!(wal.committed(), Some(id(6)));
        assert_eq!((wal.purged(), wal.last()), (Some(id(2)), Some(id(7))));
    }
    // Nothing was said: no file was made.
    assert_eq!(files(dir.path()).len(), 1);
}

#[test]
fn an_entry_that_does_not_follow_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let wal = Wal::open(dir.path()).unwrap();
    wal.append(vec![entry(0, 1)]).unwrap();
    assert!(wal.append(vec![entry(2, 1)]).is_err());
    assert!(wal.append(vec![entry(0, 1)]).is_err());
    wal.append(vec![entry(1, 1)]).unwrap();
}

#[test]
fn purged_segments_go_and_the_rest_is_found_wherever_it_is() {
    let dir = tempfile::tempdir().unwrap();
    let wal = Wal::open(dir.path()).unwrap();
    for n in 0..48 {
        wal.append(vec![entry(n, 1 << 20)]).unwrap();
        wal.sync_and_wait().unwrap();
    }
    let count = files(dir.path()).len();
    assert!(count >= 6, "{count} segments");
    assert_eq!(indexes(&wal).len(), 48);
    let some = wal.read(3, 40, 2 << 20).unwrap();
    assert_eq!(
        some.iter().map(|(id, _)| id.index).collect::<Vec<_>>(),
        [3, 4]
    );
    wal.purge(id(30)).unwrap();
    wal.sync_and_wait().unwrap();
    wal.append(vec![entry(48, 10)]).unwrap();
    wal.sync_and_wait().unwrap();
    assert!(files(dir.path()).len() <= count - 2);
    drop(wal);
    let wal = Wal::open(dir.path()).unwrap();
    assert_eq!(indexes(&wal), (31..49).collect::<Vec<_>>());
    // All of it purged, and beyond: what it says of itself stays.
    wal.purge(id(100)).unwrap();
    wal.sync_and_wait().unwrap();
    drop(wal);
    for _ in 0..3 {
        let wal = Wal::open(dir.path()).unwrap();
        assert_eq!((wal.purged(), wal.last()), (Some(id(100)), Some(id(100))));
    }
    assert!(files(dir.path()).len() <= 2);
}

#[test]
fn a_segment_that_can_not_be_deleted_leaves_no_gap_behind_it() {
    let dir = tempfile::tempdir().unwrap();
    let wal = Wal::open(dir.path()).unwrap();
    for n in 0..40 {
        wal.append(vec![entry(n, 1 << 20)]).unwrap();
        wal.sync_and_wait().unwrap();
    }
    // A file that is not there can't be deleted.
    let (second, aside) = (writer::path(dir.path(), 2), dir.path().join("aside"));
    fs::rename(&second, &aside).unwrap();
    for upto in [20, 35] {
        wal.purge(id(upto)).unwrap();
        wal.sync_and_wait().unwrap();
    }
    fs::rename(&aside, &second).unwrap();
    drop(wal);
    let wal = Wal::open(dir.path()).unwrap();
    assert_eq!(indexes(&wal), (36..40).collect::<Vec<_>>());
}

#[test]
fn a_directory_is_open_once() {
    let dir = tempfile::tempdir().unwrap();
    let wal = Wal::open(dir.path()).unwrap();
    assert!(matches!(Wal::open(dir.path()), Err(OpenError::InUse)));
    wal.close();
    assert!(wal.append(vec![entry(0, 1)]).is_err());
    Wal::open(dir.path()).unwrap();
}

#[test]
fn a_segment_that_is_missing_is_damage() {
    let dir = tempfile::tempdir().unwrap();
    {
        let wal = Wal::open(dir.path()).unwrap();
        for n in 0..30 {
            wal.append(vec![entry(n, 1 << 20)]).unwrap();
            wal.sync_and_wait().unwrap();
        }
    }
    let files = files(dir.path());
    assert!(files.len() >= 3);
    for file in &files[..files.len() - 1] {
        let bytes = fs::read(file).unwrap();
        fs::remove_file(file).unwrap();
        let opened = Wal::open(dir.path());
        assert!(matches!(opened, Err(OpenError::Damaged(..))), "{file:?}");
        drop(opened);
        fs::write(file, bytes).unwrap();
    }
    Wal::open(dir.path()).unwrap();
}

#[test]
fn who_waits_when_the_disk_fails_is_told_and_nothing_is_taken_afterwards() {
    let dir = tempfile::tempdir().unwrap();
    let log = dir.path().join("log");
    fs::create_dir(&log).unwrap();
    let wal = Wal::open(&log).unwrap();
    fs::remove_dir_all(&log).unwrap();
    wal.append(vec![entry(0, 10)]).unwrap();
    let failed = wal.sync_and_wait().unwrap_err();
    assert_eq!(failed.kind(), io::ErrorKind::NotFound);
    assert!(wal.append(vec![entry(1, 10)]).is_err());
    assert!(wal.sync_and_wait().is_err());
}

#[derive(Debug, Clone)]
enum Step {
    Append(usize, usize),
    Truncate(u64),
    Purge(u64),
    Vote(u64),
    Sync,
    Reopen,
    /// A crash: of what was not synced, so many bytes of each hundred are there.
    Crash(usize),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        4 => (1..5usize, 0..3000usize).prop_map(|(n, bytes)| Step::Append(n, bytes)),
        1 => (0..8u64).prop_map(Step::Truncate),
        1 => (0..8u64).prop_map(Step::Purge),
        1 => any::<u64>().prop_map(Step::Vote),
        3 => Just(Step::Sync),
        1 => Just(Step::Reopen),
        2 => (0..100usize).prop_map(Step::Crash),
    ];
    prop::collection::vec(step, 1..40)
}

#[derive(Debug, Clone, Default, PartialEq)]
struct Model {
    entries: BTreeMap<u64, usize>,
    purged: Option<u64>,
    vote: Option<u64>,
}

impl Model {
    fn end(&self) -> u64 {
        let last = self
            .entries
            .last_key_value()
            .map(|(n, _)| *n)
            .or(self.purged);
        last.map_or(0, |n| n + 1)
    }

    fn of(wal: &Wal) -> Self {
        indexes(wal);
        let entries = wal.read(0, u64::MAX, usize::MAX).unwrap();
        Self {
            entries: entries.iter().map(|(id, p)| (id.index, p.len())).collect(),
            purged: wal.purged().map(|p| p.index),
            vote: wal.vote().map(|v| v.term),
        }
    }
}

/// The files as a crash might leave them: what was written since the last sync is there in part.
fn crash(dir: &Path, synced: &BTreeMap<PathBuf, Vec<u8>>, part: usize) {
    // Nothing is deleted before what makes it superfluous is synced.
    for (file, bytes) in synced {
        if !file.exists() {
            fs::write(file, bytes).unwrap();
        }
    }
    for file in files(dir) {
        let now = fs::read(&file).unwrap();
        let before = synced.get(&file).cloned().unwrap_or_default();
        let changed: Vec<usize> = (0..now.len())
            .filter(|n| before.get(*n).copied().unwrap_or(0) != now[*n])
            .collect();
        let keep = changed.len() * part / 100;
        let mut then = now.clone();
        for at in &changed[keep..] {
            then[*at] = before.get(*at).copied().unwrap_or(0);
        }
        fs::write(&file, then).unwrap();
    }
}

fn contents(dir: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    files(dir)
        .into_iter()
        // Segments that are not needed any more go a moment after who waited was told, the oldest
        // first: read from the newest on, what is found has no gap.
        .rev()
        .filter_map(|f| Some((f.clone(), fs::read(f).ok()?)))
        .collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 60, ..ProptestConfig::default() })]

    /// After a crash the log holds what was synced, and of what came later either a beginning or
    /// nothing.
    #[test]
    fn a_log_is_what_was_said_of_it(steps in steps()) {
        let dir = tempfile::tempdir().unwrap();
        let mut wal = Some(Wal::open(dir.path()).unwrap());
        // All that the log may be after a crash: as synced, or as after each sync that was asked.
        let (mut model, mut synced) = (Model::default(), Model::default());
        let mut on_disk = contents(dir.path());
        for step in steps {
            let log = wal.as_ref().unwrap();
            match step {
                Step::Append(count, bytes) => {
                    let from = model.end();
                    let new = (from..from + count as u64).map(|n| entry(n, bytes));
                    log.append(new.collect()).unwrap();
                    model.entries.extend((from..from + count as u64).map(|n| (n, bytes)));
                }
                Step::Truncate(back) => {
                    let from = model.end().saturating_sub(back);
                    log.truncate(from).unwrap();
                    model.entries.retain(|n, _| *n < from);
                }
                Step::Purge(back) => {
                    let upto = model.end().saturating_sub(back);
                    log.purge(id(upto)).unwrap();
                    model.purged = model.purged.max(Some(upto));
                    model.entries.retain(|n, _| Some(*n) > model.purged);
                }
                Step::Vote(term) => {
                    log.save_vote(WalVote { term, node: 1, committed: false }).unwrap();
                    model.vote = Some(term);
                }
                Step::Sync => {
                    log.sync_and_wait().unwrap();
                    synced = model.clone();
                    on_disk = contents(dir.path());
                }
                Step::Reopen => {
                    drop(wal.take());
                    wal = Some(Wal::open(dir.path()).unwrap());
                    synced = model.clone();
                    on_disk = contents(dir.path());
                }
                Step::Crash(part) => {
                    // What waits goes as one frame, which is there whole or not at all.
                    log.sync_and_wait().unwrap();
                    log.close();
                    crash(dir.path(), &on_disk, part);
                    drop(wal.take());
                    let log = Wal::open(dir.path()).unwrap();
                    let found = Model::of(&log);
                    prop_assert!(found == synced || found == model, "{found:?}\n{synced:?}\n{model:?}");
                    model = found.clone();
                    synced = found;
                    wal = Some(log);
                    on_disk = contents(dir.path());
                }
            }
            prop_assert_eq!(&Model::of(wal.as_ref().unwrap()), &model);
        }
    }
}
