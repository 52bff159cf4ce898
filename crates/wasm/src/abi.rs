//! The functions that JavaScript calls, and the only unsafe code of this package.
//!
//! Bytes go in through buffers of [`allocate`]. Each call that takes one frees it; it takes none if the
//! pointer is 0. Text comes out at [`output`] and stays until the next call: lines as in `lines.rs`.

use std::cell::RefCell;
use std::ptr;

use bipedalnet_core::gait::{AccelerationUnit, AngularRateUnit, AtRest, RecordingDocument};
use bipedalnet_core::identity::DeviceTemplateError;

use crate::{Device, lines};

/// Bits of the `options` of [`read_walk`]: acceleration is in g, it points down at rest, and the angular
/// rate is in deg/s.
pub const IN_G: u32 = 1;
/// See [`IN_G`].
pub const DOWN: u32 = 2;
/// See [`IN_G`].
pub const IN_DEGREES: u32 = 4;

thread_local! {
    static OUTPUT: RefCell<String> = const { RefCell::new(String::new()) };
}

/// Makes a buffer of `bytes` bytes, aligned for all numbers.
#[unsafe(no_mangle)]
pub extern "C" fn allocate(bytes: usize) -> *mut u64 {
    Box::into_raw(vec![0u64; bytes.div_ceil(8)].into_boxed_slice()).cast()
}

/// [`Device::new`], or 0 if the file cannot be used. The output is the id of the model.
///
/// # Safety
/// `file` is a buffer of [`allocate`] with `bytes` bytes, which no call has taken.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn load_model(file: *mut u64, bytes: usize) -> *mut Device {
    // SAFETY: the caller promises the same, and all bytes are valid.
    let file: Vec<u8> = unsafe { taken(file, bytes) };
    let device = Device::new(&file);
    put(device.as_ref().map_or("", Device::model_id).to_owned());
    device.map_or(ptr::null_mut(), |device| Box::into_raw(Box::new(device)))
}

/// Frees a device.
///
/// # Safety
/// `device` is from [`load_model`], not 0, and not used again.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn free_model(device: *mut Device) {
    // SAFETY: `load_model` made it from a box, and the caller gives it up.
    drop(unsafe { Box::from_raw(device) });
}

/// [`Device::read`], of a [`RecordingDocument`]. Scales and `rate_hz` are NaN if the document has none.
/// The output describes the walk.
///
/// # Safety
/// `device` is from [`load_model`] and not 0. The pointers are 0 or buffers of [`allocate`], which no call
/// has taken: of `times` floats of 64 bits, and of 3 floats of 32 bits for each of `accelerations` and
/// `angular_rates`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn read_walk(
    device: *mut Device,
    options: u32,
    time_seconds: *mut u64,
    times: usize,
    rate_hz: f64,
    acceleration: *mut u64,
    accelerations: usize,
    acceleration_scale: f32,
    angular_rate: *mut u64,
    angular_rates: usize,
    angular_rate_scale: f32,
) {
    // SAFETY: the caller promises the same, and all bits are valid floats.
    let time_seconds = (!time_seconds.is_null()).then(|| unsafe { taken(time_seconds, times) });
    // SAFETY: as above.
    let acceleration = unsafe { taken(acceleration, accelerations) };
    // SAFETY: as above.
    let angular_rate =
        (!angular_rate.is_null()).then(|| unsafe { taken(angular_rate, angular_rates) });
    let has = |option| options & option != 0;
    let document = RecordingDocument {
        time_seconds,
        rate_hz: (!rate_hz.is_nan()).then_some(rate_hz),
        acceleration_unit: match has(IN_G) {
            true => AccelerationUnit::StandardGravity,
            false => AccelerationUnit::MetrePerSecondSquared,
        },
        acceleration_scale: (!acceleration_scale.is_nan()).then_some(acceleration_scale),
        acceleration_at_rest: if has(DOWN) { AtRest::Down } else { AtRest::Up },
        acceleration,
        angular_rate_unit: match has(IN_DEGREES) {
            true => AngularRateUnit::DegreePerSecond,
            false => AngularRateUnit::RadianPerSecond,
        },
        angular_rate_scale: (!angular_rate_scale.is_nan()).then_some(angular_rate_scale),
        angular_rate,
    };
    // SAFETY: there is one thread, and no function keeps a reference to the device.
    let device = unsafe { &mut *device };
    put(lines::of_walk(device.read(document)));
}

/// The features of the last walk, as floats of 32 bits. Valid until the next call of [`read_walk`].
///
/// # Safety
/// `device` is from [`load_model`] and not 0.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn walk_features(device: *const Device) -> *const f32 {
    // SAFETY: as in `read_walk`.
    unsafe { &*device }.features().as_ptr()
}

/// Number of values of a feature.
///
/// # Safety
/// `device` is from [`load_model`] and not 0.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn feature_len(device: *const Device) -> usize {
    // SAFETY: as in `read_walk`.
    unsafe { &*device }.feature_len()
}

/// [`Device::verify`] with the template of `model`, an id of `bytes` bytes, and its numbers in the order
/// of `lines::template`. The output describes the verification.
///
/// # Safety
/// `device` is from [`load_model`] and not 0. The pointers are buffers of [`allocate`], which no call has
/// taken: of `bytes` bytes, and of `count` floats of 64 bits.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn verify_walk(
    device: *mut Device,
    model: *mut u64,
    bytes: usize,
    numbers: *mut u64,
    count: usize,
    fmr: f64,
    in_session: bool,
) {
    // SAFETY: the caller promises the same, and all bytes are valid.
    let model: Vec<u8> = unsafe { taken(model, bytes) };
    // SAFETY: as above.
    let numbers: Vec<f64> = unsafe { taken(numbers, count) };
    // SAFETY: as in `read_walk`.
    let device = unsafe { &mut *device };
    let model = String::from_utf8_lossy(&model).into_owned();
    let verified = lines::template(model, &numbers, device.feature_len())
        .ok_or(DeviceTemplateError::Damaged("templates"))
        .and_then(|template| device.verify(&template, fmr, in_session));
    put(lines::of_verification(verified, device.windows()));
}

/// The output of the last call, in UTF-8.
#[unsafe(no_mangle)]
pub extern "C" fn output() -> *const u8 {
    OUTPUT.with_borrow(|output| output.as_ptr())
}

/// Length of the output in bytes.
#[unsafe(no_mangle)]
pub extern "C" fn output_bytes() -> usize {
    OUTPUT.with_borrow(String::len)
}

fn put(text: String) {
    OUTPUT.set(text);
}

/// The values in a buffer.
///
/// # Safety
/// `buffer` is from [`allocate`] with at least the bytes of `count` values, and is not used again. All
/// its bits are valid values, which need no stricter alignment than 64 bits.
unsafe fn taken<T: Clone>(buffer: *mut u64, count: usize) -> Vec<T> {
    let words = (count * size_of::<T>()).div_ceil(8);
    // SAFETY: the caller promises that the values are there.
    let values = unsafe { std::slice::from_raw_parts(buffer.cast::<T>(), count) }.to_vec();
    // SAFETY: `allocate` made the buffer from a box of this length, and the caller gives it up.
    drop(unsafe { Box::from_raw(ptr::slice_from_raw_parts_mut(buffer, words)) });
    values
}
