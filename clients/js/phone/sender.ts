import type { Account } from "./account.js";
import { userOf } from "./account.js";
import type { Enrolled, Recording, Verified } from "../src/index.js";
import { Client, Queue, Unreachable } from "../src/index.js";
import { enrolled, identified, refused, verified } from "./wording.js";
import type { Purpose, Told } from "./wording.js";

const DEADLINE_SECONDS = 20;

/** What happened to a walk. */
export interface Outcome {
  told: Told;
  /** Whether the answer came at once. */
  isLate: boolean;
}

/**
 * Sends the walks of one user. Enrollments and verifications pass the queue, so that none is lost if the
 * tab is closed. An identification is of no use later.
 */
export class Sender {
  readonly client: Client;
  readonly queue: Queue;
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
    this.queue.on("sent", ({ entry, answer }) => {
      const told = entry.purpose === "enroll" ? enrolled(answer as Enrolled) : this.#verified(answer as Verified);
      tell({ told, isLate: entry.key !== this.#newest });
    });
    this.queue.on("refused", ({ entry, problem }) => tell({ told: refused(problem), isLate: entry.key !== this.#newest }));
    this.queue.on("expired", () => {
      tell({ told: { mood: "bad", text: "A walk waited too long", detail: "It was deleted. Record a new one." }, isLate: true });
    });
  }

  /** Returns the answer if it came at once, or `null` if the queue has the walk and tells the answer. */
  async send(purpose: Purpose, walk: Recording): Promise<Told | null> {
    if (purpose === "identify") return identified(await this.client.identify(walk));
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
        return purpose === "enroll"
          ? enrolled(await this.client.enroll(this.#user, walk, enrollOptions))
          : this.#verified(await this.client.verify(this.#user, walk, verifyOptions));
      } catch (error) {
        throw error instanceof Unreachable ? noRoom : error;
      }
    }
  }

  #verified(answer: Verified): Told {
    if (answer.decision !== "inconclusive") this.#session = crypto.randomUUID();
    return verified(answer);
  }
}
