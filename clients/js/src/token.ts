/**
 * A user token, or a function that gets one from your backend. It is called again, with the token that no
 * longer works, after a 401.
 */
export type Token = string | ((previous: string | null) => string | Promise<string>);

/** The token of a client. Requests that need a new one at the same time share it. */
export class TokenSource {
  readonly #token: Token | undefined;
  #current: string | null = null;
  #renewal: Promise<string> | null = null;

  constructor(token: Token | undefined) {
    this.#token = token;
  }

  async current(): Promise<string | null> {
    if (typeof this.#token !== "function") return this.#token ?? null;
    return this.#current ?? this.#renewed(null);
  }

  /** Another token than the one that was refused, or `null`. */
  async instead(refused: string | null): Promise<string | null> {
    if (typeof this.#token !== "function") return null;
    const token = this.#current === refused ? await this.#renewed(refused) : await this.current();
    return token === refused ? null : token;
  }

  #renewed(previous: string | null): Promise<string> {
    const token = this.#token as (previous: string | null) => string | Promise<string>;
    this.#renewal ??= (async () => {
      try {
        return (this.#current = await token(previous));
      } finally {
        this.#renewal = null;
      }
    })();
    return this.#renewal;
  }
}
