import type { Body } from "./body.js";

/** A walk that waits. */
export interface Entry {
  /** Rises in the order of `add`. */
  order: number;
  /** The Idempotency-Key of each attempt. */
  key: string;
  user: string;
  purpose: "enroll" | "verify";
  /** Of `enroll` or `verify`. */
  options: Record<string, string | number | boolean>;
  body: Body;
  addedMs: number;
  /** When it was first sent. */
  attemptedMs: number | null;
}

/** There is no room for another walk. Nothing was stored. */
export class QueueFull extends Error {
  override readonly name = "QueueFull";

  constructor(
    /** `count`: the queue has its maximum. `storage`: the browser has no room, or allows no storage. */
    readonly reason: "count" | "storage",
    options?: ErrorOptions,
  ) {
    super(reason === "count" ? "the queue is full" : "the browser cannot store the walk", options);
  }
}

const ENTRIES = "entries";

/** The entries in IndexedDB. Each method is one transaction. */
export class QueueStore {
  readonly #name: string;
  #opening: Promise<IDBDatabase> | null = null;

  constructor(name: string) {
    this.#name = name;
  }

  /** Stores an entry at the end. Afterwards it survives a crash. */
  async add(entry: Omit<Entry, "order">, most: number): Promise<Entry> {
    try {
      const order = await this.#change<number>((entries, done, fail) => {
        const count = entries.count();
        count.onsuccess = () => {
          if (count.result >= most) return fail(new QueueFull("count"));
          const added = entries.add(entry);
          added.onsuccess = () => done(added.result as number);
        };
      });
      return { ...entry, order };
    } catch (cause) {
      throw cause instanceof QueueFull ? cause : new QueueFull("storage", { cause });
    }
  }

  /** All entries in order. */
  async all(): Promise<Entry[]> {
    return this.#read((entries) => entries.getAll());
  }

  /** The first entry whose user is not among `skipped`. */
  async first(skipped: ReadonlySet<string>): Promise<Entry | null> {
    const database = await this.#database();
    return new Promise((resolve, reject) => {
      const cursor = database.transaction(ENTRIES).objectStore(ENTRIES).openCursor();
      cursor.onerror = () => reject(cursor.error);
      cursor.onsuccess = () => {
        const entry = cursor.result?.value as Entry | undefined;
        if (entry && skipped.has(entry.user)) cursor.result!.continue();
        else resolve(entry ?? null);
      };
    });
  }

  async update(entry: Entry): Promise<void> {
    await this.#change((entries) => entries.put(entry));
  }

  async remove(entry: Entry): Promise<void> {
    await this.#change((entries) => entries.delete(entry.order));
  }

  async count(): Promise<number> {
    return this.#read((entries) => entries.count());
  }

  close(): void {
    void this.#opening?.then((database) => database.close());
    this.#opening = null;
  }

  async #read<Result>(ask: (entries: IDBObjectStore) => IDBRequest<Result>): Promise<Result> {
    const database = await this.#database();
    return new Promise((resolve, reject) => {
      const request = ask(database.transaction(ENTRIES).objectStore(ENTRIES));
      request.onsuccess = () => resolve(request.result);
      request.onerror = () => reject(request.error);
    });
  }

  /** Resolves when the change is on the disk. */
  async #change<Result>(
    change: (entries: IDBObjectStore, done: (result: Result) => void, fail: (error: Error) => void) => void,
  ): Promise<Result> {
    const database = await this.#database();
    return new Promise((resolve, reject) => {
      const transaction = database.transaction(ENTRIES, "readwrite", { durability: "strict" });
      let result: Result;
      transaction.oncomplete = () => resolve(result);
      transaction.onabort = () => reject(transaction.error);
      const fail = (error: Error) => {
        reject(error);
        transaction.abort();
      };
      change(transaction.objectStore(ENTRIES), (value) => (result = value), fail);
    });
  }

  #database(): Promise<IDBDatabase> {
    this.#opening ??= new Promise<IDBDatabase>((resolve, reject) => {
      const request = indexedDB.open(this.#name, 1);
      request.onupgradeneeded = () => {
        request.result.createObjectStore(ENTRIES, { keyPath: "order", autoIncrement: true });
      };
      request.onerror = () => reject(request.error);
      request.onsuccess = () => {
        const database = request.result;
        // Another tab deletes the database, or the browser did.
        database.onversionchange = () => this.close();
        database.onclose = () => (this.#opening = null);
        resolve(database);
      };
    }).catch((error) => {
      this.#opening = null;
      throw error;
    });
    return this.#opening;
  }
}
