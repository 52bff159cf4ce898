import type { Body } from "./body.js";
import { parsed, Problem, problemFrom, Unreachable } from "./problem.js";
import { backOffSeconds, pause, retryAfterSeconds } from "./retry.js";
import { TokenSource } from "./token.js";
import type { Token } from "./token.js";

export interface ClientOptions {
  /** Address of the service. The default is the page's own origin. */
  url?: string;
  token?: Token;
  /** The collection of the users. The default is the token's own, or `default`. */
  collection?: string;
  /** Seconds for a request with all its retries. The default is 30. */
  deadlineSeconds?: number;
}

export interface RequestOptions {
  signal?: AbortSignal;
  /** A request that is sent twice with the same key counts once. The default is a random one. */
  idempotencyKey?: string;
}

export interface Outgoing extends RequestOptions {
  method: "GET" | "POST" | "PUT" | "DELETE";
  path: string;
  query?: Record<string, string | number | boolean | undefined>;
  body?: Body;
  headers?: Record<string, string>;
  /** Reads an answer that is not JSON, or is 304. */
  receive?: (response: Response) => Promise<unknown>;
}

/** Paths that are about users of one collection. */
const IN_COLLECTION = /^\/v1\/(users\/|identify$)/;

/** So that a connection that hangs does not use up the whole deadline. */
const ATTEMPTS = 3;

type Failure = Problem | Unreachable;

/** Sends requests until they are answered, refused, or late. */
export class Exchange {
  readonly #url: string;
  readonly #token: TokenSource;
  readonly #collection: string | undefined;
  readonly #deadlineMs: number;

  constructor({ url = "", token, collection, deadlineSeconds = 30 }: ClientOptions) {
    this.#url = url.replace(/\/+$/, "");
    this.#token = new TokenSource(token);
    this.#collection = collection;
    this.#deadlineMs = deadlineSeconds * 1000;
  }

  /** The JSON of the answer, or `null` if it has none. */
  async send(outgoing: Outgoing): Promise<unknown> {
    const signal = outgoing.signal ?? new AbortController().signal;
    const deadline = performance.now() + this.#deadlineMs;
    const headers = requestHeaders(outgoing);
    let renewed = false;
    for (let failures = 0; ; ) {
      signal.throwIfAborted();
      const token = await this.#authorised(this.#token.current());
      const limit = Math.max(1, Math.min(deadline - performance.now(), this.#deadlineMs / ATTEMPTS));
      const outcome = await this.#attempt(outgoing, { ...headers, ...authorisation(token) }, limit, signal);
      if ("answer" in outcome) return outcome.answer;
      const { failure } = outcome;
      if (failure instanceof Problem && failure.status === 401 && !renewed) {
        renewed = true;
        if ((await this.#authorised(this.#token.instead(token))) !== null) continue;
      }
      if (failure instanceof Problem && !failure.isTemporary) throw failure;
      const wait = waitSeconds(failure, failures++);
      if (performance.now() + wait * 1000 >= deadline) throw failure;
      await pause(wait, signal, failure instanceof Unreachable);
    }
  }

  /** A backend that gives no token is as bad as a service that gives no answer. */
  #authorised(token: Promise<string | null>): Promise<string | null> {
    return token.catch((cause) => {
      throw new Unreachable("there is no token: " + String(cause?.message ?? cause), { cause });
    });
  }

  async #attempt(
    { method, path, query, body, receive }: Outgoing,
    headers: Record<string, string>,
    limitMs: number,
    signal: AbortSignal,
  ): Promise<{ answer: unknown } | { failure: Failure }> {
    const ending = new AbortController();
    const end = () => ending.abort();
    const timer = setTimeout(end, limitMs);
    signal.addEventListener("abort", end);
    try {
      const collection = IN_COLLECTION.test(path) ? this.#collection : undefined;
      const response = await fetch(this.#url + path + queryString({ ...query, collection }), {
        method,
        headers: { ...headers, "request-deadline-ms": String(Math.ceil(limitMs)) },
        body: (body?.bytes as BodyInit | undefined) ?? null,
        signal: ending.signal,
        // A redirect is not the service, and a page that is logged in elsewhere has no business here.
        redirect: "error",
        credentials: "omit",
        cache: "no-store",
      });
      if (receive && (response.ok || response.status === 304)) return { answer: await receive(response) };
      return outcomeOf(response, await response.text());
    } catch (cause) {
      if (signal.aborted) throw signal.reason;
      const what = ending.signal.aborted ? "the service did not answer in time" : "the service cannot be reached";
      return { failure: new Unreachable(what, { cause }) };
    } finally {
      clearTimeout(timer);
      signal.removeEventListener("abort", end);
    }
  }
}

function outcomeOf({ status, ok, headers }: Response, text: string): { answer: unknown } | { failure: Failure } {
  if (ok) {
    const answer = parsed(text);
    if (answer !== null || (text === "" && status === 204)) return { answer };
  }
  const problem = problemFrom(text, retryAfterSeconds(headers.get("retry-after")));
  return { failure: problem ?? new Unreachable(`something else than the service answered with status ${status}`) };
}

function waitSeconds(failure: Failure, failures: number): number {
  const backOff = backOffSeconds(failures);
  const asked = failure instanceof Problem ? failure.retryAfterSeconds : null;
  return asked === null ? backOff : asked + Math.min(backOff, 1);
}

function requestHeaders({ method, body, headers, idempotencyKey }: Outgoing): Record<string, string> {
  return {
    accept: "application/json",
    ...headers,
    ...(method !== "GET" && { "idempotency-key": idempotencyKey ?? crypto.randomUUID() }),
    ...(body && { "content-type": body.type }),
    ...(body?.encoding && { "content-encoding": body.encoding }),
  };
}

function authorisation(token: string | null): Record<string, string> {
  return token === null ? {} : { authorization: `Bearer ${token}` };
}

function queryString(query: Outgoing["query"] = {}): string {
  const given = Object.entries(query).filter(([, value]) => value !== undefined);
  return given.length === 0 ? "" : "?" + new URLSearchParams(given.map(([name, value]) => [name, String(value)]));
}
