import { cheapCheck } from "./cheap_check.js";
import type { Core } from "./core.js";
import { blocking } from "./live_checks.js";
import type { Check } from "./live_checks.js";
import { Problem } from "./problem.js";

/** The service's own checks, for a `Recorder`. */
export function coreCheck(core: Core): Check {
  return (part) => {
    const { timeSeconds, acceleration, angularRate, atRest } = part;
    try {
      core.read({
        time_seconds: timeSeconds,
        acceleration,
        acceleration_at_rest: atRest,
        ...(angularRate && { angular_rate: angularRate }),
      });
      return null;
    } catch (error) {
      // WebAssembly that has no memory left must not end a recording.
      return error instanceof Problem ? blocking(error.code, error.message) : cheapCheck(part);
    }
  };
}
