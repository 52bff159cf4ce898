//! Documents in CBOR.
#![no_main]

use bipedalnet_fuzz::check_cbor;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| check_cbor(bytes));
