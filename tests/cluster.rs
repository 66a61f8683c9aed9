//! x
#[test]
fn probe() {
    let fleet = hale_tests::Fleet::of(3);
    eprintln!("leader {}", fleet.leader());
    let f = fleet.follower();
    eprintln!("{:?}", fleet.hold(f, "a"));
    for _ in 0..30 {
        hale_tests::pause(std::time::Duration::from_millis(200));
        eprintln!("{:?}", fleet.members[f].ask("/v1/leases?consistency=stale"));
    }
    eprintln!("{:?} {:#?}", fleet.ticks("a"), fleet.one_chain().entries);
}
