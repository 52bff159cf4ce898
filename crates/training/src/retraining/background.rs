//! Simulated walkers, whom a network learns as strangers.

use bipedalnet_core::gait::Recipe;
use bipedalnet_core::gait::simulator::{Conditions, Walker};
use rayon::prelude::*;

use crate::data::Track;

/// Number of simulated walkers.
pub const BACKGROUND_PEOPLE: usize = 32;

const BACKGROUND_WALKS: u64 = 3;
const BACKGROUND_SECONDS: f64 = 30.0;

/// First seed of the simulated walkers. Nothing else uses seeds from here on.
const BACKGROUND_SEED: u64 = 0xbac0_0000;

/// The recorded time of all simulated walkers.
pub fn background_seconds() -> f64 {
    BACKGROUND_PEOPLE as f64 * BACKGROUND_WALKS as f64 * BACKGROUND_SECONDS
}

/// The recordings of each simulated walker.
pub fn background(recipe: Recipe) -> Vec<Vec<Track>> {
    let conditions = Conditions { seconds: BACKGROUND_SECONDS, ..Conditions::default() };
    let people: Vec<Vec<Track>> = (0..BACKGROUND_PEOPLE as u64)
        .into_par_iter()
        .map(|person| {
            let walker = Walker::new(BACKGROUND_SEED + person);
            (0..BACKGROUND_WALKS)
                .filter_map(|walk| Track::new(&walker.walk(walk, &conditions), recipe).ok())
                .filter(|track| track.window_count(recipe) > 0)
                .collect()
        })
        .collect();
    people.into_iter().filter(|tracks| !tracks.is_empty()).collect()
}
