/** Keeps the screen on. A phone that is locked gives no samples. */
export class ScreenLock {
  #lock: WakeLockSentinel | null = null;
  #released = false;

  /** Holds or, after the page was hidden, holds again. Without support or permission, does nothing. */
  async hold(): Promise<void> {
    const lock = await navigator.wakeLock?.request("screen").catch(() => null);
    if (!lock) return;
    const earlier = this.#released ? lock : this.#lock;
    if (!this.#released) this.#lock = lock;
    await earlier?.release();
  }

  release(): void {
    this.#released = true;
    void this.#lock?.release();
  }
}
