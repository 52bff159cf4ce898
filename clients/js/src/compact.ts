import type { WalkDocument } from "./core.js";
import type { Axes, Recording } from "./recording.js";
import { evenly } from "./resample.js";

/** Tags of RFC 8746. */
const COLUMN_MAJOR = 1040;
const SINT8 = 72;
const SINT16_LITTLE_ENDIAN = 77;
const FLOAT32_LITTLE_ENDIAN = 85;

/** Steps that cost no accuracy. They may be four times as large if a value then needs one byte. */
const ACCELERATION_STEP_M_S2 = 0.25;
const ANGULAR_RATE_STEP_RAD_S = 0.05;
const COARSEST_STEPS = 4;
const MOST_INT16 = 32_767;

/** A recording as compact CBOR: typed arrays with one byte for most values, axis by axis. */
export function compact(recording: Recording): Uint8Array {
  const walk = compactDocument(recording);
  const entries = [
    walk.time_seconds
      ? pair("time_seconds", typedArray(FLOAT32_LITTLE_ENDIAN, Float32Array.from(walk.time_seconds)))
      : pair("rate_hz", float32(walk.rate_hz!)),
    ...(walk.acceleration_at_rest === "down" ? [pair("acceleration_at_rest", text("down"))] : []),
    matrix("acceleration", walk.acceleration, walk.acceleration_scale),
    ...(walk.angular_rate ? [matrix("angular_rate", walk.angular_rate, walk.angular_rate_scale)] : []),
  ];
  // A map of indefinite length, and its end.
  return joined([Uint8Array.of(0xbf), ...entries, Uint8Array.of(0xff)]);
}

/** A recording as the service gets it: with the values that compact CBOR has. */
export function compactDocument(recording: Recording): WalkDocument {
  const even = evenly(recording);
  const { acceleration, angularRate } = even ?? recording;
  const { timeSeconds, atRest } = recording;
  const [scale, values] = inSteps(acceleration, ACCELERATION_STEP_M_S2);
  const [rateScale, rates] = angularRate ? inSteps(angularRate, ANGULAR_RATE_STEP_RAD_S) : [];
  return {
    ...(even
      ? { rate_hz: Math.fround(even.rateHz) }
      : { time_seconds: timeSeconds.map((time) => Math.fround(time - timeSeconds[0]!)) }),
    acceleration: values,
    ...(scale && { acceleration_scale: scale }),
    acceleration_at_rest: atRest,
    ...(rates && { angular_rate: rates }),
    ...(rateScale && { angular_rate_scale: rateScale }),
  };
}

/** The features of windows, as compact as their bits allow. */
export function compactFeatures(model: string, windows: readonly Float32Array[]): Uint8Array {
  const lists = windows.map((window) => typedArray(FLOAT32_LITTLE_ENDIAN, window));
  return joined([head(5, 2), pair("model", text(model)), pair("features", head(4, lists.length), ...lists)]);
}

/** A scale and whole multiples of it. Values that are too large for that have no scale. */
function inSteps(samples: readonly Axes[], step: number): [scale: number | undefined, samples: Axes[]] {
  const largest = samples.flat().reduce((most, value) => Math.max(most, Math.abs(value)), 0);
  const smallestInt8 = largest / 127;
  // The service multiplies with the scale as it is sent: a float of 32 bits.
  const scale = Math.fround(smallestInt8 <= step * COARSEST_STEPS ? Math.max(step, smallestInt8) : step);
  if (Math.round(largest / scale) > MOST_INT16) return [undefined, [...samples]];
  return [scale, samples.map((sample) => sample.map((value) => Math.round(value / scale)) as Axes)];
}

/** A matrix, and its scale if it has one. Then the values are whole. */
function matrix(name: string, samples: readonly Axes[], scale: number | undefined): Uint8Array {
  const columns = [0, 1, 2].flatMap((axis) => samples.map((sample) => sample[axis]!));
  const shape = joined([head(4, 2), head(4, 2), head(0, samples.length), head(0, 3)]);
  const values = (tag: number, list: Int8Array | Int16Array | Float32Array) =>
    pair(name, head(6, COLUMN_MAJOR), shape, typedArray(tag, list));
  if (scale === undefined) return values(FLOAT32_LITTLE_ENDIAN, Float32Array.from(columns));
  const isSmall = columns.every((value) => Math.abs(value) <= 127);
  const whole = isSmall ? values(SINT8, Int8Array.from(columns)) : values(SINT16_LITTLE_ENDIAN, Int16Array.from(columns));
  return joined([pair(`${name}_scale`, float32(scale)), whole]);
}

function typedArray(tag: number, values: Int8Array | Int16Array | Float32Array): Uint8Array {
  const width = values.BYTES_PER_ELEMENT;
  const bytes = new DataView(new ArrayBuffer(values.length * width));
  values.forEach((value, index) => {
    if (values instanceof Float32Array) bytes.setFloat32(index * width, value, true);
    else if (width === 2) bytes.setInt16(index * width, value, true);
    else bytes.setInt8(index, value);
  });
  return joined([head(6, tag), head(2, bytes.byteLength), new Uint8Array(bytes.buffer)]);
}

function pair(key: string, ...value: Uint8Array[]): Uint8Array {
  return joined([text(key), ...value]);
}

function text(value: string): Uint8Array {
  const bytes = new TextEncoder().encode(value);
  return joined([head(3, bytes.length), bytes]);
}

function float32(value: number): Uint8Array {
  const bytes = new DataView(new ArrayBuffer(5));
  bytes.setUint8(0, 0xfa);
  bytes.setFloat32(1, value);
  return new Uint8Array(bytes.buffer);
}

/** The first bytes of an item: its major type, and a number below 2^32. */
function head(major: number, value: number): Uint8Array {
  const type = major << 5;
  if (value < 24) return Uint8Array.of(type | value);
  if (value < 0x100) return Uint8Array.of(type | 24, value);
  if (value < 0x10000) return Uint8Array.of(type | 25, value >> 8, value & 0xff);
  return Uint8Array.of(type | 26, value >>> 24, (value >>> 16) & 0xff, (value >>> 8) & 0xff, value & 0xff);
}

function joined(parts: Uint8Array[]): Uint8Array {
  const all = new Uint8Array(parts.reduce((length, part) => length + part.length, 0));
  let at = 0;
  for (const part of parts) {
    all.set(part, at);
    at += part.length;
  }
  return all;
}
