import type { Doubt, Mended, Verified } from "./api.js";
import { featuresBody } from "./body.js";
import { cheapCheck } from "./cheap_check.js";
import type { Client } from "./client.js";
import { compactDocument } from "./compact.js";
import { Core } from "./core.js";
import { coreCheck } from "./core_check.js";
import type { WalkDocument, WalkRead } from "./core.js";
import { DeviceStore } from "./device_store.js";
import type { StoredTemplate } from "./device_store.js";
import type { RequestOptions } from "./exchange.js";
import type { Check } from "./live_checks.js";
import { Problem, Unreachable } from "./problem.js";
import type { Recording } from "./recording.js";

/**
 * Who decides about a walk:
 * - `device`: this device alone, with a downloaded template
 * - `features`: the service, about features that this device computed. The walk stays here
 * - `recording`: the service, about the walk
 */
export type Path = "device" | "features" | "recording";

/** Why a path was not taken. */
export type Obstacle =
  | "no-webassembly"
  | "no-memory"
  | "no-model"
  | "other-model"
  | "no-template"
  | "expired-template"
  | "too-few-windows"
  | "not-allowed"
  | "implausible-features";

export interface DeviceOptions {
  /** Where `bipedalnet.wasm` is, or its bytes. The default is beside this package. */
  wasm?: string | URL | Uint8Array;
  /** The paths that may be taken, the best first. The default is all, in the order of `Path`. */
  paths?: Path[];
  /** Name of the database in the browser. */
  name?: string;
}

export interface DeviceVerifyOptions {
  /** The false match rate: 0.1, 0.01 or 0.001. The default is 0.01. */
  fmr?: number;
  signal?: AbortSignal;
}

/** A decision, and how it came about. */
export interface DeviceDecision {
  decision: Verified["decision"];
  reason: Doubt | null;
  fmr: number;
  windows: number;
  model: string;
  mended: Mended[];
  path: Path;
  /** Better paths, and why they were not taken. */
  passedOver: { path: Path; why: Obstacle }[];
}

/** Another path may be free. */
class Obstructed extends Error {
  constructor(readonly why: Obstacle) {
    super(why);
  }
}

const FEWEST_FEATURES = 8;
const DAY_MS = 86_400_000;
/** So often a device asks whether its template has changed or was revoked. */
const ASK_AGAIN_MS = 3_600_000;

/** Problems of features that a recording does not have. */
const OBSTACLES: Record<string, Obstacle> = {
  "missing-scope": "not-allowed",
  "beyond-token": "not-allowed",
  "other-model": "other-model",
  "implausible-features": "implausible-features",
};

/** Verifies the owner of a device, on the device if it can and may. */
export class Device {
  readonly #client: Client;
  readonly #user: string;
  readonly #store: DeviceStore;
  readonly #paths: Path[];
  readonly #wasm: NonNullable<DeviceOptions["wasm"]>;
  #module: WebAssembly.Module | null = null;
  #core: Core | Obstacle = "no-model";
  #file: Uint8Array | null = null;
  #template: StoredTemplate | null = null;
  #loading: Promise<void> | null = null;
  #refreshing: Promise<void> | null = null;
  #askedMs = 0;

  constructor(client: Client, user: string, options: DeviceOptions = {}) {
    const { wasm, paths = ["device", "features", "recording"], name = "bipedalnet-device" } = options;
    this.#client = client;
    this.#user = user;
    this.#store = new DeviceStore(name);
    this.#paths = paths;
    this.#wasm = wasm ?? new URL("../wasm/bipedalnet.wasm", import.meta.url);
  }

  /** For a `Recorder`: the service's own checks if this device has the core, or else the cheap ones. */
  readonly check: Check = (part) => (this.#core instanceof Core ? coreCheck(this.#core)(part) : cheapCheck(part));

  /** Loads what is stored, and asks the service for what is new. Best called when the page opens. */
  async prepare(options?: RequestOptions): Promise<void> {
    await this.#load();
    await this.refresh(options);
  }

  /** Asks the service for a newer template and its model. Deletes the template if it was revoked. */
  refresh(options?: RequestOptions): Promise<void> {
    this.#refreshing ??= this.#refresh(options).finally(() => (this.#refreshing = null));
    return this.#refreshing;
  }

  /** Deletes the template and the model from this device. */
  async forget(): Promise<void> {
    await this.#refreshing;
    [this.#template, this.#file, this.#core] = [null, null, "no-model"];
    await this.#store.delete(this.#user);
  }

  /**
   * Verifies a walk on the first path that is free.
   *
   * Throws a `Problem` if the walk is refused, and `Unreachable` if the service must decide and does not
   * answer.
   */
  async verify(recording: Recording, { fmr = 0.01, signal }: DeviceVerifyOptions = {}): Promise<DeviceDecision> {
    await this.#load();
    if (Date.now() - this.#askedMs > ASK_AGAIN_MS) void this.refresh().catch(() => {});
    const passedOver: DeviceDecision["passedOver"] = [];
    for (const path of this.#paths) {
      try {
        const decided = await this.#decide(path, recording, fmr, signal);
        return { ...decided, path, passedOver };
      } catch (error) {
        if (!(error instanceof Obstructed)) throw error;
        passedOver.push({ path, why: error.why });
      }
    }
    const reasons = passedOver.map(({ path, why }) => `${path}: ${why}`);
    throw new Unreachable(`no path is free (${reasons.join(", ")})`);
  }

  #decide(path: Path, recording: Recording, fmr: number, signal?: AbortSignal) {
    if (path === "device") return this.#decideHere(recording, fmr);
    return path === "features" ? this.#sendFeatures(recording, fmr, signal) : this.#send(recording, fmr, signal);
  }

  async #decideHere(recording: Recording, fmr: number) {
    const stored = this.#template;
    if (stored === null) throw new Obstructed("no-template");
    const ageMs = Date.now() - stored.confirmedMs;
    // A clock that was set back does not make a template valid again.
    if (ageMs < -DAY_MS || ageMs > stored.template.valid_days * DAY_MS) {
      this.#template = null;
      await this.#keep();
      throw new Obstructed("expired-template");
    }
    if (this.#core instanceof Core && this.#core.model !== stored.template.model) throw new Obstructed("other-model");
    const { core, read } = this.#read(compactDocument(recording));
    const { decision, reason, windows } = this.#guarded(() => core.verify(stored.template, fmr));
    return { decision, reason, fmr, windows, model: core.model, mended: read.mended };
  }

  async #sendFeatures(recording: Recording, fmr: number, signal?: AbortSignal) {
    const options = signal && { signal };
    try {
      const { challenge, model } = await this.#client.challenge(this.#user, options);
      await this.#renew(model, options);
      if (this.#core instanceof Core && this.#core.model !== model) throw new Obstructed("other-model");
      const { core, read } = this.#read(compactDocument(recording));
      if (read.windows < FEWEST_FEATURES) throw new Obstructed("too-few-windows");
      const body = await featuresBody(model, this.#guarded(() => core.features()));
      const verified = await this.#client.verify(this.#user, body, { fmr, challenge, ...options });
      return outcome(verified, read.mended);
    } catch (error) {
      const why = error instanceof Problem ? OBSTACLES[error.code] : undefined;
      throw why === undefined ? error : new Obstructed(why);
    }
  }

  async #send(recording: Recording, fmr: number, signal?: AbortSignal) {
    const verified = await this.#client.verify(this.#user, recording, { fmr, ...(signal && { signal }) });
    return outcome(verified, verified.mended ?? []);
  }

  #read(document: WalkDocument): { core: Core; read: WalkRead } {
    const core = this.#core;
    if (!(core instanceof Core)) throw new Obstructed(core);
    return { core, read: this.#guarded(() => core.read(document)) };
  }

  /** WebAssembly that has no memory left, or met a mistake, cannot be called again. */
  #guarded<Result>(work: () => Result): Result {
    try {
      return work();
    } catch (error) {
      if (error instanceof Problem) throw error;
      this.#core = "no-memory";
      throw new Obstructed("no-memory");
    }
  }

  #load(): Promise<void> {
    this.#loading ??= (async () => {
      const stored = await this.#store.read(this.#user);
      this.#template = stored?.template ?? null;
      if (stored?.model) await this.#start(stored.model);
    })();
    return this.#loading;
  }

  async #refresh(options: RequestOptions = {}): Promise<void> {
    await this.#load();
    if (!this.#paths.includes("device")) return;
    this.#askedMs = Date.now();
    const etag = this.#template?.etag;
    let template;
    try {
      const downloaded = await this.#client.template(this.#user, { ...options, ...(etag && { etag }) });
      template = { ...(downloaded ?? this.#template!), confirmedMs: Date.now() };
    } catch (error) {
      if (error instanceof Unreachable || (error instanceof Problem && !isRevocation(error))) return;
      if (!(error instanceof Problem)) throw error;
      this.#template = null;
      return this.#keep();
    }
    // Template and model change together, so that one fits the other at any time.
    try {
      await this.#use(template.template.model, options);
    } catch (error) {
      if (error instanceof Unreachable) return;
      throw error;
    }
    this.#template = template;
    await this.#keep();
  }

  /** Gets ready for the active model, and gets its template if there is one of another model. */
  async #renew(model: string, options?: RequestOptions): Promise<void> {
    if (this.#core instanceof Core && this.#core.model === model) return;
    if (this.#template) return this.refresh(options);
    await this.#use(model, options);
    await this.#keep();
  }

  async #keep(): Promise<void> {
    await this.#store.write(this.#user, { template: this.#template, model: this.#file });
  }

  async #use(model: string, options?: RequestOptions): Promise<void> {
    if (this.#core instanceof Core && this.#core.model === model) return;
    try {
      await this.#start(await this.#client.modelFile(model, options));
    } catch (error) {
      if (!(error instanceof Problem)) throw error;
      this.#core = "no-model";
    }
  }

  async #start(file: Uint8Array): Promise<void> {
    try {
      if (typeof WebAssembly === "undefined") throw new Obstructed("no-webassembly");
      this.#module ??= await compiled(this.#wasm);
      this.#core = new Core(await WebAssembly.instantiate(this.#module), file);
      this.#file = file;
    } catch (error) {
      this.#core = obstacleOf(error);
    }
  }
}

/** The service's answer. */
function outcome({ decision, reason = null, fmr, windows, model }: Verified, mended: Mended[]) {
  return { decision, reason, fmr, windows, model, mended };
}

/** Whether a template must not stay on the device. A token that ended says nothing about that. */
function isRevocation({ status, code }: Problem): boolean {
  return [401, 403, 404, 409].includes(status) && code !== "expired-token";
}

async function compiled(wasm: string | URL | Uint8Array): Promise<WebAssembly.Module> {
  if (wasm instanceof Uint8Array) return WebAssembly.compile(wasm as BufferSource);
  const response = await fetch(wasm);
  if (!response.ok) throw new Obstructed("no-webassembly");
  return WebAssembly.compile(await response.arrayBuffer());
}

function obstacleOf(error: unknown): Obstacle {
  if (error instanceof Obstructed) return error.why;
  if (error instanceof RangeError || error instanceof WebAssembly.RuntimeError) return "no-memory";
  // The file could not be fetched, or the browser does not know its instructions.
  if (error instanceof TypeError || error instanceof WebAssembly.CompileError) return "no-webassembly";
  return "no-model";
}
