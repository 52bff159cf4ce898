/** Who uses the page. */
export interface Account {
  user: string;
  /** A user token, an API key, or nothing if the service needs none. */
  token: string;
}

const STORED = "bipedalnet-account";
const TOKEN = /^bpu_[^_]+_([^_]+)_\d+_[^_]+_(.+)$/;

/**
 * The account of the address `/phone#user=ann&token=...`, or of this tab. The fragment never reaches a
 * server, and leaves the address at once.
 */
export function rememberedAccount(): Account | null {
  const given = new URLSearchParams(location.hash.slice(1));
  if (location.hash !== "") history.replaceState(null, "", location.pathname);
  const token = given.get("token") ?? "";
  const user = given.get("user") ?? userOf(token);
  if (user === null) return JSON.parse(sessionStorage.getItem(STORED) ?? "null") as Account | null;
  const account = { user, token };
  rememberAccount(account);
  return account;
}

export function rememberAccount(account: Account): void {
  sessionStorage.setItem(STORED, JSON.stringify(account));
}

export function forgetAccount(): void {
  sessionStorage.removeItem(STORED);
}

/** The user whom a token is for. */
export function userOf(token: string): string | null {
  return TOKEN.exec(token)?.[2] ?? null;
}

/** Whether a token or key may have a scope. A key does not say which it has. */
export function mayHave(scope: string, token: string): boolean {
  const scopes = TOKEN.exec(token)?.[1];
  return scopes === undefined || scopes.split(".").includes(scope);
}
