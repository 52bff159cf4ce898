/** The tabs of one page that share a queue. */
export class Tabs<Events extends object> {
  readonly #name: string;
  readonly #channel: BroadcastChannel | null;

  /** `hear` is called with the events that other tabs tell. */
  constructor(name: string, hear: <Name extends keyof Events & string>(name: Name, detail: Events[Name]) => void) {
    this.#name = `bipedalnet-queue-${name}`;
    this.#channel = typeof BroadcastChannel === "undefined" ? null : new BroadcastChannel(this.#name);
    this.#channel?.addEventListener("message", ({ data }) => hear(data.name, data.detail));
  }

  tell<Name extends keyof Events & string>(name: Name, detail: Events[Name]): void {
    this.#channel?.postMessage({ name, detail });
  }

  /** Runs `work` while no other tab does. Without locks, a key that is sent twice still counts once. */
  async alone(signal: AbortSignal, work: () => Promise<void>): Promise<void> {
    if (!navigator.locks) return work();
    await navigator.locks.request(this.#name, { signal }, work);
  }

  close(): void {
    this.#channel?.close();
  }
}
