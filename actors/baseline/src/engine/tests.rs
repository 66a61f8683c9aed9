use super::*;

#[test]
fn a_series_takes_three_kilobytes_at_most() {
    let bytes = std::mem::size_of::<Baseline>();
    assert!(bytes <= 3072, "{bytes}");
}
