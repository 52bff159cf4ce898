import { chromium } from "playwright-core";

/** Starts Chromium without a window. */
export function startBrowser() {
  const quiet = ["--disable-background-networking", "--disable-component-update", "--disable-sync", "--no-first-run"];
  return chromium.launch({
    executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium",
    args: ["--no-sandbox", "--disable-gpu", "--disable-quic", ...quiet],
  });
}

/** A tab whose pages can play walks as motion events. */
export async function blankTab(context) {
  const tab = await context.newPage();
  await tab.addInitScript(instruments);
  return tab;
}

/** Opens the site, which has the package. */
export async function openTab(context, url) {
  const tab = await blankTab(context);
  await tab.goto(url);
  await tab.waitForFunction(() => window.bipedalnet !== undefined);
  return tab;
}

/** Runs in each page. */
function instruments() {
  /** Dispatches an event for each sample, with the time stamps of a phone that counts from `startMs`. */
  window.play = (walk, { startMs = 1000, gyroscope = true, stamp = (ms) => ms } = {}) => {
    const degrees = 180 / Math.PI;
    walk.timeSeconds.forEach((time, at) => {
      const [x, y, z] = walk.acceleration[at];
      const rates = gyroscope && walk.angularRate?.[at];
      const event = new DeviceMotionEvent("devicemotion", {
        accelerationIncludingGravity: { x, y, z },
        ...(rates && { rotationRate: { alpha: rates[0] * degrees, beta: rates[1] * degrees, gamma: rates[2] * degrees } }),
        interval: 20,
      });
      Object.defineProperty(event, "timeStamp", { value: stamp(startMs + time * 1000, at) });
      dispatchEvent(event);
    });
  };
  window.setHidden = (hidden) => {
    Object.defineProperty(document, "hidden", { value: hidden, configurable: true });
    document.dispatchEvent(new Event("visibilitychange"));
  };
  /** Begins to record. `ended` resolves to the result; it is wrapped so that `await` does not wait for it. */
  window.begin = async (recorder, signal) => {
    const started = new Promise((resolve) => recorder.on("started", resolve));
    const ended = window.settled(recorder.record(signal));
    await Promise.race([started, ended]);
    return { ended };
  };
  /** A promise's result or the fields of its error. */
  window.settled = (promise) =>
    promise.then(
      (value) => ({ value }),
      ({ name, message, reason, code, type, status }) => ({ error: { name, message, reason, code, type, status } }),
    );
}
