#![no_main]

const NAME: &str = "backtest_history";

libfuzzer_sys::fuzz_target!(init: hale_fuzz::begin(NAME), |bytes: &[u8]| hale_fuzz::feed(NAME, bytes));
