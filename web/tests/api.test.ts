import assert from "node:assert/strict";
import { mock, test } from "node:test";
import { matrix, NOBODY } from "../src/api.ts";
import { Problem } from "../src/problem.ts";

const lost = () => Promise.reject(new TypeError("fetch failed"));
const fine = () => Promise.resolve(Response.json({ fine: true }));

/** Here there is no page, and thus no address that questions are relative to. */
class Anchored extends Request {
  constructor(input: RequestInfo | URL, init?: RequestInit) {
    super(typeof input === "string" ? new URL(input, "https://hs.test/") : input, init);
  }
}

/** ``fetch`` answers so, one after the other; how often it was asked. */
async function asked(method: string, ...answers: (() => Promise<Response>)[]): Promise<[unknown, number]> {
  const calls = mock.method(globalThis, "fetch", () => answers.shift()?.() ?? lost());
  const native = globalThis.Request;
  globalThis.Request = Anchored;
  try {
    const body = method === "GET" ? undefined : {};
    const outcome = await matrix(NOBODY, method, "v3/something", body).catch((problem: unknown) => problem);
    return [outcome, calls.mock.callCount()];
  } finally {
    globalThis.Request = native;
    calls.mock.restore();
  }
}

test("a question that gets lost on the way is asked once more", async () => {
  assert.deepEqual(await asked("GET", lost, fine), [{ fine: true }, 2]);
});

test("a question that gets lost twice is a problem of the connection", async () => {
  const [outcome, count] = await asked("GET", lost, lost, fine);
  assert.ok(outcome instanceof Problem && outcome.offline);
  assert.equal(count, 2);
});

test("an order that gets lost is not sent a second time", async () => {
  const [outcome, count] = await asked("POST", lost, fine);
  assert.ok(outcome instanceof Problem && outcome.unheard);
  assert.equal(count, 1);
});

test("a homeserver that takes a question and never answers is not waited for without end", async () => {
  mock.timers.enable({ apis: ["setTimeout"] });
  let heard: AbortSignal | null = null;
  const silent = mock.method(
    globalThis,
    "fetch",
    (_: unknown, { signal }: { signal: AbortSignal }) =>
      new Promise((_resolve, reject) => {
        heard = signal;
        signal.addEventListener("abort", () => reject(signal.reason as Error));
      }),
  );
  const native = globalThis.Request;
  globalThis.Request = Anchored;
  try {
    const outcome = matrix(NOBODY, "GET", "v3/something").catch((problem: unknown) => problem);
    await Promise.resolve();
    assert.ok(heard !== null);
    mock.timers.tick(44_999);
    assert.equal((heard as AbortSignal).aborted, false);
    mock.timers.tick(1);
    const problem = await outcome;
    assert.ok(problem instanceof Problem && problem.offline);
    assert.equal(silent.mock.callCount(), 1);
  } finally {
    globalThis.Request = native;
    silent.mock.restore();
    mock.timers.reset();
  }
});
