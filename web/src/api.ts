// The two APIs of the homeserver that this page came from: ours, typed by its OpenAPI document, and Matrix's.

import createClient, { type Client } from "openapi-fetch";
import { asProblem, problemOf } from "./problem.ts";
import type { paths } from "./schema.ts";

export type Api = Client<paths>;
export type * from "./schema.ts";

/** Where the homeserver is, seen from app/ and widget/. Relative, so that it holds behind a reverse proxy too. */
export const HOMESERVER: string = typeof document === "undefined" ? "" : new URL("../..", document.baseURI).href;

/** The token of a session, and how to get the next one. */
export interface Tokens {
  token: string | null;
  /** Whether there is a new token now. */
  renew: () => Promise<boolean>;
}

export const NOBODY: Tokens = { token: null, renew: async () => false };

/** Send with the session's token; once more with the next one if it is no longer good. */
export async function send(tokens: Tokens, request: Request): Promise<Response> {
  const once = request.clone();
  const used = tokens.token;
  const response = await fetch(signed(request, used));
  if (response.status !== 401 || used === null) return response;
  // Of several requests that meet the end of a token, one brings the next and the others use it.
  if (tokens.token === used && !(await tokens.renew())) return response;
  return fetch(signed(once, tokens.token));
}

function signed(request: Request, token: string | null): Request {
  if (token !== null) request.headers.set("Authorization", `Bearer ${token}`);
  return request;
}

export function openApi(tokens: Tokens): Api {
  return createClient<paths>({
    baseUrl: `${HOMESERVER}_synapse/client/superapp/v1`,
    cache: "no-store",
    credentials: "omit",
    fetch: (request) => send(tokens, request),
  });
}

/** What a call of ``Api`` answers.
 *
 * @throws {Problem} it was refused, or nobody answered.
 */
export async function answer<T>(call: Promise<{ data?: T; error?: unknown; response: Response }>): Promise<T> {
  let answered: { data?: T; error?: unknown; response: Response };
  try {
    answered = await call;
  } catch (thrown) {
    // What is no JSON came from something between us, such as a proxy.
    throw thrown instanceof SyntaxError ? problemOf(502, null) : asProblem(thrown);
  }
  if (answered.data === undefined || !answered.response.ok) throw problemOf(answered.response.status, answered.error);
  return answered.data;
}

export type Json = Record<string, unknown>;

/** One request of Matrix's client API.
 *
 * @throws {Problem} it was refused, or nobody answered.
 */
export async function matrix(
  tokens: Tokens,
  method: string,
  path: string,
  body?: Json,
  more: { signal?: AbortSignal; keepalive?: boolean } = {},
): Promise<Json> {
  const request = new Request(`${HOMESERVER}_matrix/client/${path}`, {
    method,
    cache: "no-store",
    credentials: "omit",
    headers: body === undefined ? {} : { "Content-Type": "application/json" },
    body: body === undefined ? null : JSON.stringify(body),
    ...more,
  });
  try {
    const response = await send(tokens, request);
    const content = (await response.json()) as Json;
    if (!response.ok) throw problemOf(response.status, content);
    return content;
  } catch (thrown) {
    throw thrown instanceof SyntaxError ? problemOf(502, null) : asProblem(thrown);
  }
}
