// Matrix addresses out of a vCard file (RFC 6350, and the older 2.1 and 3.0), and nothing else of it. Pure.
//
// An address book is mostly about people who use no Matrix: what is not a Matrix address never leaves this function.

const NAMES: readonly string[] = ["X-MATRIX", "X-MATRIX-ID", "IMPP", "URL"];
const PROPERTY = /^(?:[A-Za-z0-9-]+\.)?([A-Za-z0-9-]+)((?:;(?:"[^"]*"|[^":])*)?):(.*)$/;
const PERSON = /^@[^\s:/]+:[A-Za-z0-9.-]+(?::[0-9]{1,5})?$|^@[^\s:/]+:\[[0-9A-Fa-f:.]+\](?::[0-9]{1,5})?$/;

/** Each address once, in order. What is no card or cannot be read is passed over. */
export function matrixAddresses(text: string): string[] {
  const found = new Set<string>();
  for (const line of text.replace(/\r?\n[ \t]/g, "").split(/\r?\n/)) {
    const [, name = "", , value = ""] = PROPERTY.exec(line) ?? [];
    const address = NAMES.includes(name.toUpperCase()) ? addressOf(value.replace(/\\([:,;\\])/g, "$1").trim()) : null;
    if (address !== null && PERSON.test(address)) found.add(address);
  }
  return [...found];
}

/** ``@bob:example.org``, ``matrix:u/bob:example.org`` (MSC2312), or a link of matrix.to. */
function addressOf(value: string): string | null {
  try {
    if (value.startsWith("@")) return value;
    const link = /^https?:\/\/matrix\.to\/#\/([^?/]+)/i.exec(value);
    if (link !== null) return decodeURIComponent(link[1] ?? "");
    const uri = /^matrix:([^?]*)/i.exec(value);
    if (uri === null) return null;
    return decodeURIComponent(uri[1] ?? "").replace(/^u(?:ser)?\//, "@");
  } catch {
    // A broken percent sign.
    return null;
  }
}
