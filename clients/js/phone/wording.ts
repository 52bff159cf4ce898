import type { Delay, Enrolled, Finding, Identified, Mended, Progress, ProblemDocument, Verified } from "../src/index.js";
import { Problem, QueueFull, RecorderError, Unreachable } from "../src/index.js";

export type Purpose = "enroll" | "verify" | "identify";

/** An answer for people. */
export interface Told {
  mood: "good" | "bad" | "neutral";
  text: string;
  detail: string;
}

/** Seconds to record, and what to do. */
export const PURPOSES: Record<Purpose, { seconds: number; text: string }> = {
  enroll: { seconds: 35, text: "Walk for 35 seconds, so that the service learns how you walk." },
  verify: { seconds: 12, text: "Walk for 12 seconds. The service checks that it is you." },
  identify: { seconds: 12, text: "Walk for 12 seconds. The service finds out who you are." },
};

/** Who decided about a walk. */
export const PATHS = {
  device: "Decided on this phone.",
  features: "Decided by the service. The walk stayed on this phone.",
  recording: "Decided by the service.",
  late: "Decided by the service, for a walk that waited.",
};

/** What to do about something that the recording lacks. */
const ADVICE: Record<string, string> = {
  "flat-sensor": "The motion sensor is stuck.",
  "gravity-units": "The sensor does not measure in m/s².",
  "implausible-gravity": "The sensor leaves gravity out: another browser may help.",
  "insecure-context": "Open this page with https. Browsers give motion only to secure pages.",
  "missing-samples": "The sensor pauses. Keep this page open, with the screen on.",
  "no-gyroscope": "This phone has no gyroscope. That is fine.",
  "no-sensor": "No motion arrives. Open this page on a phone, and allow motion sensors for it.",
  "no-steps": "These are no steps. Walk on level ground.",
  "permission-denied": "You did not allow the motion sensors. Allow them in the settings of this page, and try again.",
  "rate-too-low": "The sensor is too slow. Turn off battery saving, or try another browser.",
  "shaking": "This is too strong for walking. Put the phone in a pocket.",
  "slow-sensor": "The sensor is too slow. Turn off battery saving, or try another browser.",
  "standing-still": "You stand still. Walk.",
  "too-short": "Keep walking.",
};

const DOUBTS = {
  ambiguous: "Several people walk like this.",
  mirrored: "The walk is the mirror image of an enrolled one: it was enrolled with another kind of phone.",
  too_short: "Walk again: the walks count together.",
  unfamiliar: "The movement is unusual. Walk on level ground, at your usual pace, with the phone in a pocket.",
};

export function advice({ reason, detail }: Finding): string {
  return ADVICE[reason] ?? detail;
}

export function progressText({ percent, status, nextStep }: Progress): string {
  if (status === "collecting") return `${percent} % enrolled`;
  return nextStep === "walk_another_time"
    ? "Enrolled. A walk on another day, or in other shoes, would help."
    : "Enrolled";
}

export function enrolled({ windows_accepted, windows_refused, mended, windows_missing }: Enrolled): Told {
  const seconds = windows_missing + 1;
  const left = windows_missing === 0 ? "That is enough." : `About ${seconds} more seconds of walking are needed.`;
  const refused = windows_refused.map(({ windows, detail }) => `${windows} s left out: ${detail}.`);
  return {
    mood: windows_accepted > 0 ? "good" : "neutral",
    text: `${windows_accepted} s of walking learned`,
    detail: [left, ...refused, ...mendedText(mended)].join(" "),
  };
}

type Decision = Pick<Verified, "decision" | "user" | "reason" | "windows" | "fmr" | "mended">;

export function verified({ decision, user, reason, windows, fmr, mended }: Decision): Told {
  const basis = `From ${windows} s of walking, at a false match rate of ${fmr * 100} %.`;
  const told = (mood: Told["mood"], text: string, detail: string): Told => ({
    mood,
    text,
    detail: [detail, ...mendedText(mended)].join(" "),
  });
  switch (decision) {
    case "accept":
      return told("good", `Yes, this is ${user}`, basis);
    case "reject":
      return told("bad", `This does not walk like ${user}`, basis);
    case "suspected_replay":
      return told("bad", "This walk was sent before", "Record a new one.");
    case "inconclusive":
      return told("neutral", "Not sure yet", reason ? DOUBTS[reason] : basis);
  }
}

export function identified({ decision, user, reason, windows, mended }: Identified): Told {
  const basis = [`From ${windows} s of walking.`, ...mendedText(mended)].join(" ");
  switch (decision) {
    case "identified":
      return { mood: "good", text: `This is ${user}`, detail: basis };
    case "unknown":
      return { mood: "bad", text: "Nobody known walks like this", detail: basis };
    case "inconclusive":
      return { mood: "neutral", text: "Not sure", detail: reason ? DOUBTS[reason] : basis };
  }
}

export function refused({ title, detail }: ProblemDocument): Told {
  return { mood: "bad", text: title, detail: detail ? capitalised(detail) : "" };
}

/** Anything that went wrong. */
export function failure(error: unknown): Told {
  if (error instanceof Problem) return refused(error.document);
  if (error instanceof Unreachable) return { mood: "neutral", text: "The service cannot be reached", detail: "Try again later." };
  if (error instanceof RecorderError) {
    return { mood: "bad", text: "There is no recording", detail: ADVICE[error.reason] ?? error.message };
  }
  if (error instanceof QueueFull) {
    return { mood: "bad", text: "The walk could not be kept", detail: `${capitalised(error.message)}, and the service cannot be reached.` };
  }
  return { mood: "bad", text: "Something went wrong", detail: capitalised(String((error as Error)?.message ?? error)) };
}

export function delayed({ problem, retryInSeconds }: Delay): string {
  if (problem?.status === 401) return "The token is no longer valid. Get a new one.";
  const reason = problem ? capitalised(problem.detail ?? problem.title) : "The service cannot be reached";
  const minutes = Math.ceil(retryInSeconds / 60);
  return `${reason}. The next try is in ${retryInSeconds < 90 ? `${Math.ceil(retryInSeconds)} seconds` : `${minutes} minutes`}.`;
}

function mendedText(mended: Mended[] = []): string[] {
  return mended.map(({ detail }) => `${capitalised(detail)}.`);
}

function capitalised(text: string): string {
  return text.charAt(0).toUpperCase() + text.slice(1);
}
