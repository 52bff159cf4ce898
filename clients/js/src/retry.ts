const FIRST_SECONDS = 1;
const LONGEST_SECONDS = 60;

/** Exponential back-off with full jitter: phones that lost the network together come back one by one. */
export function backOffSeconds(failures: number, random: () => number = Math.random): number {
  return random() * Math.min(LONGEST_SECONDS, FIRST_SECONDS * 2 ** failures);
}

/** Seconds of a `Retry-After` header, which has a number or a date. */
export function retryAfterSeconds(header: string | null, nowMs = Date.now()): number | null {
  if (header === null) return null;
  const seconds = /^\s*\d+\s*$/.test(header) ? Number(header) : (Date.parse(header) - nowMs) / 1000;
  return Number.isFinite(seconds) ? Math.max(0, seconds) : null;
}

/** Waits, unless the signal ends it with its reason. `online` ends it too if the network is what lacks. */
export function pause(seconds: number, signal: AbortSignal, untilOnline: boolean): Promise<void> {
  return new Promise((resolve, reject) => {
    signal.throwIfAborted();
    const waiting = new AbortController();
    const end = (settle: () => void) => () => {
      waiting.abort();
      clearTimeout(timer);
      settle();
    };
    const timer = setTimeout(end(resolve), seconds * 1000);
    signal.addEventListener("abort", end(() => reject(signal.reason)), { signal: waiting.signal });
    if (untilOnline) globalThis.addEventListener?.("online", end(resolve), { signal: waiting.signal });
  });
}
