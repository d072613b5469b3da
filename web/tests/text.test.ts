import assert from "node:assert/strict";
import { readdirSync, readFileSync } from "node:fs";
import { test } from "node:test";
import { de } from "../src/text/de.ts";
import { callingDe, callingEn } from "../src/text/calling.ts";
import { deedsDe, deedsEn } from "../src/text/deeds.ts";
import { en } from "../src/text/en.ts";
import { fill, preferred } from "../src/text/index.ts";

const names = (text: string) => [...new Set(text.match(/\{\w+\}/g) ?? [])].sort();
const forms = (text: string) => text.split("|").length;
const keys = Object.keys(en) as (keyof typeof en)[];

for (const [language, dictionary] of Object.entries({ en, de })) {
  test(`${language} has every text, with its values and as many forms, and no other`, () => {
    assert.deepEqual(Object.keys(dictionary).sort(), [...keys].sort());
    for (const key of keys) {
      assert.notEqual(dictionary[key].trim(), "", key);
      assert.deepEqual(names(dictionary[key]), names(en[key]), key);
      assert.equal(forms(dictionary[key]), forms(en[key]), key);
      assert.ok(forms(en[key]) === 1 || names(en[key]).includes("{n}"), key);
    }
  });
}

test("the texts that are loaded later are in both languages, with their values and as many forms", () => {
  const later: readonly [Record<string, string>, Record<string, string>][] = [
    [deedsEn, deedsDe],
    [callingEn, callingDe],
  ];
  for (const [english, german] of later) {
    for (const key of Object.keys(english)) {
      const [one = "", other = ""] = [english[key], german[key]];
      assert.notEqual(other.trim(), "", key);
      assert.deepEqual(names(other), names(one), key);
      assert.equal(forms(other), forms(one), key);
    }
    assert.deepEqual(Object.keys(german).sort(), Object.keys(english).sort());
  }
});

function sources(folder: string): string {
  return readdirSync(folder, { withFileTypes: true, recursive: true })
    .filter((each) => each.isFile() && /\.tsx?$/.test(each.name) && !each.parentPath.endsWith("text"))
    .map((each) => readFileSync(`${each.parentPath}/${each.name}`, "utf8"))
    .join("\n");
}

test("every text is used, and nothing on a screen stands beside the dictionary", () => {
  const all = sources(new URL("../src", import.meta.url).pathname);
  const families = ["state.", "call.", "rule.", "asked.", "verification.", "phone."];
  for (const key of keys)
    assert.ok(all.includes(`"${key}"`) || families.some((family) => key.startsWith(family)), `nobody says ${key}`);
  const many = ["gift.", "link.", "claim.", "schedule.", "every.", "outcome.", "ground.", "case.", "act.", "draw."];
  many.push("kind.", "limit.", "window.", "deposit.state.");
  for (const key of Object.keys(deedsEn))
    assert.ok(all.includes(`"${key}"`) || many.some((family) => key.startsWith(family)), `nobody says ${key}`);
  for (const key of Object.keys(callingEn))
    assert.ok(all.includes(`"${key}"`) || ["role.", "link.hours."].some((family) => key.startsWith(family)), key);
  const loose = [...all.matchAll(/^\s*([A-Z][a-z]+(?: [a-z]+)+[.!?]?)\s*$/gm)].map((found) => found[1]);
  assert.deepEqual(loose, []);
});

test("a number chooses its form, and values are filled in", () => {
  assert.equal(fill("{n} person|{n} people", { n: 1 }, "en"), "1 person");
  assert.equal(fill("{n} person|{n} people", { n: 0 }, "en"), "0 people");
  assert.equal(fill("to {name}, {name}", { name: "$&" }, "en"), "to $&, $&");
});

test("the first language that somebody reads and that we have is taken", () => {
  assert.equal(preferred(["fr-FR", "de-AT", "en"]), "de");
  assert.equal(preferred(["fr"]), "en");
});
