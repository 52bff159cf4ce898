import { execFileSync } from "node:child_process";
import { existsSync, readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { gunzipSync } from "node:zlib";
import { program } from "./service.js";

export const data = process.env.WALKING_DATA ?? fileURLToPath(new URL("../../../../../shared/data", import.meta.url));

/** Says why tests with real recordings are skipped, or `false`. */
export const withoutData = existsSync(data) ? false : `there are no real recordings at ${data}`;

/** A simulated walk as a `Recording`. */
export function simulated(walker, walk, seconds = 10) {
  const options = ["--walker", String(walker), "--walk", String(walk), "--seconds", String(seconds)];
  const document = JSON.parse(execFileSync(program, ["simulate", ...options]));
  const times = document.time_seconds ?? document.acceleration.map((_, at) => at / document.rate_hz);
  return {
    timeSeconds: times.map((time) => time - times[0]),
    acceleration: document.acceleration,
    angularRate: document.angular_rate,
    atRest: "up",
  };
}

/** The names of a data set's recordings. They begin with the person. */
export function recordings(set) {
  return readdirSync(join(data, set, "recordings")).sort();
}

/** A real recording. */
export function real(set, name) {
  const text = gunzipSync(readFileSync(join(data, set, "recordings", name))).toString();
  const rows = text.trim().split("\n").slice(1).map((line) => line.split(",").map(Number));
  return {
    timeSeconds: rows.map(([time]) => time - rows[0][0]),
    acceleration: rows.map((row) => row.slice(1, 4)),
    ...(rows[0].length > 4 && { angularRate: rows.map((row) => row.slice(4, 7)) }),
    atRest: "up",
  };
}

/** A part of a recording. */
export function part(recording, from, to) {
  const at = recording.timeSeconds.flatMap((time, index) => (time >= from && time <= to ? [index] : []));
  const pick = (values) => values && at.map((index) => values[index]);
  const timeSeconds = pick(recording.timeSeconds).map((time) => time - recording.timeSeconds[at[0]]);
  const { acceleration, angularRate, atRest } = recording;
  return { timeSeconds, acceleration: pick(acceleration), ...(angularRate && { angularRate: pick(angularRate) }), atRest };
}
