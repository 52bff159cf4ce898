/** A problem of the service, as problem+json (RFC 9457). */
export interface ProblemDocument {
  /** Stable, for programs: `urn:bipedalnet:problem:` and a name such as `too-short`. */
  type: string;
  title: string;
  status: number;
  /** For people: what was wrong, and how to fix it. */
  detail?: string;
  /** The field that is wrong. */
  field?: string;
  request_id?: string;
}

const PREFIX = "urn:bipedalnet:problem:";

/** The service refused a request. */
export class Problem extends Error {
  override readonly name = "Problem";
  readonly type: string;
  /** The end of the type, such as `too-short`. */
  readonly code: string;
  readonly status: number;

  constructor(
    readonly document: ProblemDocument,
    /** What `Retry-After` said. */
    readonly retryAfterSeconds: number | null = null,
  ) {
    super(document.detail ?? document.title);
    this.type = document.type;
    this.code = document.type.slice(PREFIX.length);
    this.status = document.status;
  }

  /** Whether the same request may succeed later. */
  get isTemporary(): boolean {
    return this.code === "request-in-flight" || [408, 429].includes(this.status) || this.status >= 500;
  }
}

/** The service did not answer in time: no network, a proxy in between, or a server that is down. */
export class Unreachable extends Error {
  override readonly name = "Unreachable";
}

/** Reads a problem. `null` if something else answered, such as a proxy or the login page of a hotel. */
export function problemFrom(text: string, retryAfterSeconds: number | null): Problem | null {
  const document = parsed(text) as Partial<ProblemDocument> | null;
  if (!document?.type?.startsWith?.(PREFIX) || typeof document.status !== "number") return null;
  return new Problem(document as ProblemDocument, retryAfterSeconds);
}

/** The value of a JSON text, or `null` if it is none. */
export function parsed(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return null;
  }
}
