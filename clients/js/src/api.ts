/** The bodies of the service's responses. `docs/api.md` of the project describes them. */

export interface User {
  user: string;
  /** Absent if it is `default`. */
  collection?: string;
  status: "collecting" | "ready";
  /** Windows of walking that the service knows. */
  windows: number;
  windows_missing: number;
  /** From 0 to 1, which is `ready`. */
  progress: number;
  enrollments: number;
  occasions: number;
  next_step?: "walk_more" | "walk_another_time";
  created_at_unix_seconds: number;
  last_active_at_unix_seconds: number;
  consent?: Consent | null;
}

export interface Consent {
  /** 1 to 200 characters. */
  reference: string;
  given_at_unix_seconds?: number;
}

export interface Enrolled extends User {
  enrollment: number;
  windows_accepted: number;
  windows_refused: { type: string; detail: string; windows: number }[];
  mended?: Mended[];
}

export interface Mended {
  fault: string;
  detail: string;
}

export type Doubt = "too_short" | "unfamiliar" | "ambiguous" | "mirrored";

export interface Verified {
  decision: "accept" | "reject" | "inconclusive" | "suspected_replay";
  user: string;
  /** Why the decision is inconclusive. */
  reason?: Doubt | null;
  /** The enrolled walk that was sent again. */
  enrollment?: number | null;
  fmr: number;
  windows: number;
  /** Only with the scope `scores`. */
  score?: number | null;
  estimated_fmr?: number | null;
  calibration: "model" | "gallery";
  model: string;
  mended?: Mended[];
}

export interface Identified {
  decision: "identified" | "unknown" | "inconclusive";
  user?: string | null;
  reason?: Doubt | null;
  candidates: { user: string; score?: number | null; estimated_fmr?: number | null }[];
  windows: number;
  calibration: "model" | "gallery";
  model: string;
  mended?: Mended[];
}

export interface Challenge {
  challenge: string;
  expires_in_seconds: number;
  /** The active model, which features must be from. */
  model: string;
}
