use super::super::open::list;
use super::super::recover;
use super::*;
use crate::merkle;
use crate::tests_support::chain;
use proptest::prelude::*;

const SMALL: Options = Options {
    segment_bytes: 2_000,
    preallocate_bytes: 300,
    check_bytes: 1 << 20,
};
const ONE_FILE: Options = Options {
    segment_bytes: 1 << 20,
    preallocate_bytes: 0,
    check_bytes: 1 << 20,
};

fn temp() -> tempfile::TempDir {
    tempfile::tempdir().unwrap()
}

fn root_of(entries: &[Entry]) -> Digest {
    let mut f = Frontier::default();
    entries
        .iter()
        .for_each(|e| f.push(merkle::leaf(&e.to_bytes())));
    f.root()
}

fn tip_of(entries: &[Entry]) -> Digest {
    entries.last().map_or(Digest::ZERO, Entry::hash)
}

fn all(s: &Segments) -> Vec<Entry> {
    s.read(0..u64::MAX).collect::<Result<_, _>>().unwrap()
}

fn assert_holds(s: &Segments, entries: &[Entry]) {
    assert_eq!(
        (s.len(), s.tip(), s.root()),
        (entries.len() as u64, tip_of(entries), root_of(entries))
    );
    assert_eq!(all(s), entries);
}

fn write(dir: &Path, options: Options, entries: &[Entry], at_once: usize) -> Segments {
    let s = Segments::open(dir, options).unwrap();
    for some in entries.chunks(at_once) {
        s.append(some).unwrap();
        s.sync().unwrap();
    }
    s
}

#[test]
fn entries_are_there_after_a_restart_across_sealed_segments() {
    let (dir, entries) = (temp(), chain(20));
    assert_holds(&write(dir.path(), SMALL, &entries, 3), &entries);
    let s = Segments::open(dir.path(), SMALL).unwrap();
    assert_holds(&s, &entries);
    assert!(s.view().sealed.len() > 3 && s.torn().is_none());
    let some: Vec<_> = s.read(7..31).map(Result::unwrap).collect();
    assert_eq!(some, entries[7..31]);
    assert_eq!(s.read(30..30).count() + s.read(1_000..2_000).count(), 0);
}

#[test]
fn a_file_cut_at_any_byte_recovers_a_prefix_with_all_that_was_synced_before() {
    let (dir, entries) = (temp(), chain(3));
    let s = Segments::open(dir.path(), ONE_FILE).unwrap();
    let mut synced_at = vec![];
    for some in entries.chunks(2) {
        s.append(some).unwrap();
        s.sync().unwrap();
        synced_at.push((s.writer().active.as_ref().unwrap().end, s.len()));
    }
    drop(s);
    let path = list(dir.path()).unwrap()[0].1.clone();
    let whole = fs::read(&path).unwrap();
    for len in 0..=whole.len() {
        fs::write(&path, &whole[..len]).unwrap();
        let s = Segments::open(dir.path(), ONE_FILE).unwrap();
        let safe = synced_at
            .iter()
            .filter(|(end, _)| *end <= len as u64)
            .map(|(_, n)| *n)
            .max();
        assert_eq!(s.len(), safe.unwrap_or(0), "cut to {len} bytes");
        assert_holds(&s, &entries[..s.len() as usize]);
        // And it goes on from there.
        s.append(&entries[s.len() as usize..]).unwrap();
        assert_holds(&s, &entries);
        drop(s);
        fs::remove_file(&path).unwrap();
    }
}

#[test]
fn a_file_cut_within_its_footer_is_open_again() {
    let (dir, entries) = (temp(), chain(3));
    let s = write(dir.path(), ONE_FILE, &entries, 2);
    s.seal().unwrap();
    drop(s);
    let path = list(dir.path()).unwrap()[0].1.clone();
    let whole = fs::read(&path).unwrap();
    let (_, footer_at) = recover::footer(&path, &File::open(&path).unwrap())
        .unwrap()
        .unwrap();
    for len in footer_at as usize..whole.len() {
        fs::write(&path, &whole[..len]).unwrap();
        assert_holds(&Segments::open(dir.path(), ONE_FILE).unwrap(), &entries);
    }
}

#[test]
fn a_flipped_byte_of_what_was_synced_is_damage_with_its_place() {
    let (dir, entries) = (temp(), chain(3));
    drop(write(dir.path(), ONE_FILE, &entries, 2));
    let path = list(dir.path()).unwrap()[0].1.clone();
    let whole = fs::read(&path).unwrap();
    let last_batch = (0..whole.len())
        .rfind(|i| whole[*i..].starts_with(&format::BATCH_MAGIC))
        .unwrap();
    for at in 0..whole.len() {
        let mut forged = whole.clone();
        forged[at] ^= 0x10;
        fs::write(&path, &forged).unwrap();
        match Segments::open(dir.path(), ONE_FILE) {
            Err(AuditError::Damaged {
                offset,
                path: named,
                ..
            }) => {
                assert!(
                    offset <= at as u64 && named == path && at < last_batch,
                    "byte {at}"
                );
            }
            // Nothing after it tells the last batch from one that a crash tore.
            Ok(s) => assert!(at >= last_batch && s.torn().is_some(), "byte {at}"),
            Err(e) => panic!("byte {at}: {e}"),
        }
    }
}

#[test]
fn a_flipped_byte_of_a_sealed_segment_is_damage() {
    let (dir, entries) = (temp(), chain(3));
    let s = write(dir.path(), ONE_FILE, &entries, 2);
    s.seal().unwrap();
    s.append(&crate::tests_support::chain(4)[8..]).unwrap();
    drop(s);
    let path = list(dir.path()).unwrap()[0].1.clone();
    let whole = fs::read(&path).unwrap();
    for at in 0..whole.len() {
        let mut forged = whole.clone();
        forged[at] ^= 1;
        fs::write(&path, &forged).unwrap();
        let error = Segments::open(dir.path(), ONE_FILE)
            .map(|s| s.len())
            .unwrap_err();
        assert!(
            matches!(error, AuditError::Damaged { .. }),
            "byte {at}: {error}"
        );
        assert!(error.to_string().contains("restore"), "{error}");
    }
}

#[test]
fn a_hole_in_what_was_never_synced_is_a_torn_tail() {
    let (dir, entries) = (temp(), chain(3));
    let s = Segments::open(dir.path(), ONE_FILE).unwrap();
    s.append(&entries[..2]).unwrap();
    s.sync().unwrap();
    let hole = s.writer().active.as_ref().unwrap().end as usize;
    s.append(&entries[2..4]).unwrap();
    s.append(&entries[4..]).unwrap();
    drop(s);
    let path = list(dir.path()).unwrap()[0].1.clone();
    let mut bytes = fs::read(&path).unwrap();
    bytes[hole..hole + 20].fill(0);
    fs::write(&path, &bytes).unwrap();
    let s = Segments::open(dir.path(), ONE_FILE).unwrap();
    let torn = s.torn().unwrap();
    assert_eq!(torn.offset, hole as u64);
    // Should it have been damage: nothing of it is lost.
    let kept = fs::read(&torn.kept).unwrap();
    assert_eq!(kept, bytes[hole..hole + torn.bytes as usize]);
    assert_holds(&s, &entries[..2]);
}

#[test]
fn the_chain_can_be_cut_anywhere_and_goes_on() {
    let entries = chain(12);
    for len in 0..=entries.len() {
        let dir = temp();
        let s = write(dir.path(), SMALL, &entries, 3);
        s.truncate_to(len as u64).unwrap();
        assert_holds(&s, &entries[..len]);
        s.append(&entries[len..]).unwrap();
        assert_holds(&s, &entries);
        drop(s);
        assert_holds(&Segments::open(dir.path(), SMALL).unwrap(), &entries);
    }
}

#[test]
fn what_is_published_is_never_cut() {
    let (dir, copies, entries) = (temp(), temp(), chain(12));
    let s = write(dir.path(), SMALL, &entries, 3);
    let archive = Directory::open(copies.path()).unwrap();
    let published = s.publish(&archive).unwrap();
    assert!(published > 6 && s.publish(&archive).unwrap() == published);
    s.truncate_to(published).unwrap();
    drop(s);
    let s = Segments::open(dir.path(), SMALL).unwrap();
    assert!(matches!(
        s.truncate_to(published - 1),
        Err(AuditError::Published { .. })
    ));
    assert_holds(&s, &entries[..published as usize]);
}

#[test]
fn another_chain_does_not_overwrite_an_archive() {
    let (one, two, copies) = (temp(), temp(), temp());
    let archive = Directory::open(copies.path()).unwrap();
    let entries = chain(12);
    write(one.path(), SMALL, &entries, 3)
        .publish(&archive)
        .unwrap();
    let other = write(two.path(), SMALL, &entries, 2);
    assert!(matches!(
        other.publish(&archive),
        Err(AuditError::Conflict(_))
    ));
}

#[test]
fn entries_that_do_not_follow_are_refused() {
    let (dir, entries) = (temp(), chain(3));
    let s = write(dir.path(), SMALL, &entries[..2], 1);
    assert!(matches!(
        s.append(&entries[3..]),
        Err(AuditError::DoesNotFollow(_))
    ));
    assert!(matches!(
        s.append(&entries[..1]),
        Err(AuditError::DoesNotFollow(_))
    ));
    assert_holds(&s, &entries[..2]);
}

#[test]
fn two_processes_do_not_write_one_chain() {
    let dir = temp();
    let _first = Segments::open(dir.path(), SMALL).unwrap();
    assert!(matches!(
        Segments::open(dir.path(), SMALL),
        Err(AuditError::InUse(_))
    ));
}

#[test]
fn a_reader_goes_on_while_the_chain_grows() {
    let (dir, entries) = (temp(), chain(20));
    let s = write(dir.path(), SMALL, &entries[..10], 3);
    let mut reader = s.read(0..10);
    let first = reader.next().unwrap().unwrap();
    s.append(&entries[10..]).unwrap();
    let rest: Vec<_> = reader.map(Result::unwrap).collect();
    assert_eq!([vec![first], rest].concat(), entries[..10]);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    #[test]
    fn any_batches_any_cuts_any_restarts_keep_a_prefix(steps in proptest::collection::vec((0u8..5, 1usize..9), 1..25), segment in 300u64..6_000, ahead in 0u64..900) {
        let (dir, entries) = (temp(), chain(60));
        let options = Options { segment_bytes: segment, preallocate_bytes: ahead, check_bytes: 1 << 20 };
        let mut s = Segments::open(dir.path(), options).unwrap();
        let mut len = 0;
        for (step, n) in steps {
            match step {
                0..=1 => {
                    let end = (len + n).min(entries.len());
                    s.append(&entries[len..end]).unwrap();
                    len = end;
                }
                2 => s.sync().unwrap(),
                3 => {
                    len = len.saturating_sub(n);
                    s.truncate_to(len as u64).unwrap();
                }
                _ => {
                    drop(s);
                    s = Segments::open(dir.path(), options).unwrap();
                }
            }
            prop_assert_eq!(s.len(), len as u64);
        }
        assert_holds(&s, &entries[..len]);
    }
}
