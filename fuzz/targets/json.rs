//! Documents in JSON.
#![no_main]

use bipedalnet_fuzz::check_json;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| check_json(bytes));
