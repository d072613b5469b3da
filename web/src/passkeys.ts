// Passkeys of WebAuthn: what the server asks for goes to the device, and what the device says comes back as JSON.

import { answer } from "./api.ts";
import type { Home } from "./home.ts";
import type { Order } from "./orders.ts";
import { Problem } from "./problem.ts";
import type { PasskeysJson } from "./schema.ts";
import { t } from "./text/index.ts";

type Json = Record<string, unknown>;
interface Named {
  id: string;
}

/** Whether this browser can, on this page: it needs HTTPS, and a homeserver that is reached by name. */
export function passkeysWork(): boolean {
  return window.isSecureContext && "PublicKeyCredential" in window && !/^[\d.]+$|:/.test(location.hostname);
}

/** Make a passkey on this device and add it to the wallet. */
export async function addPasskey(home: Home, name: string, pin: string): Promise<PasskeysJson> {
  const asked = await answer(home.api.POST("/wallet/passkeys/begin", { body: { pin } }));
  const options = asked.public_key as Json & { user: Named; excludeCredentials?: Named[] };
  const made = await navigator.credentials.create({
    publicKey: {
      ...options,
      challenge: bytes(String(options.challenge)),
      user: { ...options.user, id: bytes(options.user.id) },
      excludeCredentials: (options.excludeCredentials ?? []).map(descriptor),
    } as unknown as PublicKeyCredentialCreationOptions,
  });
  const credential = spelled(made, (response: AuthenticatorAttestationResponse) => ({
    attestationObject: text(response.attestationObject),
  }));
  return answer(home.api.POST("/wallet/passkeys", { body: { name, credential } }));
}

/** What a passkey can confirm. Without a payee: money that is put aside for whoever claims it. */
export type Confirmable = Pick<Order, "amount" | "currency" | "fee"> & Partial<Pick<Order, "payee">>;

/** Have a device confirm just this order. */
export async function confirmWithPasskey(home: Home, wanted: Confirmable): Promise<Json> {
  const { payee, amount, currency, fee } = wanted;
  const body = {
    ...(payee === undefined ? {} : { payee }),
    amount,
    currency,
    ...(fee === undefined ? {} : { fee }),
  };
  const asked = await answer(home.api.POST("/payments/challenge", { body }));
  const options = asked.public_key as Json & { allowCredentials?: Named[] };
  const given = await navigator.credentials.get({
    publicKey: {
      ...options,
      challenge: bytes(String(options.challenge)),
      allowCredentials: (options.allowCredentials ?? []).map(descriptor),
    } as unknown as PublicKeyCredentialRequestOptions,
  });
  return spelled(given, (response: AuthenticatorAssertionResponse) => ({
    authenticatorData: text(response.authenticatorData),
    signature: text(response.signature),
  }));
}

/** What a person should hear when the device said no, or nobody looked at it. */
export function passkeyProblem(thrown: unknown): unknown {
  return thrown instanceof DOMException ? new Problem("PASSKEY", t("passkey.none")) : thrown;
}

function spelled<R extends AuthenticatorResponse>(found: Credential | null, more: (response: R) => Json): Json {
  if (!(found instanceof PublicKeyCredential)) throw new Problem("PASSKEY", t("passkey.none"));
  const response = found.response as R;
  return {
    id: found.id,
    rawId: text(found.rawId),
    type: found.type,
    response: { clientDataJSON: text(response.clientDataJSON), ...more(response) },
  };
}

function descriptor({ id }: Named): PublicKeyCredentialDescriptor {
  return { id: bytes(id), type: "public-key" };
}

function bytes(base64url: string): Uint8Array<ArrayBuffer> {
  const plain = atob(base64url.replaceAll("-", "+").replaceAll("_", "/"));
  return Uint8Array.from(plain, (char) => char.charCodeAt(0));
}

function text(buffer: ArrayBuffer): string {
  return btoa(String.fromCharCode(...new Uint8Array(buffer)))
    .replaceAll("+", "-")
    .replaceAll("/", "_")
    .replace(/=+$/, "");
}
