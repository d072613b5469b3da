// The page of the recovery PIN: /superapp/recover/. It keeps neither PIN nor key anywhere, and forgets them when it closes.

import "./style.css";
import { type ComponentChildren, render } from "preact";
import { useEffect, useMemo, useState } from "preact/hooks";
import { answer, HOMESERVER, NOBODY, openApi } from "./api.ts";
import { comingBack, tokensOf } from "./arrival.ts";
import { Button, CopyButton, Failure, Field, Notice, Skeleton } from "./parts/basics.tsx";
import { asProblem, Problem } from "./problem.ts";
import type { Bytes } from "./recovery/bytes.ts";
import { judge } from "./recovery/pins.ts";
import type { RecoverySet } from "./recovery/protocol.ts";
import { isOf, read, spelled } from "./recovery/secret-storage.ts";
import { type Offer, type Others, type Realm, Recovery, type StorageKey, TooFew, WrongPin } from "./recovery/sets.ts";
import { r } from "./recovery/text.ts";
import type { About } from "./schema.ts";
import { SignIn } from "./screens/sign-in.tsx";
import { keepSession, type MatrixSession, signOut, storedSession } from "./session.ts";
import { started } from "./started.ts";
import { loadLanguage, t } from "./text/index.ts";
import { chosenTheme, showTheme } from "./theme.ts";

/** Wrong ones at each homeserver, after which its share is destroyed. */
const GUESSES = 10;

/** What an account has of it. */
interface Account {
  offer: Offer;
  set: RecoverySet | null;
  storage: StorageKey | null;
}

function Page(props: { about: About; session: MatrixSession | null; problem: Problem | null }) {
  const [session, setSession] = useState(props.session);
  const [notice, setNotice] = useState<string | null>(null);
  if (session === null)
    return (
      <SignIn
        serverName={props.about.server_name}
        notice={notice ?? r("lead")}
        problem={props.problem}
        onSignedIn={(found) => {
          keepSession(found);
          setSession(found);
        }}
      />
    );
  const over = (why: string) => {
    keepSession(null);
    setNotice(why);
    setSession(null);
  };
  return (
    <Frame>
      {props.about.features.includes("recovery") ? (
        <Person session={session} onOver={() => over(t("problem.signed_out"))} />
      ) : (
        <Notice icon="warn" kind="warn">
          <p>{r("off")}</p>
        </Notice>
      )}
      <p class="hint">
        {r("signed_in", { user: session.userId })}{" "}
        <Button
          kind="quiet"
          onClick={async () => {
            await signOut(session);
            over(t("sign_out.done"));
          }}
        >
          {r("sign_out")}
        </Button>
      </p>
    </Frame>
  );
}

function Frame(props: { children: ComponentChildren }) {
  return (
    <main class="recover">
      <h1>{r("title")}</h1>
      <p>{r("lead")}</p>
      {props.children}
    </main>
  );
}

function Person(props: { session: MatrixSession; onOver: () => void }) {
  const recovery = useMemo(
    () => new Recovery(tokensOf(props.session, props.onOver), props.session.userId),
    [props.session],
  );
  const [account, setAccount] = useState<Account | null>(null);
  const [problem, setProblem] = useState<Problem | null>(null);
  const [changing, setChanging] = useState<Bytes | "ask" | null>(null);
  const [said, setSaid] = useState<string | null>(null);
  const load = async () => {
    try {
      const [offer, set, storage] = await Promise.all([recovery.offer(), recovery.stored(), recovery.storageKey()]);
      setAccount({ offer, set, storage });
      setProblem(null);
      if (set !== null) void recovery.finish(set);
    } catch (thrown) {
      setProblem(asProblem(thrown));
    }
  };
  useEffect(() => {
    document.title = `${r("title")} – Super App`;
    void load();
  }, []);
  if (problem !== null) return <Failure problem={problem} again={load} />;
  if (account === null) return <Skeleton rows={3} />;
  const { set, storage } = account;
  return (
    <>
      <Notice icon="shield">
        <p>{r("not_wallet")}</p>
      </Notice>
      {said !== null && (
        <Notice icon="check" kind="good">
          <p role="status">{said}</p>
        </Notice>
      )}
      {set !== null && leaving(set, account.offer).length > 0 && (
        <Notice icon="warn" kind="warn">
          <p>{r("moves", { names: leaving(set, account.offer).join(", ") })}</p>
        </Notice>
      )}
      {set !== null && storage !== null && set.key_id !== storage.keyId && (
        <Notice icon="warn" kind="warn">
          <p>{r("key_changed")}</p>
        </Notice>
      )}
      {set !== null && (
        <Recover
          key={set.version}
          recovery={recovery}
          set={set}
          storage={storage}
          onChange={(key) => {
            setSaid(null);
            setChanging(key ?? "ask");
          }}
        />
      )}
      {storage === null && (
        <Notice icon="warn" kind="warn">
          <p>{r("no_storage")}</p>
        </Notice>
      )}
      {storage !== null && (set === null || changing !== null) && (
        <SetUp
          key={String(changing === "ask")}
          recovery={recovery}
          offer={account.offer}
          storage={storage}
          known={changing === "ask" ? null : changing}
          before={set}
          onDone={async () => {
            // Only then, since a PIN that is typed before would be tried with the set that was in use.
            await load();
            setChanging(null);
            setSaid(r("ready"));
          }}
        />
      )}
      {set !== null && (
        <GiveUp
          recovery={recovery}
          set={set}
          onDone={async () => {
            setChanging(null);
            setSaid(r("removed"));
            await load();
          }}
        />
      )}
      <Honest
        threshold={set?.threshold ?? account.offer.threshold}
        shares={set?.realms.length ?? account.offer.shares}
      />
    </>
  );
}

/** Realms of a set that leave, or that the operator does not name any more. */
function leaving(set: RecoverySet, offer: Offer): string[] {
  return set.realms
    .map((each) => each.server)
    .filter((server) => offer.realms.find((each) => each.server === server)?.leaving ?? true);
}

/** A field for a PIN. Browsers are asked not to keep it. */
function PinField(props: {
  id: string;
  label: string;
  hint?: string;
  fault?: string | undefined;
  value: string;
  onInput: (value: string) => void;
}) {
  const { id, label, hint, fault } = props;
  return (
    <Field id={id} label={label} fault={fault} {...(hint === undefined ? {} : { hint })}>
      <input
        id={id}
        type="password"
        inputMode="numeric"
        autocomplete="off"
        maxLength={6}
        required
        {...(hint === undefined && fault === undefined ? {} : { "aria-describedby": `${id}-hint` })}
        value={props.value}
        onInput={(event) => props.onInput(event.currentTarget.value.trim())}
      />
    </Field>
  );
}

function Recover(props: {
  recovery: Recovery;
  set: RecoverySet;
  storage: StorageKey | null;
  onChange: (key: Bytes | null) => void;
}) {
  const { recovery, set, storage } = props;
  const [pin, setPin] = useState("");
  const [busy, setBusy] = useState(false);
  const [problem, setProblem] = useState<Problem | null>(null);
  const [key, setKey] = useState<Bytes | null>(null);
  const [others, setOthers] = useState<Others | null>(null);
  const [isCurrent, setCurrent] = useState(true);
  return (
    <section class="card prose">
      <h2>{r("recover")}</h2>
      {key === null ? (
        <form
          class="stack"
          onSubmit={async (event) => {
            event.preventDefault();
            setBusy(true);
            setProblem(null);
            setOthers(null);
            try {
              const found = await recovery.recover(set, pin);
              setPin("");
              setCurrent(storage !== null && (await isOf(found.key, storage.description)));
              setKey(found.key);
              setOthers(await found.others);
            } catch (thrown) {
              setProblem(explained(thrown, set));
              if (thrown instanceof TooFew) setOthers({ lied: [...thrown.lied], silent: [] });
            }
            setBusy(false);
          }}
        >
          <PinField id="pin" label={r("pin")} hint={r("recover_hint")} value={pin} onInput={setPin} />
          <Button kind="main" type="submit" wide busy={busy}>
            {r("recover")}
          </Button>
          {busy && (
            <p class="hint" role="status">
              {r("recovering")}
            </p>
          )}
        </form>
      ) : (
        <div class="stack">
          <h3 id="key-shown">{r("here")}</h3>
          <output class="recovery-key" aria-labelledby="key-shown">
            {spelled(key)}
          </output>
          <p class="hint">{r("here_hint")}</p>
          {!isCurrent && (
            <Notice icon="warn" kind="warn">
              <p>{r("account_changed")}</p>
            </Notice>
          )}
          <CopyButton text={spelled(key)} label={r("copy")} />
          <Button onClick={() => setKey(null)}>{r("hide")}</Button>
        </div>
      )}
      {problem !== null && <Failure problem={problem} />}
      {others !== null && others.lied.length > 0 && (
        <Notice icon="warn" kind="warn">
          <p role="alert">{r("lied", { names: others.lied.join(", ") })}</p>
        </Notice>
      )}
      {key !== null && others !== null && others.silent.length > 0 && (
        <p class="hint">{r("silent", { names: others.silent.join(", ") })}</p>
      )}
      <Button kind="quiet" onClick={() => props.onChange(isCurrent ? key : null)}>
        {r("change")}
      </Button>
    </section>
  );
}

/** What went wrong with a recovery, as a person should hear it. */
function explained(thrown: unknown, set: RecoverySet): Problem {
  if (thrown instanceof WrongPin) return new Problem("PIN_WRONG", r("wrong", { n: thrown.left }));
  if (thrown instanceof TooFew) {
    const problems = [...thrown.problems.values()];
    const right = set.realms.length - problems.length - thrown.lied.length;
    const needed = set.threshold - right;
    if (problems.filter((each) => each.code === "RECOVERY_GONE").length >= needed)
      return new Problem("GONE", r("gone"));
    const waits = problems.map((each) => Number(each.fields.retry_after_ms ?? 0)).sort((one, other) => one - other);
    const longest = waits.filter((each) => each > 0)[needed - 1];
    if (longest !== undefined) return new Problem("WAIT", r("wait", { time: duration(longest) }));
    const silent = [...thrown.problems.keys()].join(", ");
    return new Problem("TOO_FEW", r("too_few", { right, wanted: set.threshold, silent }));
  }
  const problem = asProblem(thrown);
  return problem.code === "KDF" ? new Problem("KDF", r("other_kdf")) : problem;
}

function duration(ms: number): string {
  const minutes = Math.ceil(ms / 60_000);
  return minutes < 90 ? r("minutes", { n: minutes }) : r("hours", { n: Math.ceil(minutes / 60) });
}

function SetUp(props: {
  recovery: Recovery;
  offer: Offer;
  storage: StorageKey;
  /** The key, where a PIN has just brought it back. */
  known: Bytes | null;
  before: RecoverySet | null;
  onDone: () => Promise<void>;
}) {
  const { offer } = props;
  const open = offer.realms.filter((each) => !each.leaving && each.public_key !== undefined);
  const [typed, setTyped] = useState("");
  const [pin, setPin] = useState("");
  const [again, setAgain] = useState("");
  const [short, setShort] = useState(false);
  const [chosen, setChosen] = useState(() => new Set(open.slice(0, offer.shares).map((each) => each.server)));
  const [faults, setFaults] = useState<{ key?: string; pin?: string; again?: string }>({});
  const [progress, setProgress] = useState<{ done: number; of: number } | null>(null);
  const [problem, setProblem] = useState<Problem | null>(null);
  const realms = open.filter((each) => chosen.has(each.server));
  const threshold = realms.length === offer.shares ? offer.threshold : Math.floor(realms.length / 2) + 1;
  const verdict = judge(pin);
  if (open.length < 3 || !open.some((each) => each.own))
    return (
      <Notice icon="warn" kind="warn">
        <p>{r("too_few_realms")}</p>
      </Notice>
    );
  const start = async () => {
    const found: typeof faults = {};
    const key = props.known ?? read(typed);
    if (key === null) found.key = r("key_mistyped");
    else if (!(await isOf(key, props.storage.description))) found.key = r("key_other");
    if (verdict === "digits" || verdict === "common") found.pin = r(verdict);
    if (again !== pin) found.again = r("again_differs");
    setFaults(found);
    setProblem(null);
    if (key === null || Object.keys(found).length > 0 || (verdict === "short" && !short)) return;
    setProgress({ done: 0, of: 1 });
    try {
      await props.recovery.setUp({ pin, key, keyId: props.storage.keyId, realms, threshold }, (done, of) =>
        setProgress({ done, of }),
      );
      await props.onDone();
    } catch (thrown) {
      if (thrown instanceof TooFew) {
        const name = [...thrown.lied, ...thrown.problems.keys()].join(", ");
        setProblem(new Problem("REALM", r("failed", { name })));
      } else {
        const failed = asProblem(thrown);
        setProblem(failed.code === "REALM" ? new Problem("REALM", r("failed", { name: failed.message })) : failed);
      }
    }
    setProgress(null);
  };
  return (
    <section class="card prose">
      <h2>{props.before === null ? r("set_up") : r("change")}</h2>
      <form
        class="stack"
        onSubmit={(event) => {
          event.preventDefault();
          void start();
        }}
      >
        {props.known === null && (
          <Field id="key" label={r("key")} hint={r("key_hint")} fault={faults.key}>
            <input
              id="key"
              autocomplete="off"
              autocapitalize="none"
              spellcheck={false}
              required
              aria-describedby="key-hint"
              value={typed}
              onInput={(event) => setTyped(event.currentTarget.value)}
            />
          </Field>
        )}
        <PinField
          id="new-pin"
          label={r("new_pin")}
          hint={r("new_pin_hint")}
          fault={faults.pin}
          value={pin}
          onInput={setPin}
        />
        <PinField id="again" label={r("again")} fault={faults.again} value={again} onInput={setAgain} />
        {verdict === "short" && (
          <Notice icon="warn" kind="warn">
            <p>{r("short")}</p>
            <label class="tick">
              <input type="checkbox" checked={short} onChange={(event) => setShort(event.currentTarget.checked)} />{" "}
              {r("short_accept")}
            </label>
          </Notice>
        )}
        <fieldset class="realms">
          <legend>{r("realms")}</legend>
          {offer.realms.map((each) => (
            <RealmChoice
              key={each.server}
              realm={each}
              checked={each.own || chosen.has(each.server)}
              onChange={(wanted) => {
                const next = new Set(chosen);
                if (wanted) next.add(each.server);
                else next.delete(each.server);
                setChosen(next);
              }}
            />
          ))}
          <p class="hint">
            {realms.length < 3 ? r("realms_too_few") : r("realms_hint", { threshold, shares: realms.length })}
          </p>
        </fieldset>
        <Button
          kind="main"
          type="submit"
          wide
          busy={progress !== null}
          disabled={realms.length < 3 || (verdict === "short" && !short)}
        >
          {r("start")}
        </Button>
        {progress !== null && (
          <p class="hint" role="status">
            {r("working", progress)}
          </p>
        )}
        {problem !== null && <Failure problem={problem} />}
      </form>
    </section>
  );
}

function RealmChoice(props: { realm: Realm; checked: boolean; onChange: (wanted: boolean) => void }) {
  const { realm } = props;
  const open = !realm.leaving && realm.public_key !== undefined;
  const why = realm.own ? r("realm_own") : realm.leaving ? r("realm_leaving") : open ? "" : r("realm_silent");
  return (
    <label class="tick">
      <input
        type="checkbox"
        checked={props.checked && open}
        disabled={realm.own || !open}
        onChange={(event) => props.onChange(event.currentTarget.checked)}
      />{" "}
      <span>
        <b>{realm.server}</b> {realm.operator !== realm.server && realm.operator}
        {why !== "" && <span class="hint"> – {why}</span>}
      </span>
    </label>
  );
}

function GiveUp(props: { recovery: Recovery; set: RecoverySet; onDone: () => Promise<void> }) {
  const [asked, setAsked] = useState(false);
  const [busy, setBusy] = useState(false);
  const [problem, setProblem] = useState<Problem | null>(null);
  if (!asked)
    return (
      <Button kind="quiet" onClick={() => setAsked(true)}>
        {r("remove")}
      </Button>
    );
  return (
    <section class="card prose">
      <p>{r("remove_hint")}</p>
      <Button
        kind="danger"
        busy={busy}
        onClick={async () => {
          setBusy(true);
          try {
            await props.recovery.giveUp(props.set);
            await props.onDone();
          } catch (thrown) {
            setProblem(asProblem(thrown));
          }
          setBusy(false);
        }}
      >
        {r("remove_sure")}
      </Button>
      {problem !== null && <Failure problem={problem} />}
    </section>
  );
}

function Honest(props: { threshold: number; shares: number }) {
  const { threshold, shares } = props;
  const guesses = Math.floor((GUESSES * shares) / threshold);
  return (
    <details class="card prose">
      <summary>{r("honest")}</summary>
      <p>{r("honest_1", { threshold })}</p>
      <p>{r("honest_2", { threshold })}</p>
      <p>{r("honest_3")}</p>
      <p>{r("honest_4")}</p>
      <p>{r("honest_5")}</p>
      <p>
        {r("honest_6", {
          guesses,
          threshold,
          six: Math.floor(1_000_000 / guesses),
          four: Math.floor(10_000 / guesses),
        })}
      </p>
    </details>
  );
}

async function start(): Promise<void> {
  const root = document.getElementById("root");
  if (root === null) return;
  showTheme(chosenTheme());
  await loadLanguage();
  let problem: Problem | null = null;
  let session = storedSession();
  try {
    session = (await comingBack()) ?? session;
  } catch (thrown) {
    problem = asProblem(thrown);
  }
  const attempt = async () => {
    try {
      const about = await answer(openApi(NOBODY).GET("/about"));
      render(<Page about={about} session={session} problem={problem} />, root);
    } catch (thrown) {
      render(
        <Frame>
          <p class="hint">{new URL(HOMESERVER).host}</p>
          <Failure problem={asProblem(thrown)} again={attempt} />
        </Frame>,
        root,
      );
    }
  };
  await attempt();
  started(root);
}

void start();
