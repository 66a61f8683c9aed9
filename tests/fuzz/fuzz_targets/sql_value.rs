#![no_main]

const NAME: &str = "sql_value";

libfuzzer_sys::fuzz_target!(init: hale_fuzz::begin(NAME), |bytes: &[u8]| hale_fuzz::feed(NAME, bytes));
