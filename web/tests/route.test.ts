import assert from "node:assert/strict";
import { test } from "node:test";
import { readRoute, to } from "../src/route.ts";

test("an address leads back to what it was made of", () => {
  const address = to("person", "@bob:other.example:8448", { from: "a&b=c", nothing: undefined });
  const { path, query } = readRoute(address);
  assert.deepEqual(path, ["person", "@bob:other.example:8448"]);
  assert.deepEqual([...query], [["from", "a&b=c"]]);
});

test("the start has no name, and a broken address is no error", () => {
  assert.equal(to(), "#/");
  assert.deepEqual(readRoute("").path, []);
  assert.deepEqual(readRoute("#/person/%E0%A4%A").path, ["person", "%E0%A4%A"]);
});
