// Addresses of screens. Pure, since others than this app lead to them too.

/** The address of a screen: ``to("payment", id)``, with a query if there is one. */
export function to(...parts: (string | Record<string, string | undefined>)[]): string {
  const names = parts.filter((part) => typeof part === "string").map(encodeURIComponent);
  const query = new URLSearchParams();
  for (const part of parts) {
    if (typeof part === "string") continue;
    for (const [name, value] of Object.entries(part)) if (value !== undefined) query.set(name, value);
  }
  const text = query.toString();
  return `#/${names.join("/")}${text === "" ? "" : `?${text}`}`;
}
