import { compact, compactFeatures } from "./compact.js";
import type { Recording } from "./recording.js";

/** A request body. The same bytes are sent at each attempt. */
export interface Body {
  bytes: Uint8Array;
  type: "application/cbor" | "application/json";
  encoding?: "gzip";
}

/** A recording in the smallest form. */
export function walkBody(recording: Recording): Promise<Body> {
  return compressed(compact(recording), "application/cbor");
}

/** What a model computed of a walk, instead of the walk. */
export function featuresBody(model: string, windows: readonly Float32Array[]): Promise<Body> {
  return compressed(compactFeatures(model, windows), "application/cbor");
}

/** Any document. */
export function jsonBody(document: unknown): Promise<Body> {
  return compressed(new TextEncoder().encode(JSON.stringify(document)), "application/json");
}

async function compressed(bytes: Uint8Array, type: Body["type"]): Promise<Body> {
  // Safari before 16.4 cannot compress.
  if (typeof CompressionStream === "undefined") return { bytes, type };
  const zipped = new Blob([bytes as BlobPart]).stream().pipeThrough(new CompressionStream("gzip"));
  const smaller = new Uint8Array(await new Response(zipped).arrayBuffer());
  return smaller.length < bytes.length ? { bytes: smaller, type, encoding: "gzip" } : { bytes, type };
}
