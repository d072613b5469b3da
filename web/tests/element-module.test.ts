import assert from "node:assert/strict";
import { test } from "node:test";
import { type Api, type MatrixEvent, ModuleLoader } from "@element-hq/element-web-module-api";
import * as React from "react";
import { renderToStaticMarkup } from "react-dom/server";
import { Badges, readTold } from "../element-module/src/badges.ts";
import { readCard } from "../element-module/src/cards.ts";
import { otherIn } from "../element-module/src/rooms.ts";
import { stateKey, TEXTS } from "../element-module/src/text.ts";

const ALICE = "@alice:one.example";
const BOB = "@bob:two.example";
const ID = "ab".repeat(16);
const WALLET = "https://one.example/superapp/";

function event(type: string, content: Record<string, unknown>, sender = ALICE): MatrixEvent {
  return { eventId: "$e", roomId: "!r", sender, content, unsigned: {}, type, originServerTs: 0 };
}

function notice(key: Record<string, unknown>, sender = ALICE, body = "💸 paid\nFor: lunch"): MatrixEvent {
  return event("m.room.message", { msgtype: "m.notice", body, "org.superapp.card": { v: 1, ...key } }, sender);
}

const terms = { amount: 1250, currency: "EUR", scale: 2, memo: "lunch <b>", state: "completed" };
const payment = { kind: "payment", payment_id: ID, payer: ALICE, payee: BOB, ...terms };
const request = { kind: "request", request_id: ID, requester: BOB, payers: [ALICE], ...terms, state: "open" };

test("a card is read where its sender is who it is about, and nowhere else", () => {
  assert.equal(readCard(notice(payment))?.address, `#/payment/${ID}?payer=${encodeURIComponent(ALICE)}`);
  // Somebody who says that another has paid.
  assert.equal(readCard(notice(payment, BOB)), null);
  assert.equal(readCard(notice(request)), null);
  assert.deepEqual(readCard(notice(request, BOB))?.to, [ALICE]);
  assert.equal(readCard(notice({ kind: "call", caller: BOB })), null);
  assert.equal(readCard(notice({ ...payment, payment_id: "../x" })), null);
  assert.equal(readCard(notice({ ...payment, kind: "gift" })), null);
  assert.equal(readCard({ ...notice(payment), stateKey: "" }), null);
  assert.equal(readCard(event("m.room.message", { body: "hello" })), null);
});

test("nothing that could look like a badge is read as somebody's address", () => {
  for (const payee of ["@bob✓:two.example", "@bob:two.example✓", "@bob:two.example\u00a0✓", "@b\u202eob:two.example"])
    assert.deepEqual(readCard(notice({ ...payment, payee }))?.to, [], payee);
});

test("an amount that is none is not shown as one, and the text for everybody is", () => {
  for (const wrong of [{ amount: 1.5 }, { amount: -1 }, { amount: "1" }, { amount: 2 ** 53 }, { currency: "€" }]) {
    const card = readCard(notice({ ...payment, ...wrong }));
    assert.equal(card?.money, null);
    assert.deepEqual(card?.lines, ["💸 paid", "For: lunch"]);
  }
  assert.equal(readCard(notice({ ...payment, scale: -1 }))?.money?.scale, null);
});

test("a card is drawn once, however often it was edited", () => {
  const edit = notice({ ...payment, state: "declined" });
  assert.equal(readCard({ ...edit, content: { ...edit.content, "m.relates_to": { rel_type: "m.replace" } } }), null);
  // As Element hands over the one that was edited: with what the last edit made of it.
  assert.equal(readCard(edit)?.state, "declined");
  const reply = { "m.in_reply_to": { event_id: "$e" } };
  assert.ok(readCard({ ...edit, content: { ...edit.content, "m.relates_to": reply } }));
});

test("a shared contact is a card of who is shared, by who shares it", () => {
  const shared = { kind: "contact", sharer: ALICE, handle: BOB };
  assert.deepEqual(readCard(notice(shared))?.from, BOB);
  assert.equal(readCard(notice(shared, BOB)), null);
  assert.equal(readCard(notice({ ...shared, handle: "@bank✓:x.example" })), null);
});

test("events of types of our own are left to Element, which could not draw them", () => {
  assert.equal(readCard(event("org.superapp.contact", { v: 1, record: { handle: BOB } })), null);
  assert.equal(readCard(event("org.superapp.payment", { payment_id: ID, payee: BOB })), null);
});

test("every text is there in both languages, and states of payments and requests have one", () => {
  for (const [key, each] of Object.entries(TEXTS)) for (const text of [each.en, each.de]) assert.ok(text, key);
  for (const state of ["held", "awaiting_acceptance", "committed", "completed", "declined", "expired", "cancelled"])
    assert.ok(stateKey(state), state);
  for (const state of ["failed", "open", "paid"]) assert.ok(stateKey(state), state);
  assert.equal(stateKey("constructor"), null);
});

/** Element, as far as the module touches it: what was registered, and what was opened. */
function element(config: Record<string, unknown>) {
  const found = {
    renderers: [] as {
      applies: (event: MatrixEvent) => boolean;
      render: (props: { mxEvent: MatrixEvent }) => React.JSX.Element;
    }[],
    header: [] as ((roomId: string) => React.JSX.Element)[],
    options: [] as { label: string; onSelected: (roomId?: string) => void }[],
    approvers: [] as ((widget: unknown, asked: Set<string>) => unknown)[],
    opened: [] as string[],
    links: [] as string[],
    asked: [] as string[],
    told: {} as Record<string, object>,
    direct: {} as Record<string, string[]>,
  };
  let texts: Record<string, Record<string, string>> = {};
  const api = {
    config: { get: () => config },
    profile: { value: { userId: ALICE } },
    client: { accountData: { get: (type: string) => ({ value: type === "m.direct" ? found.direct : undefined }) } },
    i18n: {
      language: "de",
      register: (more: typeof texts) => (texts = more),
      translate: (key: string, values?: Record<string, React.ReactNode>, tags?: object) => {
        const text = texts[key]?.de ?? key;
        const parts = text.split(/(%\(\w+\)s)/).map((part) => values?.[part.slice(2, -2)] ?? part);
        return tags === undefined ? parts.join("") : React.createElement("span", null, ...parts);
      },
    },
    customComponents: {
      registerMessageRenderer: (applies: never, render: never) => found.renderers.push({ applies, render }),
    },
    extras: { addRoomHeaderButtonCallback: (callback: never) => found.header.push(callback) },
    composer: { addFileUploadOption: (option: never) => found.options.push(option) },
    navigation: { toMatrixToLink: async (link: string) => void found.links.push(link) },
    widgetLifecycle: Object.fromEntries(
      ["Preload", "Identity", "Capabilities"].map((each) => [
        `register${each}Approver`,
        (approver: never) => found.approvers.push(approver),
      ]),
    ),
  };
  Object.assign(globalThis, { window: { React, open: (url: URL) => found.opened.push(url.href) } });
  // The homeserver, which everybody may ask for what is public.
  globalThis.fetch = async (asked, init) => {
    assert.equal(init?.credentials, "omit");
    const address = String(asked);
    found.asked.push(address);
    const person = decodeURIComponent(/\/handles\/([^/]+)\/public$/.exec(address)?.[1] ?? "");
    return Response.json(found.told[person] ?? { badges: [] });
  };
  return { api: api as unknown as Api, found };
}

/** Until the answers of the homeserver are there. */
const answered = () => new Promise((resolve) => setTimeout(resolve));

/** The file that operators install, loaded as Element loads it. */
async function loaded(config: Record<string, unknown>) {
  const { api, found } = element(config);
  const loader = new ModuleLoader(api);
  const file = new URL("../../modules/synapse_super_app/web/built/element/super-app.js", import.meta.url);
  await loader.load((await import(file.href)) as Parameters<ModuleLoader["load"]>[0]);
  await loader.start();
  return found;
}

function press(tree: React.JSX.Element, text: string): void {
  const { children, onClick } = tree.props as { children?: unknown; onClick?: () => void };
  const inside = [children].flat(9) as unknown[];
  if (onClick !== undefined && inside.includes(text)) onClick();
  for (const child of inside) if (React.isValidElement(child)) press(child as React.JSX.Element, text);
}

test("Element loads the built module, which draws cards and leads to the wallet", async () => {
  const found = await loaded({ default_server_config: { "m.homeserver": { base_url: "https://one.example" } } });
  const [renderer] = found.renderers;
  assert.ok(renderer);
  assert.equal(renderer.applies(event("m.room.message", { body: "hello" })), false);
  assert.equal(renderer.applies(event("org.superapp.payment", { payment_id: ID })), false);
  const paid = renderer.render({ mxEvent: notice(payment) });
  const html = renderToStaticMarkup(paid);
  assert.match(html, /12,50\s€/);
  assert.match(html, /@alice:one\.example.* an .*@bob:two\.example/);
  assert.match(html, /lunch &lt;b&gt;/);
  assert.match(html, /Bezahlt/);
  press(paid, "Im Geldbeutel öffnen");
  const asked = renderer.render({ mxEvent: notice(request, BOB) });
  press(asked, "Bezahlen oder ablehnen");
  const shared = renderer.render({ mxEvent: notice({ kind: "contact", sharer: ALICE, handle: BOB }) });
  assert.doesNotMatch(renderToStaticMarkup(shared), /✓/);
  press(shared, "Schreiben");
  press(shared, "Sehen, wer sie geprüft hat");
  const [header] = found.header;
  press(header?.("!room:x") as React.JSX.Element, "Bezahlen");
  found.options[0]?.onSelected("!room:x");
  assert.deepEqual(found.opened, [
    `${WALLET}app/#/payment/${ID}?payer=%40alice%3Aone.example`,
    `${WALLET}app/#/asked/${ID}?requester=%40bob%3Atwo.example`,
    `${WALLET}app/#/person/%40bob%3Atwo.example`,
    `${WALLET}app/#/send?room=%21room%3Ax`,
    `${WALLET}app/#/send?room=%21room%3Ax`,
  ]);
  assert.deepEqual(found.links, ["https://matrix.to/#/%40bob%3Atwo.example"]);
});

test("names have the handle that people see and the tick of who vouches, as the homeserver tells", async () => {
  const found = await loaded({ "org.superapp": { wallet: WALLET } });
  found.told[BOB] = { handle: "@bobby:two.example", badges: [{ issuer: "bank.example" }, { issuer: "two.example" }] };
  found.told[ALICE] = { handle: ALICE, badges: [] };
  const shown = () => renderToStaticMarkup(found.renderers[0]?.render({ mxEvent: notice(payment) }));
  // It waits for nobody: at first there are addresses.
  assert.match(shown(), /@alice:one\.example.* an .*>@bob:two\.example</);
  assert.doesNotMatch(shown(), /✓/);
  await answered();
  const html = shown();
  assert.match(html, /<bdi title="@bob:two\.example">@bobby:two\.example<\/bdi><span role="img"[^>]*>✓<\/span>/);
  assert.match(html, /aria-label="@bobby:two\.example, geprüft von bank\.example, two\.example"/);
  assert.equal(html.match(/✓/g)?.length, 1);
  // Each once, however often they are drawn.
  assert.deepEqual(
    found.asked.map((each) => decodeURIComponent(each)),
    [ALICE, BOB].map((each) => `https://one.example/_synapse/client/superapp/v1/handles/${each}/public`),
  );
});

test("the header of a chat of two says with whom one is there, and pays them; others have the button alone", async () => {
  const found = await loaded({ "org.superapp": { wallet: WALLET } });
  found.told[BOB] = { handle: "@bobby:two.example", badges: [{ issuer: "bank.example" }] };
  found.direct = { [BOB]: ["!direct:x", "!both:x"], [ALICE]: ["!both:x"], nonsense: ["!odd:x"] };
  const header = (room: string) => found.header[0]?.(room) as React.JSX.Element;
  renderToStaticMarkup(header("!direct:x"));
  await answered();
  assert.match(renderToStaticMarkup(header("!direct:x")), /@bobby:two\.example<\/bdi>.*✓.*Bezahlen/);
  for (const room of ["!room:x", "!both:x", "!odd:x"])
    assert.doesNotMatch(renderToStaticMarkup(header(room)), /@|✓/, room);
  press(header("!direct:x"), "Bezahlen");
  found.options[0]?.onSelected("!direct:x");
  found.options[0]?.onSelected();
  const send = `${WALLET}app/#/send`;
  const direct = `${send}?room=%21direct%3Ax&to=%40bob%3Atwo.example`;
  assert.deepEqual(found.opened, [direct, direct, send]);
});

test("what a homeserver answers is read, and what it cannot have meant is nobody", () => {
  const bob = { handle: BOB, badges: [{ issuer: "a" }, { issuer: "a" }, { issuer: 1 }, null, "b"] };
  assert.deepEqual(readTold(bob), { handle: BOB, issuers: ["a"] });
  for (const wrong of [null, 1, {}, { badges: [] }, { handle: "bob", badges: [] }, { handle: `${BOB}✓`, badges: [] }])
    assert.equal(readTold(wrong), null);
  assert.equal(otherIn("!r", { [BOB]: "!r" }), null);
  assert.equal(otherIn("!r", undefined), null);
});

test("a badge that was taken away goes, who is not answered has none, and neither is asked all the time", async () => {
  let now = 0;
  let answer: () => Promise<Response> = async () => Response.json({ handle: BOB, badges: [{ issuer: "a" }] });
  let count = 0;
  globalThis.fetch = () => (count++, answer());
  const badges = new Badges(new URL(WALLET), () => now);
  let changes = 0;
  const end = badges.subscribe(() => changes++);
  assert.equal(badges.of(BOB), null);
  await answered();
  assert.deepEqual(badges.of(BOB)?.issuers, ["a"]);
  for (const next of [
    async () => Response.json({ badges: [] }),
    async () => Response.json({}, { status: 404 }),
    async () => Promise.reject(new TypeError("away")),
  ]) {
    answer = next;
    now += 600_000;
    badges.of(BOB);
    badges.of(BOB);
    await answered();
    assert.equal(badges.of(BOB), null);
  }
  assert.equal(count, 4);
  assert.equal(changes, 2);
  end();
});

test("the wallet opens without questions, and no other widget does", async () => {
  const found = await loaded({ "org.superapp": { wallet: WALLET } });
  const ours = { type: "m.stickerpicker", templateUrl: `${WALLET}widget/?widgetId=x` };
  const wanted = ["org.matrix.msc2762.send.event:m.room.message#m.notice", "org.matrix.msc2762.timeline:!room:x"];
  const asked = new Set([...wanted, "org.matrix.msc2762.send.event", "org.matrix.msc2762.timeline:*"]);
  assert.deepEqual(
    found.approvers.map((approve) => approve(ours, asked)),
    [true, true, new Set(wanted)],
  );
  for (const other of [
    { ...ours, templateUrl: "https://evil.example/superapp/widget/" },
    { ...ours, templateUrl: "https://one.example.evil/superapp/widget/" },
    { ...ours, type: "m.custom" },
  ])
    assert.deepEqual(
      found.approvers.map((approve) => approve(other, asked)),
      [undefined, undefined, undefined],
    );
});

test("without an address of the wallet it does nothing and says what is missing", async (context) => {
  const said = context.mock.method(console, "error", () => undefined);
  const found = await loaded({ "org.superapp": { wallet: "javascript:alert(1)" } });
  assert.equal(found.renderers.length, 0);
  assert.match(String(said.mock.calls[0]?.arguments[0]), /org\.superapp\.wallet/);
});
