import assert from "node:assert/strict";
import { test } from "node:test";
import { matrixAddresses } from "../src/vcard.ts";

const BOOK = `BEGIN:VCARD\r
VERSION:4.0\r
FN:Bob\r
TEL:+491701234567\r
IMPP;PREF=1:matrix:u/bob:example.org\r
item1.X-MATRIX:@bobby:\r
 example.org\r
END:VCARD\r
BEGIN:VCARD\r
FN:Carol\r
EMAIL:carol@example.org\r
URL;TYPE="home:page":https://matrix.to/#/%40carol%3Aother.example%3A8448?via=x\r
IMPP:xmpp:carol@example.org\r
NOTE:@not:anaddress\r
END:VCARD\r
BEGIN:VCARD\r
FN:Dave\r
x-matrix-id:@bob\\:example.org\r
URL:https://example.org/@dave\r
IMPP:matrix:r/room:example.org\r
X-MATRIX:%%%\r
URL:https://matrix.to/#/%E0%A4%A\r
END:VCARD\r
`;

test("only Matrix addresses come out of an address book, each once and in order", () => {
  assert.deepEqual(matrixAddresses(BOOK), ["@bob:example.org", "@bobby:example.org", "@carol:other.example:8448"]);
});

test("what is no address book holds nobody", () => {
  for (const text of ["", "\u0000", "@bob:example.org", "X-MATRIX:bob", "IMPP:matrix:u/"])
    assert.deepEqual(matrixAddresses(text), []);
});
