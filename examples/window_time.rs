//! Prints the median seconds of one window of a model, on one thread:
//!
//!     cargo run --release --example window_time -- FILE SECONDS
//!
//! Each window is timed by itself, as `benches/peers/inference.py` does, so that other load on the
//! machine affects both alike. `benches/peers/compare.py` runs this.

use std::error::Error;
use std::hint::black_box;
use std::time::Instant;

use bipedalnet_core::bnn::{Model, Scratch};

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [file, seconds] = &arguments[..] else { return Err("give FILE and SECONDS".into()) };
    let seconds: f64 = seconds.parse()?;
    let network = Model::from_bytes(&std::fs::read(file)?)?.network;
    // The values of a window are small multiples of 1/1024 of either sign.
    let window: Vec<i16> =
        (0..network.input_len()).map(|at| (at * 7919 % 4096) as i16 - 2048).collect();
    let mut scratch = Scratch::default();
    let mut times = Vec::new();
    let begin = Instant::now();
    while begin.elapsed().as_secs_f64() < seconds {
        let start = Instant::now();
        black_box(network.run(black_box(&window), &mut scratch)?);
        times.push(start.elapsed().as_secs_f64());
    }
    times.sort_by(f64::total_cmp);
    println!("{:e}", times.get(times.len() / 2).ok_or("SECONDS must be positive")?);
    Ok(())
}
