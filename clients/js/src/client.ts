import type { Challenge, Consent, Enrolled, Identified, User, Verified } from "./api.js";
import { jsonBody, walkBody } from "./body.js";
import type { Body } from "./body.js";
import type { DeviceTemplate } from "./core.js";
import { Emitter } from "./events.js";
import { Exchange } from "./exchange.js";
import type { ClientOptions, RequestOptions } from "./exchange.js";
import type { Recording } from "./recording.js";

/** A recording, or what `walkBody` made of it. */
export type Walk = Recording | Body;

export interface EnrollOptions extends RequestOptions {
  /** Create the user with the first walk. A user token cannot. The default is `false`. */
  createUser?: boolean;
  /** For an admin: enroll the walk although it is unlike the earlier ones. */
  confirmed?: boolean;
}

export interface VerifyOptions extends RequestOptions {
  /** The false match rate: 0.1, 0.01 or 0.001. The service's default is 0.01. */
  fmr?: number;
  /** Walks of one session count together. */
  session?: string;
  challenge?: string;
}

export interface IdentifyOptions extends RequestOptions {
  /** Compare with these users only: at least 5. */
  among?: string[];
}

/** How far the enrollment of a user is. */
export interface Progress {
  user: string;
  /** 0 to 100, rounded down: "63 % enrolled". */
  percent: number;
  status: User["status"];
  windowsMissing: number;
  nextStep: User["next_step"] | null;
}

export interface ClientEvents {
  /** After each response that tells it. */
  progress: Progress;
}

/**
 * The requests of a phone or a web page. They are retried until the deadline, and count once.
 *
 * They throw `Problem` if the service refuses, `Unreachable` if it does not answer in time, and the
 * signal's reason if it was aborted.
 */
export class Client extends Emitter<ClientEvents> {
  readonly #exchange: Exchange;

  constructor(options: ClientOptions = {}) {
    super();
    this.#exchange = new Exchange(options);
  }

  async enroll(user: string, walk: Walk, options: EnrollOptions = {}): Promise<Enrolled> {
    const { createUser, confirmed, ...request } = options;
    const enrolled = await this.#exchange.send({
      ...request,
      method: "POST",
      path: `${userPath(user)}/enrollments`,
      query: { create_user: createUser || undefined, confirmed },
      body: await bodyOf(walk),
    });
    return this.#told(enrolled as Enrolled);
  }

  async verify(user: string, walk: Walk, options: VerifyOptions = {}): Promise<Verified> {
    const { fmr, session, challenge, ...request } = options;
    const verified = await this.#exchange.send({
      ...request,
      method: "POST",
      path: `${userPath(user)}/verify`,
      query: { fmr, session, challenge },
      body: await bodyOf(walk),
    });
    return verified as Verified;
  }

  async identify(walk: Walk, options: IdentifyOptions = {}): Promise<Identified> {
    const { among, ...request } = options;
    const identified = await this.#exchange.send({
      ...request,
      method: "POST",
      path: "/v1/identify",
      query: { among: among?.join(",") },
      body: await bodyOf(walk),
    });
    return identified as Identified;
  }

  async user(user: string, options: RequestOptions = {}): Promise<User> {
    return this.#told((await this.#exchange.send({ ...options, method: "GET", path: userPath(user) })) as User);
  }

  async createUser(user: string, consent?: Consent, options: RequestOptions = {}): Promise<User> {
    const body = consent && { body: await jsonBody({ consent }) };
    const created = await this.#exchange.send({ ...options, ...body, method: "PUT", path: userPath(user) });
    return this.#told(created as User);
  }

  /** Erases everything that the service knows about the user. */
  async deleteUser(user: string, options: RequestOptions = {}): Promise<void> {
    await this.#exchange.send({ ...options, method: "DELETE", path: userPath(user) });
  }

  /** Creates a challenge for one verification, to be answered within two minutes. */
  async challenge(user: string, options: RequestOptions = {}): Promise<Challenge> {
    const path = `${userPath(user)}/challenges`;
    return (await this.#exchange.send({ ...options, method: "POST", path })) as Challenge;
  }

  /** What a device needs to verify its user. `null` if it has not changed since the download with `etag`. */
  async template(
    user: string,
    { etag, ...options }: RequestOptions & { etag?: string } = {},
  ): Promise<{ template: DeviceTemplate; etag: string } | null> {
    const downloaded = await this.#exchange.send({
      ...options,
      method: "GET",
      path: `${userPath(user)}/template`,
      ...(etag && { headers: { "if-none-match": etag } }),
      receive: async (response) =>
        response.status === 304
          ? null
          : { template: await response.json(), etag: response.headers.get("etag") ?? "" },
    });
    return downloaded as { template: DeviceTemplate; etag: string } | null;
  }

  /** The file of a model, for `Core`. */
  async modelFile(model: string, options: RequestOptions = {}): Promise<Uint8Array> {
    const file = await this.#exchange.send({
      ...options,
      method: "GET",
      path: `/v1/models/${encodeURIComponent(model)}/file`,
      headers: { accept: "application/octet-stream" },
      receive: async (response) => new Uint8Array(await response.arrayBuffer()),
    });
    return file as Uint8Array;
  }

  #told<Answer extends User>(answer: Answer): Answer {
    this.emit("progress", {
      user: answer.user,
      percent: Math.floor(answer.progress * 100 + 1e-9),
      status: answer.status,
      windowsMissing: answer.windows_missing,
      nextStep: answer.next_step ?? null,
    });
    return answer;
  }
}

function userPath(user: string): string {
  return `/v1/users/${encodeURIComponent(user)}`;
}

async function bodyOf(walk: Walk): Promise<Body> {
  return "bytes" in walk ? walk : walkBody(walk);
}
