//! The compact form of recordings. The first byte chooses the precision; a recording in CBOR follows.
#![no_main]

use bipedalnet_core::cbor;
use bipedalnet_core::gait::{Precision, Recording, RecordingDocument, compact};
use bipedalnet_fuzz::{check_exact, check_windows};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let Some((&choice, document)) = bytes.split_first() else { return };
    let Ok(document) = cbor::from_slice::<RecordingDocument>(document) else { return };
    let Ok(recording) = Recording::try_from(document) else { return };
    check_exact(&recording);
    check_windows(&recording);
    let precision = Precision {
        rate_hz: [50.0, 20.0, 1000.0, 1e-3][usize::from(choice >> 6)],
        acceleration_step_m_s2: [0.25, 1e-3, 1e30, 1e-40][usize::from(choice >> 4 & 3)],
        angular_rate_step_rad_s: [0.05, 1e-6, 1e30, 1e-40][usize::from(choice >> 2 & 3)],
    };
    let Ok(sent) = compact(&recording, &precision) else { return };
    let sent = cbor::from_slice::<RecordingDocument>(&sent).expect("it was encoded as CBOR");
    let sent = Recording::try_from(sent).expect("what is sent can be read");
    assert_eq!(sent.angular_rate_rad_s().is_some(), recording.angular_rate_rad_s().is_some());
    let shorter = recording.duration_seconds() - sent.duration_seconds();
    let rounding = 1e-6 * recording.duration_seconds() + 2.0 / sent.rate_hz();
    assert!(shorter.abs() <= rounding, "{shorter} s shorter");
});
