//! Times native code on recordings from files, as `clients/js/bench/speed.js` times WebAssembly. Prints
//! microseconds, the best of several runs.
//!
//! Arguments: the name of the kernels, then files with recordings as JSON.

use std::time::Instant;

use bipedalnet_core::bnn::Kernels;
use bipedalnet_core::gait::RecordingDocument;
use bipedalnet_wasm::Device;

const RUNS: usize = 10;

fn main() {
    let mut arguments = std::env::args().skip(1);
    let kernels = match arguments.next().as_deref() {
        None | Some("best") => Kernels::available()[0],
        Some(name) => Kernels::named(name).expect("the processor has the kernels"),
    };
    kernels.prefer();
    let file = std::fs::read("models/bipedalnet-openset.safetensors").expect("the model is there");
    let mut device = Device::new(&file).expect("the model is usable");
    print!("{}", kernels.name());
    for path in arguments {
        let json = std::fs::read(&path).expect("the file can be read");
        let document: RecordingDocument = serde_json::from_slice(&json).expect("it is a recording");
        let repeats = 20_000 / document.acceleration.len();
        let run = |_| {
            let begin = Instant::now();
            for _ in 0..repeats {
                device.read(document.clone()).expect("it is a walk");
            }
            begin.elapsed().as_secs_f64() * 1e6 / repeats as f64
        };
        let best = (0..RUNS).map(run).fold(f64::INFINITY, f64::min);
        print!(" {best}");
    }
    println!();
}
