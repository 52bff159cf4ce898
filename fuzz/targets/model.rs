//! Model files. The target corrects the checksum, so that changes reach the rest of the file.
#![no_main]

use bipedalnet_core::GaitModel;
use bipedalnet_core::bnn::{Model, Scratch, decode, encode};
use libfuzzer_sys::fuzz_target;
use sha2::{Digest, Sha256};

const DIGITS: usize = 64;

/// Larger networks are read, but not run: that takes long.
const MOST_VALUES: usize = 1 << 18;

fuzz_target!(|bytes: &[u8]| {
    let bytes = with_checksum(bytes);
    let Ok((metadata, parameters)) = decode(&bytes) else { return };
    let written = encode(&metadata, &parameters).expect("a decoded file can be encoded");
    let again = decode(&written).expect("an encoded file can be decoded");
    assert_eq!(again, (metadata, parameters));
    let Ok(model) = Model::from_bytes(&bytes) else { return };
    let architecture = &model.metadata.architecture;
    let shapes = architecture.shapes().expect("the network was built from them");
    let values = shapes.iter().map(|shape| shape.rows * shape.samples * shape.channels);
    if values.sum::<usize>() > MOST_VALUES {
        return;
    }
    let [rows, samples] = architecture.input;
    let mut scratch = Scratch::default();
    for step in [0, 1, 7919] {
        let window: Vec<i16> =
            (0..rows * samples).map(|at| (at as i16).wrapping_mul(step)).collect();
        let output = model.network.run(&window, &mut scratch);
        let output = output.expect("the window has the length of the input");
        assert_eq!(output.feature.len(), model.network.feature_len());
    }
    if let Ok(model) = GaitModel::new(model) {
        assert!(model.feature_len() > 0);
    }
});

fn with_checksum(bytes: &[u8]) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    let key = br#""sha256":""#;
    let Some(at) = bytes.windows(key.len()).position(|part| part == key) else { return bytes };
    let at = at + key.len();
    if let Some(digits) = bytes.get_mut(at..at + DIGITS) {
        digits.fill(b'0');
        let digest = const_hex::encode(Sha256::digest(&bytes));
        bytes[at..at + DIGITS].copy_from_slice(digest.as_bytes());
    }
    bytes
}
