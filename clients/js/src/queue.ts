import type { Enrolled, Verified } from "./api.js";
import { walkBody } from "./body.js";
import type { Client, EnrollOptions, VerifyOptions, Walk } from "./client.js";
import { Emitter } from "./events.js";
import { Problem, Unreachable } from "./problem.js";
import type { ProblemDocument } from "./problem.js";
import { QueueStore } from "./queue_store.js";
import type { Entry } from "./queue_store.js";
import { backOffSeconds } from "./retry.js";
import { Tabs } from "./tabs.js";

export interface QueueOptions {
  /** Queues with other names are apart. The default is `bipedalnet`. */
  name?: string;
  /** Most walks that wait. The default is 100. */
  maxEntries?: number;
  /** A walk that waits longer is given up. The default is 7 days. */
  maxAgeSeconds?: number;
}

/** What is known of a walk that waits. */
export interface Waiting {
  /** Its Idempotency-Key, which `enroll` and `verify` returned. */
  key: string;
  user: string;
  purpose: "enroll" | "verify";
  addedMs: number;
  bytes: number;
}

/** Why walks wait although the queue was flushed. */
export interface Delay {
  problem: ProblemDocument | null;
  detail: string;
  retryInSeconds: number;
}

export interface QueueEvents {
  added: Waiting;
  /** After a crash, an answer can be reported twice. It counts once. */
  sent: { entry: Waiting; answer: Enrolled | Verified };
  /** The service refuses the walk for good. */
  refused: { entry: Waiting; problem: ProblemDocument };
  /** The walk waited too long. */
  expired: { entry: Waiting };
  delayed: Delay;
  /** The number of walks that wait. */
  changed: number;
}

const MOST_RETRY_SECONDS = 300;
/** The service remembers a key for 24 hours. After that, a second verification would be a replay. */
const KEY_REMEMBERED_MS = 23 * 3600 * 1000;

/**
 * Walks that wait for the network, in IndexedDB. They are sent in order for each user: when the queue
 * starts, when a walk is added, when the network comes back, and when the page is seen again.
 */
export class Queue extends Emitter<QueueEvents> {
  readonly #client: Client;
  readonly #store: QueueStore;
  readonly #tabs: Tabs<QueueEvents>;
  readonly #maxEntries: number;
  readonly #maxAgeMs: number;
  readonly #closing = new AbortController();
  #flushing: Promise<void> | null = null;
  #again = false;
  #retry: { timer: ReturnType<typeof setTimeout>; atMs: number } | null = null;
  #failures = 0;

  constructor(client: Client, options: QueueOptions = {}) {
    super();
    const { name = "bipedalnet", maxEntries = 100, maxAgeSeconds = 7 * 24 * 3600 } = options;
    this.#client = client;
    this.#store = new QueueStore(name);
    this.#tabs = new Tabs(name, (event, detail) => this.emit(event, detail));
    this.#maxEntries = maxEntries;
    this.#maxAgeMs = maxAgeSeconds * 1000;
  }

  /** Sends what waits, now and whenever it may work again. */
  start(): Promise<void> {
    const { signal } = this.#closing;
    const flush = () => void this.flush();
    addEventListener("online", flush, { signal });
    document.addEventListener("visibilitychange", () => document.hidden || flush(), { signal });
    return this.flush();
  }

  /** Sends nothing more. What waits stays. */
  close(): void {
    this.#closing.abort(new Unreachable("the queue was closed"));
    this.#forgetRetry();
    this.#tabs.close();
    this.#store.close();
  }

  /**
   * Stores a walk to enroll, and begins to send. Returns its key.
   *
   * @throws QueueFull if there is no room.
   */
  enroll(user: string, walk: Walk, options: Pick<EnrollOptions, "createUser"> = {}): Promise<string> {
    return this.#add(user, "enroll", walk, options);
  }

  /** As `enroll`. */
  verify(user: string, walk: Walk, options: Pick<VerifyOptions, "fmr" | "session"> = {}): Promise<string> {
    return this.#add(user, "verify", walk, options);
  }

  /** The walks that wait, in order. */
  async waiting(): Promise<Waiting[]> {
    return (await this.#store.all()).map(known);
  }

  /** Forgets the walks of a user that wait. */
  async forget(user: string): Promise<void> {
    for (const entry of await this.#store.all()) {
      if (entry.user === user) await this.#store.remove(entry);
    }
    await this.#changed();
  }

  /** Sends what waits. Returns when nothing waits, or the rest must wait longer. */
  flush(): Promise<void> {
    this.#again = true;
    this.#flushing ??= this.#flushAll().finally(() => (this.#flushing = null));
    return this.#flushing;
  }

  async #add(user: string, purpose: Entry["purpose"], walk: Walk, options: Entry["options"]): Promise<string> {
    const entry = await this.#store.add(
      {
        key: crypto.randomUUID(),
        user,
        purpose,
        options: JSON.parse(JSON.stringify(options)),
        body: "bytes" in walk ? walk : await walkBody(walk),
        addedMs: Date.now(),
        attemptedMs: null,
      },
      this.#maxEntries,
    );
    this.#tell("added", known(entry));
    await this.#changed();
    void this.flush();
    return entry.key;
  }

  async #flushAll(): Promise<void> {
    while (this.#again && !this.#closing.signal.aborted) {
      this.#again = false;
      this.#forgetRetry();
      try {
        await this.#tabs.alone(this.#closing.signal, () => this.#sendAll());
      } catch (error) {
        this.#delay(error as Error);
      }
    }
  }

  /** Stops at the first failure that is not about one user. */
  async #sendAll(): Promise<void> {
    const skipped = new Set<string>();
    for (;;) {
      const entry = await this.#store.first(skipped);
      if (entry === null || this.#closing.signal.aborted) return;
      if (this.#isExpired(entry)) {
        this.#tell("expired", { entry: known(entry) });
      } else {
        await this.#noteAttempt(entry);
        try {
          this.#tell("sent", { entry: known(entry), answer: await this.#send(entry) });
          this.#failures = 0;
        } catch (error) {
          if (!(error instanceof Problem) || error.status === 401) throw error;
          if (error.isTemporary) {
            // The others of this user come after it.
            skipped.add(entry.user);
            this.#delay(error);
            continue;
          }
          this.#tell("refused", { entry: known(entry), problem: error.document });
        }
      }
      await this.#store.remove(entry);
      await this.#changed();
    }
  }

  async #noteAttempt(entry: Entry): Promise<void> {
    if (entry.attemptedMs !== null) return;
    // If the disk is full, sending is what makes room.
    await this.#store.update({ ...entry, attemptedMs: Date.now() }).catch(() => undefined);
  }

  #send({ key, user, purpose, options, body }: Entry): Promise<Enrolled | Verified> {
    const request = { ...options, idempotencyKey: key, signal: this.#closing.signal };
    return purpose === "enroll"
      ? this.#client.enroll(user, body, request)
      : this.#client.verify(user, body, request);
  }

  #isExpired({ purpose, addedMs, attemptedMs }: Entry): boolean {
    const now = Date.now();
    const isForgotten = purpose === "verify" && attemptedMs !== null && now - attemptedMs > KEY_REMEMBERED_MS;
    return isForgotten || now - addedMs > this.#maxAgeMs;
  }

  #delay(error: Error): void {
    if (this.#closing.signal.aborted) return;
    const problem = error instanceof Problem ? error : null;
    const backOff = Math.min(MOST_RETRY_SECONDS, 5 + backOffSeconds(this.#failures++));
    const retryInSeconds = Math.max(problem?.retryAfterSeconds ?? 0, backOff);
    const atMs = Date.now() + retryInSeconds * 1000;
    // Another user's walks may be due sooner.
    if (this.#retry === null || atMs < this.#retry.atMs) {
      this.#forgetRetry();
      this.#retry = { timer: setTimeout(() => void this.flush(), retryInSeconds * 1000), atMs };
    }
    this.#tell("delayed", { problem: problem?.document ?? null, detail: error.message, retryInSeconds });
  }

  #forgetRetry(): void {
    clearTimeout(this.#retry?.timer);
    this.#retry = null;
  }

  async #changed(): Promise<void> {
    this.#tell("changed", await this.#store.count());
  }

  #tell<Name extends keyof QueueEvents>(name: Name, detail: QueueEvents[Name]): void {
    this.emit(name, detail);
    this.#tabs.tell(name, detail);
  }
}

function known({ key, user, purpose, addedMs, body }: Entry): Waiting {
  return { key, user, purpose, addedMs, bytes: body.bytes.length };
}
