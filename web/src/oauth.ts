// Signing in where the homeserver delegates it (OAuth 2.0 API of the Matrix specification): authorization code with PKCE.
//
// Loaded only there. What must outlive the way to the other page and back stands in sessionStorage.

import { type Json, matrix, NOBODY } from "./api.ts";
import { asProblem, Problem, problemOf } from "./problem.ts";
import { DEVICE_NAME, type MatrixSession, type OAuthSession } from "./session.ts";
import { t } from "./text/index.ts";

const PENDING = "superapp.oauth";
const ANSWERED_MS = 45_000;
const API_SCOPE = "urn:matrix:client:api:*";
const DEVICE_SCOPE = "urn:matrix:client:device:";

interface Pending {
  state: string;
  verifier: string;
  deviceId: string;
  clientId: string;
  tokenEndpoint: string;
  revocationEndpoint?: string;
}

/** This page, without query and fragment: where the other page sends people back to. */
function here(): string {
  return location.origin + location.pathname;
}

export function random(bytes: number): string {
  return base64url(crypto.getRandomValues(new Uint8Array(bytes)));
}

export function base64url(bytes: Uint8Array): string {
  return btoa(String.fromCharCode(...bytes))
    .replaceAll("+", "-")
    .replaceAll("/", "_")
    .replace(/=+$/, "");
}

/** What PKCE sends first, of the secret that it shows later (RFC 7636). */
export async function challengeOf(verifier: string): Promise<string> {
  return base64url(new Uint8Array(await crypto.subtle.digest("SHA-256", new TextEncoder().encode(verifier))));
}

/** Where to send the person, with all that must come back. */
export async function begin(): Promise<string> {
  const metadata = await matrix(NOBODY, "GET", "v1/auth_metadata");
  const client = await post(String(metadata.registration_endpoint), {
    client_name: DEVICE_NAME,
    client_uri: here(),
    redirect_uris: [here()],
    response_types: ["code"],
    grant_types: ["authorization_code", "refresh_token"],
    token_endpoint_auth_method: "none",
    application_type: "web",
  });
  const pending: Pending = {
    state: random(16),
    verifier: random(48),
    deviceId: random(9),
    clientId: String(client.client_id),
    tokenEndpoint: String(metadata.token_endpoint),
    ...(typeof metadata.revocation_endpoint === "string" ? { revocationEndpoint: metadata.revocation_endpoint } : {}),
  };
  sessionStorage.setItem(PENDING, JSON.stringify(pending));
  const url = new URL(String(metadata.authorization_endpoint));
  const asked = {
    response_type: "code",
    response_mode: "query",
    client_id: pending.clientId,
    redirect_uri: here(),
    scope: `${API_SCOPE} ${DEVICE_SCOPE}${pending.deviceId}`,
    state: pending.state,
    code_challenge: await challengeOf(pending.verifier),
    code_challenge_method: "S256",
  };
  for (const [name, value] of Object.entries(asked)) url.searchParams.set(name, value);
  return url.href;
}

/** The session, from what the other page sent back. */
export async function finish(answer: URLSearchParams): Promise<MatrixSession> {
  const pending = JSON.parse(sessionStorage.getItem(PENDING) ?? "null") as Pending | null;
  sessionStorage.removeItem(PENDING);
  const code = answer.get("code");
  // Somebody else's way back, or one that was used before.
  if (pending === null || code === null || answer.get("state") !== pending.state)
    throw new Problem("OAUTH", answer.get("error_description") ?? t("sign_in.again"));
  const tokens = await form(pending.tokenEndpoint, {
    grant_type: "authorization_code",
    code,
    redirect_uri: here(),
    client_id: pending.clientId,
    code_verifier: pending.verifier,
  });
  const token = String(tokens.access_token);
  const who = await matrix({ ...NOBODY, token }, "GET", "v3/account/whoami");
  return {
    kind: "matrix",
    userId: String(who.user_id),
    deviceId: String(who.device_id ?? pending.deviceId),
    token,
    ...(typeof tokens.refresh_token === "string"
      ? {
          oauth: {
            refreshToken: tokens.refresh_token,
            clientId: pending.clientId,
            tokenEndpoint: pending.tokenEndpoint,
            ...(pending.revocationEndpoint === undefined ? {} : { revocationEndpoint: pending.revocationEndpoint }),
          },
        }
      : {}),
  };
}

/** The session with a new token; null if the homeserver has ended it. */
export async function renew(session: MatrixSession): Promise<MatrixSession | null> {
  if (session.oauth === undefined) return null;
  try {
    const tokens = await form(session.oauth.tokenEndpoint, {
      grant_type: "refresh_token",
      refresh_token: session.oauth.refreshToken,
      client_id: session.oauth.clientId,
    });
    const refreshToken = typeof tokens.refresh_token === "string" ? tokens.refresh_token : session.oauth.refreshToken;
    return { ...session, token: String(tokens.access_token), oauth: { ...session.oauth, refreshToken } };
  } catch (thrown) {
    const problem = asProblem(thrown);
    if (problem.unheard) throw problem;
    return null;
  }
}

export async function revoke(oauth: OAuthSession): Promise<void> {
  if (oauth.revocationEndpoint === undefined) return;
  await fetch(oauth.revocationEndpoint, {
    method: "POST",
    credentials: "omit",
    body: new URLSearchParams({
      token: oauth.refreshToken,
      token_type_hint: "refresh_token",
      client_id: oauth.clientId,
    }),
  });
}

async function post(url: string, body: Json): Promise<Json> {
  return read(url, { body: JSON.stringify(body), headers: { "Content-Type": "application/json" } });
}

async function form(url: string, body: Record<string, string>): Promise<Json> {
  return read(url, { body: new URLSearchParams(body) });
}

async function read(url: string, request: RequestInit): Promise<Json> {
  let response: Response;
  let content: Json;
  try {
    const signal = AbortSignal.timeout(ANSWERED_MS);
    response = await fetch(url, { ...request, method: "POST", credentials: "omit", cache: "no-store", signal });
    content = (await response.json()) as Json;
  } catch (thrown) {
    throw thrown instanceof SyntaxError ? problemOf(502, null) : asProblem(thrown);
  }
  if (!response.ok)
    throw new Problem(
      String(content.error ?? "OAUTH"),
      String(content.error_description ?? t("sign_in.again")),
      response.status,
    );
  return content;
}
