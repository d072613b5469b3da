// The page for server admins. All that it shows comes from the admin routes, which ask for an admin's token each time.
// Text goes in as text, never as markup. The token is in this module's memory and nowhere else.

const API = new URL("../../_synapse/client/superapp/v1/", document.baseURI);
const MATRIX = new URL("../../_matrix/client/v3/", document.baseURI);
const $ = (id) => document.getElementById(id);
let token = "";

async function ask(method, path, body, base = API) {
  const headers = token ? { Authorization: `Bearer ${token}` } : {};
  if (body !== undefined) headers["Content-Type"] = "application/json";
  const answer = await fetch(new URL(path, base), {
    method,
    headers,
    body: body === undefined ? undefined : JSON.stringify(body),
    credentials: "omit",
    cache: "no-store",
  });
  const found = await answer.json().catch(() => ({}));
  if (!answer.ok) throw new Error(found.error ?? `The homeserver answered ${answer.status}.`);
  return found;
}

function say(text, bad = false) {
  $("said").textContent = text;
  $("said").className = bad ? "bad" : "";
}

function cell(kind, content) {
  const made = document.createElement(kind);
  if (content instanceof Node) made.append(content);
  else made.textContent = content ?? "";
  return made;
}

function table(place, heads, rows) {
  const made = document.createElement("table");
  made.createTHead().insertRow().append(...heads.map((head) => cell("th", head)));
  const body = made.createTBody();
  for (const row of rows) body.insertRow().append(...row.map((each) => cell("td", each)));
  const goOn = keepWriting(place, made);
  place.replaceChildren(rows.length ? made : document.createTextNode("There is nothing here."));
  goOn();
}

// What somebody is writing stays, with the cursor in it, though the rows around it are made anew.
function keepWriting(place, made) {
  let goOn = () => {};
  for (const old of place.querySelectorAll("input[data-about]")) {
    const twin = made.querySelector(`input[data-about="${CSS.escape(old.dataset.about)}"]`);
    if (!twin) continue;
    twin.value = old.value;
    const { selectionStart, selectionEnd } = old;
    if (document.activeElement === old)
      goOn = () => {
        twin.focus();
        twin.setSelectionRange(selectionStart, selectionEnd);
      };
  }
  return goOn;
}

function button(text, act) {
  const made = document.createElement("button");
  made.type = "button";
  made.textContent = text;
  made.addEventListener("click", () => attempt(act));
  return made;
}

// One act at a time, and what it said; the page shows what is true afterwards.
async function attempt(act) {
  try {
    const said = await act();
    if (token) await show();
    say(said ?? "");
  } catch (fault) {
    say(fault.message, true);
  }
}

const time = (ms) => (ms === undefined ? "" : new Date(ms).toISOString().slice(0, 19).replace("T", " "));
const has = (overview, feature) => overview.features.includes(feature);

async function show() {
  const overview = await ask("GET", "admin/overview");
  $("server").textContent = overview.server_name;
  const facts = [
    ["Version", overview.version],
    ["Features", overview.features.join(", ")],
    ["Processes", overview.has_workers ? `several; this is ${overview.process}` : "one"],
    ["Open to", overview.rollout_is_for_everybody ? "everybody" : "those in rollout.users_file"],
    ["Dry run", overview.dry_run ? "yes: what would be refused passes" : "no"],
    ["Migrations that wait", overview.waiting_migrations.join(", ") || "none"],
  ];
  const pays = has(overview, "payments");
  for (const id of ["halt", "propose", "look"]) $(id).hidden = !pays;
  $("name").hidden = !has(overview, "directory");
  if (pays) {
    const [books, halt, links, proposals] = await Promise.all([
      ask("GET", "admin/invariants"),
      ask("GET", "admin/payments/halt"),
      ask("GET", "admin/links"),
      ask("GET", "admin/proposals"),
    ]);
    facts.push(["Books", books.ok ? "balanced" : "BROKEN: halt payments, and look at super-app doctor"]);
    const by = halt.operator ? `by ${halt.operator}: ${halt.reason}` : "by the halt file, or because of what the log says";
    facts.push(["Payments", halt.halted ? `HALTED ${by}` : "go on"]);
    $("halt").hidden = halt.halted;
    $("resume").hidden = !halt.operator;
    const [{ disputes }, { reviews }] = await Promise.all([ask("GET", "admin/disputes"), ask("GET", "admin/reviews")]);
    showDisputes(disputes);
    showReviews(reviews);
    showLinks(links.links);
    showProposals(proposals.proposals);
  }
  $("realm").hidden = !has(overview, "recovery");
  if (has(overview, "recovery")) showRealm(await ask("GET", "admin/recovery"), facts);
  table($("health"), ["What", "How"], facts);
  for (const each of $("health").querySelectorAll("td:last-child"))
    if (/^(BROKEN|HALTED)/.test(each.textContent)) each.className = "bad";
  const { lines } = await ask("GET", "admin/audit?limit=30");
  table(
    $("audit"),
    ["Line", "When (UTC)", "Who", "What", "Outcome"],
    lines.map((line) => [
      String(line.seq),
      time(line.at_ms),
      line.operator,
      line.what === "{}" ? line.act : `${line.act} ${line.what}`,
      line.asked_seq === undefined ? line.outcome : `${line.outcome} (of ${line.asked_seq})`,
    ]),
  );
}

function showRealm(realm, facts) {
  const until = realm.vouched_until > Date.now() ? `; you vouched for this database until ${time(realm.vouched_until)}` : "";
  facts.push(["Shares that wait for other realms", `${realm.unchecked}${until}`]);
  $("vouch").hidden = realm.unchecked === 0;
  table(
    $("guarded"),
    ["Of people of", "Shares", "Destroyed by wrong guesses"],
    realm.shares.map((each) => [each.server, String(each.held), String(each.spent)]),
  );
  table(
    $("guards"),
    ["Homeserver", "Run by", "State"],
    realm.realms.map((each) => [
      each.server,
      each.operator,
      each.leaving ? "takes no new shares" : each.public_key ? "open" : "does not answer",
    ]),
  );
}

function showLinks(links) {
  const used = (link) =>
    (link.currencies ?? [])
      .map((each) => Object.entries(each).map(([name, value]) => `${name} ${value}`).join(", "))
      .join("; ");
  table(
    $("links"),
    ["Homeserver", "State", "Credit and debt, in minor units", ""],
    links.map((link) => [
      link.peer,
      link.state,
      used(link),
      link.state === "open"
        ? button("Suspend", () => act("POST", `admin/links/${encodeURIComponent(link.peer)}/suspend`, { reason: "by an admin" }))
        : button("Resume", () => act("POST", `admin/links/${encodeURIComponent(link.peer)}/resume`)),
    ]),
  );
}

function showProposals(proposals) {
  const decide = (each, word) => button(word, () => act("POST", `admin/proposals/${each.proposal_id}/${word.toLowerCase()}`));
  table(
    $("proposals"),
    ["What", "Whom", "Minor units", "Reference", "By", "State", ""],
    proposals.map((each) => {
      const acts = document.createElement("span");
      if (each.state === "open") acts.append(decide(each, "Approve"), " ", decide(each, "Reject"));
      const state = each.decided_by ? `${each.state} by ${each.decided_by}` : each.state;
      return [each.kind, each.user_id, `${each.amount} ${each.currency}`, each.reference, each.proposed_by, state, acts];
    }),
  );
}

// A field for a reason, and a button for each thing that can be decided with it, about one thing that `about` names.
function decisions(about, words, decide) {
  const made = document.createElement("span");
  const reason = document.createElement("input");
  reason.placeholder = "Reason";
  reason.dataset.about = about;
  reason.setAttribute("aria-label", "Reason");
  const needed = (word) => () => {
    if (!reason.value.trim()) throw new Error("Write a reason first.");
    return decide(word, reason.value);
  };
  made.append(reason, ...words.map((word) => button(word[0].toUpperCase() + word.slice(1), needed(word))));
  return made;
}

const paidBy = (each) => `payer=${encodeURIComponent(each.payer)}`;

function showDisputes(disputes) {
  const grounds = { not_received: "not received", not_as_agreed: "not as agreed", not_mine: "not mine", other: "other" };
  table(
    $("disputes"),
    ["Since (UTC)", "Payer", "Payee", "Minor units", "Why", "What was said", ""],
    disputes.map((each) => [
      time(each.opened_ts),
      each.payer,
      each.payee,
      `${each.wanted} ${each.currency}`,
      grounds[each.ground],
      each.timeline.map((line) => `${line.author}: ${line.text ?? line.act}`).join("\n"),
      decisions(`${each.payer} ${each.payment_id}`, ["grant", "reject"], (decision, reason) =>
        act("POST", `admin/disputes/${each.payment_id}/decide?${paidBy(each)}`, { decision, reason }),
      ),
    ]),
  );
}

function showReviews(reviews) {
  table(
    $("reviews"),
    ["Since (UTC)", "Payer", "Payee", "Minor units", "Matches", ""],
    reviews.map((each) => [
      time(each.since_ts),
      each.payer,
      each.payee,
      `${each.amount} ${each.currency}`,
      each.matched,
      decisions(`${each.payer} ${each.payment_id}`, ["release", "deny"], (decision, reason) =>
        act("POST", `admin/reviews/${each.payment_id}?${paidBy(each)}`, { decision, reason }),
      ),
    ]),
  );
}

async function lookUpHandle(handle) {
  const path = `admin/handles/${encodeURIComponent(handle)}`;
  const found = await ask("GET", path);
  const rows = Object.entries(found).map(([name, value]) => [name, typeof value === "object" ? JSON.stringify(value) : String(value)]);
  table($("handle"), ["What", "How"], rows);
  $("handle").append(
    decisions(handle, ["freeze", "unfreeze", "revoke"], async (word, reason) => {
      await ask("POST", `${path}/${word}`, { reason });
      await lookUpHandle(handle);
      return "Done.";
    }),
  );
}

async function act(method, path, body) {
  await ask(method, path, body);
  return "Done.";
}

async function lookUp(userId) {
  const path = `admin/accounts/${encodeURIComponent(userId)}`;
  const account = await ask("GET", path);
  const rows = Object.entries(account).map(([name, value]) => [name, typeof value === "object" ? JSON.stringify(value) : String(value)]);
  table($("account"), ["What", "How"], rows);
  const tier = document.createElement("input");
  tier.placeholder = "Tier";
  tier.setAttribute("aria-label", "Tier of limits; empty for the default one");
  const inTier = button("Put into this tier", () =>
    act("PUT", `admin/people/${encodeURIComponent(userId)}/tier`, tier.value.trim() ? { tier: tier.value.trim() } : {}),
  );
  const frozen = account.frozen_since !== undefined;
  const reason = document.createElement("input");
  reason.placeholder = "Reason";
  reason.setAttribute("aria-label", "Reason");
  const word = frozen ? "Unfreeze" : "Freeze";
  $("account").append(
    reason,
    button(word, async () => {
      await ask("POST", `${path}/${word.toLowerCase()}`, { reason: reason.value });
      await lookUp(userId);
      return "Done.";
    }),
    tier,
    inTier,
  );
}

function onSubmit(id, doIt) {
  $(id).addEventListener("submit", (event) => {
    event.preventDefault();
    const given = Object.fromEntries(new FormData(event.target));
    attempt(async () => {
      const said = await doIt(given);
      event.target.reset();
      return said;
    });
  });
}

onSubmit("sign-in", async ({ user, password }) => {
  const login = { type: "m.login.password", identifier: { type: "m.id.user", user }, password, initial_device_display_name: "Operations" };
  token = (await ask("POST", "login", login, MATRIX)).access_token;
  try {
    await show();
  } catch (fault) {
    await leave();
    throw fault;
  }
  $("sign-in").hidden = true;
  $("desk").hidden = $("leave").hidden = false;
});
onSubmit("halt", ({ reason }) => act("PUT", "admin/payments/halt", { reason }));
onSubmit("propose", (given) => {
  const proposal_id = [...crypto.getRandomValues(new Uint8Array(8))].map((each) => each.toString(16).padStart(2, "0")).join("");
  return act("POST", "admin/proposals", { ...given, proposal_id, amount: Number(given.amount) });
});
onSubmit("name", async ({ handle }) => void (await lookUpHandle(handle)));
onSubmit("look", async ({ user_id }) => void (await lookUp(user_id)));
$("resume").addEventListener("click", () => attempt(() => act("DELETE", "admin/payments/halt")));
$("vouch").addEventListener("click", () => attempt(() => act("POST", "admin/recovery/vouch", {})));
$("verify").addEventListener("click", () =>
  attempt(async () => {
    const found = await ask("GET", "admin/audit/verify");
    if (!found.ok) throw new Error(`Line ${found.broken_at} was changed or taken away, or one before it.`);
    return `${found.seq} lines, each follows from the one before; the hash of the last one is ${found.hash || "none"}.`;
  }),
);

async function leave() {
  const ended = token;
  if (ended) await ask("POST", "logout", {}, MATRIX).catch(() => {});
  token = "";
  $("desk").hidden = $("leave").hidden = true;
  $("sign-in").hidden = false;
}
$("leave").addEventListener("click", () => attempt(leave));
