import type { DeviceTemplate } from "./core.js";

/** A downloaded template. */
export interface StoredTemplate {
  template: DeviceTemplate;
  etag: string;
  /** When the service last said that it may be used. */
  confirmedMs: number;
}

/** What a device keeps for its user. The model is that of the template, if there is one. */
export interface Stored {
  template: StoredTemplate | null;
  model: Uint8Array | null;
}

const THINGS = "things";

/** What devices keep, by user, in IndexedDB. Where there is none, nothing is kept. */
export class DeviceStore {
  readonly #name: string;

  constructor(name: string) {
    this.#name = name;
  }

  async read(user: string): Promise<Stored | null> {
    return (await this.#with("readonly", (things) => things.get(user)).catch(() => null)) ?? null;
  }

  async write(user: string, stored: Stored): Promise<void> {
    await this.#with("readwrite", (things) => things.put(stored, user)).catch(() => null);
  }

  /** Throws if the browser cannot delete it. */
  async delete(user: string): Promise<void> {
    if (typeof indexedDB !== "undefined") await this.#with("readwrite", (things) => things.delete(user));
  }

  async #with<Result>(
    mode: IDBTransactionMode,
    ask: (things: IDBObjectStore) => IDBRequest<Result>,
  ): Promise<Result> {
    const database = await new Promise<IDBDatabase>((resolve, reject) => {
      const opening = indexedDB.open(this.#name, 1);
      opening.onupgradeneeded = () => opening.result.createObjectStore(THINGS);
      opening.onerror = () => reject(opening.error);
      opening.onsuccess = () => resolve(opening.result);
    });
    try {
      return await new Promise((resolve, reject) => {
        const transaction = database.transaction(THINGS, mode);
        const request = ask(transaction.objectStore(THINGS));
        transaction.oncomplete = () => resolve(request.result);
        transaction.onabort = () => reject(transaction.error);
      });
    } finally {
      database.close();
    }
  }
}
