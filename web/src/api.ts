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

/** How long a homeserver may take to answer, all of it. */
const ANSWERED_MS = 45_000;
const AGAIN_MS = 500;

/** A question that got lost on the way is asked once more; an order is not, since it may have arrived. */
async function ask(request: Request, limitMs: number): Promise<Response> {
  if (request.method !== "GET") return timed(request, limitMs);
  try {
    return await timed(request.clone(), limitMs);
  } catch (thrown) {
    // Only what failed at once: fetch throws a TypeError when nobody answers.
    if (!(thrown instanceof TypeError)) throw thrown;
    await new Promise((resolve) => setTimeout(resolve, AGAIN_MS));
    return timed(request, limitMs);
  }
}

/** The limit covers reading the answer too. */
function timed(request: Request, limitMs: number): Promise<Response> {
  const late = new AbortController();
  setTimeout(() => late.abort(new DOMException("no answer", "TimeoutError")), limitMs);
  return fetch(request, { signal: AbortSignal.any([request.signal, late.signal]) });
}

/** Send with the session's token; once more with the next one if it is no longer good.
 *
 * @throws {TypeError | DOMException} nobody answered, or not in time.
 */
export async function send(tokens: Tokens, request: Request, limitMs: number = ANSWERED_MS): Promise<Response> {
  const once = request.clone();
  const used = tokens.token;
  const response = await ask(signed(request, used), limitMs);
  if (response.status !== 401 || used === null) return response;
  // Of several requests that meet the end of a token, one brings the next and the others use it.
  if (tokens.token === used && !(await tokens.renew())) return response;
  return ask(signed(once, tokens.token), limitMs);
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
  more: { signal?: AbortSignal; keepalive?: boolean; limitMs?: number } = {},
): Promise<Json> {
  const { limitMs, ...options } = more;
  const request = new Request(`${HOMESERVER}_matrix/client/${path}`, {
    method,
    cache: "no-store",
    credentials: "omit",
    headers: body === undefined ? {} : { "Content-Type": "application/json" },
    body: body === undefined ? null : JSON.stringify(body),
    ...options,
  });
  try {
    const response = await send(tokens, request, limitMs);
    const content = (await response.json()) as Json;
    if (!response.ok) throw problemOf(response.status, content);
    return content;
  } catch (thrown) {
    throw thrown instanceof SyntaxError ? problemOf(502, null) : asProblem(thrown);
  }
}
