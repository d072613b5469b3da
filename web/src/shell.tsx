// The frame around every screen: where one can go, whether the homeserver answers, and which screen it is.

import type { ComponentType } from "preact";
import { useEffect, useState } from "preact/hooks";
import { useHome } from "./home.ts";
import { keepOrder, keptOrder, order } from "./orders.ts";
import { Button, Empty, Failure, LinkButton, Notice, Screen, Skeleton } from "./parts/basics.tsx";
import { Icon, type IconName } from "./parts/icons.tsx";
import { asProblem, type Problem } from "./problem.ts";
import { refresh, watchProblems } from "./resources.ts";
import { type Route, to, useRoute } from "./route.ts";
import { ActivityScreen } from "./screens/activity.tsx";
import { PaymentScreen } from "./screens/payment.tsx";
import { PeopleScreen, PersonScreen } from "./screens/people.tsx";
import { RequestsScreen } from "./screens/requests.tsx";
import { SendScreen } from "./screens/send.tsx";
import { WalletScreen } from "./screens/wallet.tsx";
import { t } from "./text/index.ts";

interface Place {
  name: string;
  icon: IconName;
  text: string;
  feature?: string;
  /** On a phone it stands below "me". */
  wide?: true;
  /** It needs more rights than a widget has. */
  app?: true;
}

function places(): Place[] {
  return [
    { name: "", icon: "wallet", text: t("wallet"), feature: "payments" },
    { name: "activity", icon: "activity", text: t("activity"), feature: "payments" },
    { name: "send", icon: "send", text: t("send"), feature: "payments" },
    { name: "people", icon: "people", text: t("people"), feature: "directory" },
    { name: "calls", icon: "phone", text: t("calls"), feature: "calls", wide: true, app: true },
    { name: "profile", icon: "person", text: t("profile"), feature: "directory", wide: true, app: true },
    { name: "settings", icon: "settings", text: t("settings"), wide: true, app: true },
  ];
}

/** Where a screen belongs, for the mark in the navigation. */
const BELONGS: Readonly<Record<string, string>> = {
  "call-link": "calls",
  "new-call-link": "calls",
  payment: "activity",
  person: "people",
  "address-book": "people",
  receive: "",
  request: "",
  requests: "",
  "room-call": "calls",
  asked: "",
  scan: "",
  more: "",
  gifts: "",
  give: "",
  gift: "",
  "money-links": "",
  "money-link": "",
  claim: "",
  split: "",
  collect: "",
  schedules: "",
  schedule: "",
  deposits: "",
  disputes: "",
  dispute: "activity",
  statements: "",
  year: "",
  safety: "",
};
const BELOW_ME: readonly string[] = ["calls", "profile", "settings", "me"];

export function Shell() {
  const { about, widget } = useHome();
  const route = useRoute();
  const at = route.path[0] ?? "";
  const current = BELONGS[at] ?? at;
  const here = places().filter(
    (place) =>
      (place.feature === undefined || about.features.includes(place.feature)) && !(widget !== null && place.app),
  );
  return (
    <div class={widget === null ? "shell" : "shell in-widget"}>
      <a class="skip" href="#main" onClick={skip}>
        {t("skip")}
      </a>
      <nav class="places" aria-label={t("places")}>
        <a class="brand" href={to()} aria-hidden="true" tabIndex={-1}>
          <img src="../icon.svg" alt="" width="32" height="32" />
          <span>{about.server_name}</span>
        </a>
        {here.map((place) => (
          <PlaceLink key={place.name} place={place} current={current === place.name} />
        ))}
        {widget === null && (
          <PlaceLink
            place={{ name: "me", icon: "person", text: t("me") }}
            current={BELOW_ME.includes(current)}
            narrow
          />
        )}
      </nav>
      <main id="main" tabIndex={-1}>
        <Connection />
        <Unfinished />
        <Where key={route.path.join("/")} route={route} features={about.features} />
      </main>
      {widget === null && about.features.includes("calls") && <Telephone />}
    </div>
  );
}

/** Rings and calls; it is loaded once the screen is there. */
function Telephone() {
  const [Place, setPlace] = useState<ComponentType | null>(null);
  useEffect(() => {
    let here = true;
    import("./calling/place.tsx").then(
      ({ CallPlace }) => here && setPlace(() => CallPlace),
      // Without it nothing rings on this page until it is opened again; everything else is there.
      () => undefined,
    );
    return () => {
      here = false;
    };
  }, []);
  return Place === null ? null : <Place />;
}

function skip(event: Event): void {
  event.preventDefault();
  document.getElementById("main")?.focus();
}

function PlaceLink({ place, current, narrow = false }: { place: Place; current: boolean; narrow?: boolean }) {
  return (
    <a
      class={`place${place.wide ? " wide-only" : ""}${narrow ? " narrow-only" : ""}${place.name === "send" ? " send" : ""}`}
      href={to(...(place.name === "" ? [] : [place.name]))}
      aria-current={current ? "page" : undefined}
    >
      <span class="place-icon">
        <Icon name={place.icon} />
      </span>
      <span>{place.text}</span>
    </a>
  );
}

function Where({ route, features }: { route: Route; features: readonly string[] }) {
  const [first, second] = route.path;
  const payments = features.includes("payments");
  const directory = features.includes("directory");
  if (first === undefined && payments) return <WalletScreen />;
  if (first === undefined) return directory ? <PeopleScreen /> : <Later load={me} />;
  if (payments && first === "activity") return <ActivityScreen />;
  if (payments && first === "send") return <SendScreen route={route} />;
  if (payments && first === "requests") return <RequestsScreen />;
  if (payments && first === "payment" && second !== undefined)
    return <PaymentScreen paymentId={second} payer={route.query.get("payer") ?? undefined} />;
  if (directory && first === "people") return <PeopleScreen />;
  if (directory && first === "person" && second !== undefined) return <PersonScreen handle={second} />;
  const later = LATER[first] ?? (payments ? moneyLater(first, second) : undefined);
  if (later !== undefined) return <Later load={later} />;
  return (
    <Screen title={t("lost")}>
      <Empty icon="search" title={t("lost.title")}>
        <LinkButton href={to()}>{t("lost.home")}</LinkButton>
      </Empty>
    </Screen>
  );
}

type Load = () => Promise<ComponentType>;

const me: Load = async () => (await import("./screens/me.tsx")).MeScreen;

/** Screens that are loaded when somebody goes there. */
const LATER: Readonly<Record<string, Load>> = {
  me,
  profile: async () => (await import("./screens/profile.tsx")).ProfileScreen,
  calls: async () => (await import("./screens/calls.tsx")).CallsScreen,
  "call-link": async () => (await import("./screens/room-call.tsx")).CallLinkScreen,
  "room-call": async () => (await import("./screens/room-call.tsx")).RoomCallScreen,
  "new-call-link": async () => (await import("./screens/new-call-link.tsx")).NewCallLinkScreen,
  settings: async () => (await import("./screens/settings.tsx")).SettingsScreen,
  receive: async () => (await import("./screens/receive.tsx")).ReceiveScreen,
  scan: async () => (await import("./screens/scan.tsx")).ScanScreen,
  "address-book": async () => (await import("./screens/address-book.tsx")).AddressBookScreen,
};

const gifts = () => import("./screens/gifts.tsx");
const links = () => import("./screens/money-links.tsx");
const asks = () => import("./screens/ask.tsx");
const schedules = () => import("./screens/schedules.tsx");
const disputes = () => import("./screens/disputes.tsx");
const statements = () => import("./screens/statements.tsx");

/** What people do with money now and then. A name with a second part behind it is one of those that the name lists. */
const MONEY: Readonly<Record<string, Load>> = {
  more: async () => (await import("./screens/more.tsx")).MoreScreen,
  gifts: async () => (await gifts()).GiftsScreen,
  give: async () => (await gifts()).GiveScreen,
  "gift/": async () => (await gifts()).GiftScreen,
  "money-links": async () => (await links()).MoneyLinksScreen,
  "money-links/": async () => (await links()).MoneyLinkScreen,
  "money-link": async () => (await links()).MakeLinkScreen,
  claim: async () => (await links()).ClaimScreen,
  request: async () => (await asks()).AskScreen,
  split: async () => (await asks()).SplitScreen,
  collect: async () => (await asks()).CollectScreen,
  "asked/": async () => (await import("./screens/asked.tsx")).AskedScreen,
  schedules: async () => (await schedules()).SchedulesScreen,
  "schedules/": async () => (await schedules()).ScheduleScreen,
  schedule: async () => (await schedules()).NewScheduleScreen,
  disputes: async () => (await disputes()).DisputesScreen,
  "disputes/": async () => (await disputes()).DisputeScreen,
  "dispute/": async () => (await disputes()).OpenDisputeScreen,
  statements: async () => (await statements()).StatementsScreen,
  "statements/": async () => (await statements()).StatementScreen,
  "year/": async () => (await statements()).YearScreen,
  deposits: async () => (await import("./screens/deposits.tsx")).DepositsScreen,
  safety: async () => (await import("./screens/safety.tsx")).SafetyScreen,
};

function moneyLater(first: string, second: string | undefined): Load | undefined {
  return MONEY[second === undefined ? first : `${first}/`];
}

const loaded = new Map<Load, ComponentType>();

function Later({ load }: { load: Load }) {
  const [, redraw] = useState(0);
  const [problem, setProblem] = useState<Problem | null>(null);
  const attempt = async () => {
    try {
      loaded.set(load, await load());
      setProblem(null);
    } catch {
      // Some browsers remember for the life of a page that a file got lost.
      if (problem !== null) location.reload();
      setProblem(asProblem(new TypeError()));
    }
    redraw((count) => count + 1);
  };
  useEffect(() => {
    if (!loaded.has(load)) void attempt();
  }, [load]);
  const Found = loaded.get(load);
  if (Found !== undefined) return <Found />;
  return problem === null ? <Skeleton rows={4} /> : <Failure problem={problem} again={attempt} />;
}

/** Said as soon as nobody answers, and gone as soon as somebody does. */
function Connection() {
  const [offline, setOffline] = useState(!navigator.onLine);
  useEffect(() => {
    const gone = () => setOffline(true);
    const back = () => setOffline(false);
    watchProblems((problem) => setOffline(problem?.offline === true));
    addEventListener("offline", gone);
    addEventListener("online", back);
    return () => {
      watchProblems(() => undefined);
      removeEventListener("offline", gone);
      removeEventListener("online", back);
    };
  }, []);
  return (
    <div role="status">
      {offline && (
        <Notice icon="offline" kind="warn">
          <p>{t("offline")}</p>
        </Notice>
      )}
    </div>
  );
}

/** A payment whose end this page never heard of, because it was closed or cut off: asked for again, it pays no second time. */
function Unfinished() {
  const home = useHome();
  const [kept] = useState(() => (home.widget === null ? keptOrder(home.session.userId) : null));
  const [busy, setBusy] = useState(false);
  const [done, setDone] = useState(false);
  const [problem, setProblem] = useState<Problem | null>(null);
  if (kept === null || done) return null;
  return (
    <Notice icon="clock" kind="warn">
      <p>{t("unfinished", { payee: kept.payee })}</p>
      {problem !== null && <Failure problem={problem} />}
      <div class="pair">
        <Button
          kind="main"
          busy={busy}
          onClick={async () => {
            setBusy(true);
            try {
              const payment = await order(home, kept);
              setDone(true);
              location.hash = to("payment", payment.payment_id);
            } catch (thrown) {
              setProblem(asProblem(thrown));
            } finally {
              setBusy(false);
              void refresh("wallet", "payment");
            }
          }}
        >
          {t("unfinished.finish")}
        </Button>
        <Button
          onClick={() => {
            keepOrder(home.session.userId, null);
            setDone(true);
            location.hash = to("payment", kept.payment_id);
          }}
        >
          {t("unfinished.look")}
        </Button>
      </div>
    </Notice>
  );
}
