#![no_main]

const NAME: &str = "backup";

libfuzzer_sys::fuzz_target!(init: hale_fuzz::begin(NAME), |bytes: &[u8]| hale_fuzz::feed(NAME, bytes));
