// Who is signed in, and how. A Matrix session may do everything and is kept by the browser; a widget's session is ours,
// only reads, and is gone with the page.

import { type Json, matrix, NOBODY } from "./api.ts";
import { Problem } from "./problem.ts";

export interface MatrixSession {
  kind: "matrix";
  userId: string;
  deviceId: string;
  token: string;
  /** Where the homeserver delegates sign-in: how to get the next token, and how to end the session. */
  oauth?: OAuthSession;
}

export interface OAuthSession {
  refreshToken: string;
  clientId: string;
  tokenEndpoint: string;
  revocationEndpoint?: string;
}

export interface WidgetSession {
  kind: "widget";
  userId: string;
  token: string;
  expiresMs: number;
}

export type Session = MatrixSession | WidgetSession;

const STORED = "superapp.session";
const ENDED = "superapp.session-ended";

export function storedSession(): MatrixSession | null {
  try {
    const found = JSON.parse(localStorage.getItem(STORED) ?? "null") as MatrixSession | null;
    return found?.kind === "matrix" && found.token !== "" ? found : null;
  } catch {
    return null;
  }
}

export function keepSession(session: MatrixSession | null): void {
  localStorage.removeItem(ENDED);
  if (session === null) localStorage.removeItem(STORED);
  else localStorage.setItem(STORED, JSON.stringify(session));
}

/** The homeserver knows the session no more: whoever comes back later is told why there is none. */
export function dropSession(): void {
  keepSession(null);
  localStorage.setItem(ENDED, "yes");
}

export function sessionEnded(): boolean {
  return localStorage.getItem(ENDED) !== null;
}

/** How people sign in here. */
export interface SignInWays {
  password: boolean;
  sso: boolean;
  delegated: boolean;
}

export async function signInWays(): Promise<SignInWays> {
  // A homeserver that delegates sign-in may have no other way, and one that does not has nothing to say of it.
  const unless = <T>(otherwise: T) => {
    return (problem: unknown): T => {
      if (problem instanceof Problem && problem.unheard) throw problem;
      return otherwise;
    };
  };
  const [flows, delegated] = await Promise.all([
    matrix(NOBODY, "GET", "v3/login")
      .then((found) => (found.flows as { type: string }[]).map((flow) => flow.type))
      .catch(unless<string[]>([])),
    matrix(NOBODY, "GET", "v1/auth_metadata").then(() => true, unless(false)),
  ]);
  return {
    password: flows.includes("m.login.password") && !delegated,
    sso: flows.includes("m.login.sso") && !delegated,
    delegated,
  };
}

export const DEVICE_NAME = "Super App";

export async function signIn(name: string, password: string): Promise<MatrixSession> {
  return logIn({ type: "m.login.password", identifier: { type: "m.id.user", user: name }, password });
}

/** The other half of single sign-on: the token that the homeserver sent back with. */
export async function signInWithToken(token: string): Promise<MatrixSession> {
  return logIn({ type: "m.login.token", token });
}

async function logIn(body: Json): Promise<MatrixSession> {
  const answer = await matrix(NOBODY, "POST", "v3/login", { ...body, initial_device_display_name: DEVICE_NAME });
  return {
    kind: "matrix",
    userId: String(answer.user_id),
    deviceId: String(answer.device_id),
    token: String(answer.access_token),
  };
}

/** End it on the homeserver. It is forgotten here even if nobody answers. */
export async function signOut(session: MatrixSession): Promise<void> {
  keepSession(null);
  try {
    if (session.oauth !== undefined) await (await import("./oauth.ts")).revoke(session.oauth);
    else await matrix({ ...NOBODY, token: session.token }, "POST", "v3/logout", {});
  } catch {
    // The homeserver ends sessions that nobody uses; there is nothing more to do from here.
  }
}
