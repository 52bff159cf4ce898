import type { Account } from "./account.js";
import { mayHave, userOf } from "./account.js";
import type { Enrolled, Recording, Verified, Waiting } from "../src/index.js";
import { Client, Device, Queue, Unreachable } from "../src/index.js";
import { enrolled, identified, PATHS, refused, verified } from "./wording.js";
import type { Purpose, Told } from "./wording.js";

const DEADLINE_SECONDS = 20;
const SCOPES = { device: "template", features: "features" };

/** What happened to a walk, and who decided it. */
export interface Outcome {
  told: Told;
  path: string;
}

/**
 * Sends the walks of one user. Enrollments and verifications pass the queue, so that none is lost if the
 * tab is closed. An identification is of no use later.
 */
export class Sender {
  readonly client: Client;
  readonly queue: Queue;
  /** Decides verifications on this phone, if the service allows it. */
  readonly device: Device;
  readonly #user: string;
  readonly #createUser: boolean;
  /** Verifications count together until one is decided. */
  #session = crypto.randomUUID();
  #newest = "";

  constructor({ user, token }: Account, tell: (outcome: Outcome) => void) {
    this.#user = user;
    this.#createUser = userOf(token) === null;
    this.client = new Client({ deadlineSeconds: DEADLINE_SECONDS, ...(token && { token }) });
    // Another user's token could not send these walks.
    this.queue = new Queue(this.client, { name: `bipedalnet-phone-${user}` });
    const paths = (["device", "features"] as const).filter((path) => mayHave(SCOPES[path], token));
    this.device = new Device(this.client, user, { wasm: "/phone/bipedalnet.wasm", paths: [...paths], name: "bipedalnet-phone-device" });
    const pathOf = ({ key }: Waiting) => (key === this.#newest ? PATHS.recording : PATHS.late);
    this.queue.on("sent", ({ entry, answer }) => {
      const isEnrolled = entry.purpose === "enroll";
      tell({ told: isEnrolled ? enrolled(answer as Enrolled) : this.#verified(answer as Verified), path: pathOf(entry) });
      // The template has changed.
      if (isEnrolled) void this.device.refresh();
    });
    this.queue.on("refused", ({ entry, problem }) => tell({ told: refused(problem), path: pathOf(entry) }));
    this.queue.on("expired", () => {
      tell({ told: { mood: "bad", text: "A walk waited too long", detail: "It was deleted. Record a new one." }, path: "" });
    });
  }

  /** Returns the answer if it came at once, or `null` if the queue has the walk and tells the answer. */
  async send(purpose: Purpose, walk: Recording): Promise<Outcome | null> {
    if (purpose === "identify") return { told: identified(await this.client.identify(walk)), path: PATHS.recording };
    const here = purpose === "verify" ? await this.#decidedHere(walk) : null;
    if (here !== null) return here;
    const enrollOptions = { createUser: this.#createUser };
    const verifyOptions = { session: this.#session };
    try {
      this.#newest =
        purpose === "enroll"
          ? await this.queue.enroll(this.#user, walk, enrollOptions)
          : await this.queue.verify(this.#user, walk, verifyOptions);
      return null;
    } catch (noRoom) {
      // Without room, the walk must be sent now.
      try {
        const told =
          purpose === "enroll"
            ? enrolled(await this.client.enroll(this.#user, walk, enrollOptions))
            : this.#verified(await this.client.verify(this.#user, walk, verifyOptions));
        return { told, path: PATHS.recording };
      } catch (error) {
        throw error instanceof Unreachable ? noRoom : error;
      }
    }
  }

  /** The answer without the recording, or `null` if the service must have it. */
  async #decidedHere(walk: Recording): Promise<Outcome | null> {
    try {
      const decided = await this.device.verify(walk);
      // The service knows more: it counts the walks of a session together.
      if (decided.path === "device" && decided.decision === "inconclusive") return null;
      return { told: verified({ ...decided, user: this.#user }), path: PATHS[decided.path] };
    } catch (error) {
      if (error instanceof Unreachable) return null;
      throw error;
    }
  }

  #verified(answer: Verified): Told {
    if (answer.decision !== "inconclusive") this.#session = crypto.randomUUID();
    return verified(answer);
  }
}
