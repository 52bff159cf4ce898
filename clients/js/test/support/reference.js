/** Runs in Node and in Chromium, which bundles it. */
import { Core } from "../../src/core.js";
import { Problem } from "../../src/problem.js";

/**
 * Reads recordings with WebAssembly and compares with native code: lines of `crates/wasm/examples/reference.rs`.
 * Returns how many there were, and the differences.
 */
export async function compare(wasm, model, reference) {
  const { instance } = await WebAssembly.instantiate(wasm);
  const core = new Core(instance, model);
  const lines = reference.trim().split("\n");
  const { templates } = JSON.parse(lines.shift());
  const counts = { recordings: 0, walks: 0, accepted: 0, windows: 0 };
  const different = [];
  for (const line of lines) {
    const expected = JSON.parse(line);
    const walk = told(() => walkLines(core.read(expected.recording)));
    const windows = walk.startsWith("walk") ? core.features() : [];
    const verified = told(() => verifiedLine(core.verify(templates[expected.template], expected.fmr, expected.in_session)));
    const features = await digest(windows);
    if (walk !== expected.walk || features !== expected.features || verified !== expected.verified) {
      different.push({ at: counts.recordings, walk, verified, features, expected: { ...expected, recording: null } });
    }
    counts.recordings++;
    counts.walks += Number(windows.length > 0);
    counts.windows += windows.length;
    counts.accepted += Number(verified.includes("accept"));
  }
  return { ...counts, different };
}

/** The lines that native code prints. */
function told(work) {
  try {
    return work();
  } catch (error) {
    if (!(error instanceof Problem)) throw error;
    return ["problem", code(error.type), error.document.field, error.message].join("\t");
  }
}

function walkLines({ windows, windows_refused, mended }) {
  return [
    ["walk", windows],
    ...windows_refused.map(({ type, windows, detail }) => ["refused", code(type), windows, detail]),
    ...mended.map(({ fault, detail }) => ["mended", fault, detail]),
  ]
    .map((fields) => fields.join("\t"))
    .join("\n");
}

function verifiedLine({ decision, reason, score, estimated_fmr, windows }) {
  return ["verified", decision, reason ?? "", decimal(score), decimal(estimated_fmr), windows].join("\t");
}

/** As Rust prints it: never with an exponent. */
function decimal(value) {
  const [, digits, places] = String(value).match(/^(.*)e-(\d+)$/) ?? [];
  if (digits === undefined) return String(value);
  const [whole, part = ""] = digits.split(".");
  return "0." + "0".repeat(Number(places) - 1) + whole + part;
}

function code(type) {
  return type.replace("urn:bipedalnet:problem:", "");
}

/** SHA-256 of the bits of all values. */
async function digest(windows) {
  const bytes = await new Blob(windows).arrayBuffer();
  const hash = new Uint8Array(await crypto.subtle.digest("SHA-256", bytes));
  return [...hash].map((byte) => byte.toString(16).padStart(2, "0")).join("");
}
