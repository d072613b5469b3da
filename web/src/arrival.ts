// How a session of Matrix is come by and kept up, for the pages that stand by themselves.

import type { Tokens } from "./api.ts";
import { keepSession, type MatrixSession, signInWithToken } from "./session.ts";

/** The tokens of a session. When there are no more the person has to sign in again. */
export function tokensOf(session: MatrixSession, over: () => void): Tokens {
  let now = session;
  let renewing: Promise<boolean> | null = null;
  const tokens: Tokens = {
    token: session.token,
    renew: () => {
      renewing ??= (async () => {
        const next = now.oauth === undefined ? null : await (await import("./oauth.ts")).renew(now);
        if (next === null) {
          over();
          return false;
        }
        now = next;
        keepSession(next);
        tokens.token = next.token;
        return true;
      })().finally(() => {
        renewing = null;
      });
      return renewing;
    },
  };
  return tokens;
}

const PLACE = "superapp.place";

/** Before one goes to another page to sign in: where one wanted to be. */
export function rememberPlace(): void {
  sessionStorage.setItem(PLACE, location.hash);
}

/** Back from another page with the second half of a sign-in; it leaves the address before anything is done with it. */
export async function comingBack(): Promise<MatrixSession | null> {
  const query = new URLSearchParams(location.search);
  if (![...query.keys()].some((key) => ["code", "error", "loginToken"].includes(key))) return null;
  const place = sessionStorage.getItem(PLACE) ?? "";
  sessionStorage.removeItem(PLACE);
  history.replaceState(null, "", location.pathname + (location.hash === "" ? place : location.hash));
  const loginToken = query.get("loginToken");
  const session =
    loginToken === null ? await (await import("./oauth.ts")).finish(query) : await signInWithToken(loginToken);
  keepSession(session);
  return session;
}
