//! Recordings survive their exact form, and are cut without a fault.

use bipedalnet_core::cbor;
use bipedalnet_core::gait::{
    Fingerprint, Recipe, Recording, RecordingDocument, WINDOW_ROWS, cut_windows, exact,
};

/// Encodes a recording exactly, and decodes it. What was mended has other times than were sent, so it is
/// only decoded.
///
/// # Panics
/// If the recording changes.
pub fn check_exact(recording: &Recording) {
    let document = cbor::from_slice::<RecordingDocument>(&exact(recording));
    let again = Recording::try_from(document.expect("an encoded recording can be decoded"));
    if recording.mends().is_empty() {
        let again = again.expect("what was read is valid");
        assert_eq!(again.time_seconds(), recording.time_seconds());
        assert_eq!(again.acceleration_m_s2(), recording.acceleration_m_s2());
        assert_eq!(again.angular_rate_rad_s(), recording.angular_rate_rad_s());
    }
}

/// Cuts a recording into windows, and takes its fingerprint.
///
/// # Panics
/// If a window has the wrong size, or more windows come out than the recording is long.
pub fn check_windows(recording: &Recording) {
    for recipe in [Recipe::BIPEDALNET, Recipe::OPENSET] {
        if let Ok(cut) = cut_windows(recording, &recipe, recipe.samples / 2) {
            let refused: usize = cut.refused.iter().map(|(_, windows)| windows).sum();
            let seconds = (cut.windows.len() + refused) as f64 * recipe.window_seconds() / 2.0;
            assert!(seconds <= recording.duration_seconds(), "{seconds}");
            for window in cut.windows {
                assert_eq!(window.values.len(), WINDOW_ROWS * recipe.samples);
            }
        }
    }
    let _ = Fingerprint::of(recording);
}
