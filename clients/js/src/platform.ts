import type { Recording } from "./recording.js";

/** Why a page cannot record. */
export type Obstacle = "insecure-context" | "no-sensor";

/** What keeps this page from recording, or `null`. A desktop computer may have the events but no sensor. */
export function obstacle(): Obstacle | null {
  if (!globalThis.isSecureContext) return "insecure-context";
  return typeof DeviceMotionEvent === "undefined" ? "no-sensor" : null;
}

/** Asks for the sensor, if the browser wants that. iOS shows a dialog, and only if a tap led here. */
export function permitMotion(): Promise<boolean> | null {
  const { requestPermission } = DeviceMotionEvent as unknown as { requestPermission?: () => Promise<string> };
  if (requestPermission === undefined) return null;
  return requestPermission.call(DeviceMotionEvent).then(
    (answer) => answer === "granted",
    () => false,
  );
}

/** All browsers of iOS use WebKit, which turns the sign of the acceleration. */
export function signAtRest(): Recording["atRest"] {
  const { userAgent, platform, maxTouchPoints } = navigator;
  const isIos = /iPhone|iPad|iPod/.test(userAgent) || (platform === "MacIntel" && maxTouchPoints > 1);
  return isIos ? "down" : "up";
}
