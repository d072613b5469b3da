// Files that the homeserver makes for somebody, such as a statement: fetched with the session and handed to the browser.

import { HOMESERVER, send, type Tokens } from "./api.ts";
import { asProblem, problemOf } from "./problem.ts";
import { chosenLanguage, preferred } from "./text/index.ts";

/** ``path`` is below the prefix of our API.
 *
 * @throws {Problem} it was refused, or nobody answered.
 */
export async function download(tokens: Tokens, path: string, name: string): Promise<void> {
  const request = new Request(`${HOMESERVER}_synapse/client/superapp/v1/${path}`, {
    cache: "no-store",
    credentials: "omit",
  });
  let content: Blob;
  try {
    const response = await send(tokens, request);
    if (!response.ok) throw problemOf(response.status, await response.json().catch(() => null));
    content = await response.blob();
  } catch (thrown) {
    throw asProblem(thrown);
  }
  const address = URL.createObjectURL(content);
  const link = document.createElement("a");
  link.href = address;
  link.download = name;
  link.click();
  URL.revokeObjectURL(address);
}

/** A completed payment as a PDF with its signed proof in a QR code. */
export function downloadReceipt(tokens: Tokens, paymentId: string, payer: string | null): Promise<void> {
  const query = new URLSearchParams({
    tz: Intl.DateTimeFormat().resolvedOptions().timeZone,
    language: chosenLanguage() ?? preferred(navigator.languages),
    ...(payer === null ? {} : { payer }),
  });
  return download(tokens, `payments/${paymentId}/receipt/file?${query}`, `receipt-${paymentId}.pdf`);
}
