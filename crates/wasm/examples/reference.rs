//! Recordings, and what native code says about them, one JSON object a line. `clients/js/test` compares
//! WebAssembly with it, to the bit.
//!
//! Arguments: the number of simulated recordings, then folders of real ones.

use std::path::PathBuf;

use bipedalnet_core::GaitModel;
use bipedalnet_core::bnn::{Model, Scratch};
use bipedalnet_core::gait::simulator::{Conditions, Walker, standing};
use bipedalnet_core::gait::{AccelerationUnit, AngularRateUnit, AtRest, RecordingDocument};
use bipedalnet_core::identity::{DeviceTemplate, FALSE_MATCH_RATES, Gallery, UserId};
use bipedalnet_training::{TableOptions, read_data};
use bipedalnet_wasm::{Device, lines};
use rand::{RngExt, SeedableRng};
use rand_pcg::Pcg64Mcg;
use serde_json::json;
use sha2::{Digest, Sha256};

const MODEL: &str = "models/bipedalnet-openset.safetensors";

/// Users whose templates the recordings are compared with.
const USERS: u64 = 8;

fn main() {
    let mut arguments = std::env::args().skip(1);
    let count = arguments.next().and_then(|count| count.parse().ok());
    let count: u64 = count.expect("give the number of simulated recordings");
    let folders: Vec<PathBuf> = arguments.map(PathBuf::from).collect();

    let file = std::fs::read(MODEL).expect("the model is in the repository");
    let mut device = Device::new(&file).expect("the model is usable");
    let templates = templates(&file);
    println!("{}", json!({"templates": templates}));
    for seed in 0..count {
        print(&mut device, &templates, seed, simulated(seed));
    }
    let real = (!folders.is_empty()).then(|| {
        read_data(&folders, &TableOptions::default())
            .expect("the folders have recordings")
            .recordings
    });
    for (at, walk) in real.into_iter().flatten().enumerate() {
        // Beginnings, because whole recordings take long.
        let part = walk.recording.part(0.0, 20.0).unwrap_or(walk.recording);
        print(&mut device, &templates, at as u64, RecordingDocument::from(&part));
    }
}

/// Templates of simulated users in one gallery.
fn templates(file: &[u8]) -> Vec<DeviceTemplate> {
    let model = Model::from_bytes(file).expect("the model is usable");
    let model = GaitModel::new(model).expect("the model is usable").with_secret(&[7; 32]);
    let mut gallery = Gallery::new(model.feature_len(), model.calibration.clone());
    let user = |number: u64| -> UserId { format!("user-{number}").parse().expect("it is an id") };
    for number in 0..USERS {
        let walk =
            Walker::new(number).walk(1, &Conditions { seconds: 40.0, ..Conditions::default() });
        let reading = model.read(&walk, &mut Scratch::default(), |_| ());
        gallery.add(&user(number), &reading.expect("it is a walk").template);
    }
    let template = |number| model.device_template(&gallery, &user(number));
    (0..USERS).map(|number| template(number).expect("each user has a walk")).collect()
}

fn print(
    device: &mut Device,
    templates: &[DeviceTemplate],
    seed: u64,
    document: RecordingDocument,
) {
    let about_walk = lines::of_walk(device.read(document.clone()));
    let bytes: Vec<u8> = device.features().iter().flat_map(|value| value.to_le_bytes()).collect();
    let template = &templates[seed as usize % templates.len()];
    let fmr = FALSE_MATCH_RATES[seed as usize % FALSE_MATCH_RATES.len()];
    let in_session = seed % 2 == 1;
    let verified = device.verify(template, fmr, in_session);
    let line = json!({
        "recording": document,
        "walk": about_walk,
        "features": const_hex::encode(Sha256::digest(&bytes)),
        "template": seed as usize % templates.len(),
        "fmr": fmr,
        "in_session": in_session,
        "verified": lines::of_verification(verified, device.windows()),
    });
    println!("{line}");
}

/// A walk of one of the users or of somebody else, in one of the units and rates, often with a fault.
fn simulated(seed: u64) -> RecordingDocument {
    let mut random = Pcg64Mcg::seed_from_u64(seed);
    let conditions = Conditions {
        seconds: random.random_range(2.0..20.0),
        rate_hz: [20.0, 25.0, 33.0, 50.0, 60.0, 100.0, 200.0][random.random_range(0..7)],
        gyroscope: random.random_bool(0.5),
    };
    let recording = match random.random_range(0..12) {
        0 => standing(seed, &conditions),
        1..=6 => Walker::new(seed % USERS).walk(seed, &conditions),
        _ => Walker::new(seed).walk(seed, &conditions),
    };
    let mut document = RecordingDocument::from(&recording);
    in_other_units(&mut document, &mut random);
    if random.random_bool(0.5) {
        spoil(&mut document, &mut random);
    }
    document
}

fn in_other_units(document: &mut RecordingDocument, random: &mut Pcg64Mcg) {
    let mut factor = 1f32;
    if random.random_bool(0.2) {
        document.acceleration_at_rest = AtRest::Down;
        factor = -1.0;
    }
    // Some phones say the wrong sign, and mirror the walker.
    if random.random_bool(0.1) {
        factor = -factor;
    }
    if random.random_bool(0.2) {
        document.acceleration_unit = AccelerationUnit::StandardGravity;
        factor /= 9.806_65;
    }
    if random.random_bool(0.3) {
        let scale = if factor.abs() < 1.0 { 0.025 } else { 0.25 };
        document.acceleration_scale = Some(scale);
        let axes = document.acceleration.iter_mut().flatten();
        axes.for_each(|value| *value = (*value * factor / scale).round());
    } else {
        document.acceleration.iter_mut().flatten().for_each(|value| *value *= factor);
    }
    if let Some(rates) = &mut document.angular_rate
        && random.random_bool(0.3)
    {
        document.angular_rate_unit = AngularRateUnit::DegreePerSecond;
        rates.iter_mut().flatten().for_each(|value| *value = value.to_degrees());
    }
}

fn spoil(document: &mut RecordingDocument, random: &mut Pcg64Mcg) {
    let Some(times) = &mut document.time_seconds else { return };
    let samples = times.len();
    let at = random.random_range(1..samples);
    let axis = random.random_range(0..3);
    match random.random_range(0..20) {
        // A gap or a pause.
        0 => times[at..].iter_mut().for_each(|time| *time += 0.4),
        1 => times[at..].iter_mut().for_each(|time| *time += 5.0),
        2 => times[at] = times[at - 1],
        3 => times[at] -= 1.0,
        4 => times.iter_mut().for_each(|time| *time = (*time * 50.0).round() / 50.0),
        5 => times.iter_mut().for_each(|time| *time = (*time * 4.0).round() / 4.0),
        6 => times.iter_mut().for_each(|time| *time *= 1e3),
        7 => times[0] -= 3600.0,
        8 => times.truncate(samples / 2),
        9 => {
            times.truncate(samples / 20);
            document.acceleration.truncate(samples / 20);
            document.angular_rate = None;
        }
        10 => document.rate_hz = Some(50.0),
        11 => {
            document.time_seconds = None;
            document.rate_hz = Some(50.0);
        }
        12 => document.acceleration_scale = Some(-1.0),
        13 => document.acceleration.iter_mut().for_each(|axes| axes[axis] = 0.0),
        14 => {
            let axes = document.acceleration.iter_mut().flatten();
            axes.for_each(|value| *value = value.clamp(-9.0, 9.0));
        }
        15 => document.acceleration.iter_mut().flatten().for_each(|value| *value *= 100.0),
        16 => document.acceleration.iter_mut().flatten().for_each(|value| *value *= 3.0),
        17 => {
            let held = document.acceleration.clone();
            for (at, axes) in document.acceleration.iter_mut().enumerate() {
                *axes = held[at / 8 * 8];
            }
        }
        18 => document.angular_rate = Some(vec![[0.0; 3]; samples]),
        _ => document.acceleration[at..].fill([0.0, 9.8, 0.1]),
    }
}
