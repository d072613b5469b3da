// How one is found: handles, who sees them, and the wish for another one.

import { useState } from "preact/hooks";
import { answer } from "../api.ts";
import { useHome } from "../home.ts";
import {
  Avatar,
  Button,
  dateTime,
  Failure,
  Field,
  Handle,
  LinkButton,
  Loaded,
  Notice,
  Options,
  Screen,
  Section,
} from "../parts/basics.tsx";
import { asProblem, type Problem } from "../problem.ts";
import { refresh, useResource } from "../resources.ts";
import { to } from "../route.ts";
import type { OwnHandle } from "../schema.ts";
import { splitHandle } from "../links.ts";
import { t } from "../text/index.ts";

type Discover = OwnHandle["discover"];

export function ProfileScreen() {
  const { api, about, session } = useHome();
  const handles = useResource("handles", () => answer(api.GET("/handles")));
  return (
    <Screen title={t("profile")} back={to("me")}>
      <Loaded resource={handles} rows={3}>
        {(found) => {
          const primary = found.handles.find((each) => each.primary);
          const others = found.handles.filter((each) => !each.primary);
          return (
            <>
              <div class="card hero">
                <Avatar name={primary?.handle ?? session.userId} />
                <p class="hero-title">
                  <Handle handle={primary?.handle ?? session.userId} />
                </p>
                <LinkButton href={to("receive")} icon="qr">
                  {t("profile.show_code")}
                </LinkButton>
              </div>
              {primary !== undefined && <Discovery handle={primary} />}
              {others.length > 0 && (
                <Section title={t("profile.others")}>
                  <ul class="card list">
                    {others.map((each) => (
                      <li class="own-handle" key={each.handle}>
                        <OtherHandle
                          own={each}
                          first={splitHandle(each.handle).name === splitHandle(session.userId).name}
                        />
                      </li>
                    ))}
                  </ul>
                </Section>
              )}
              <NewHandle server={about.server_name} />
            </>
          );
        }}
      </Loaded>
    </Screen>
  );
}

/** Change something about one's handles and show how it is now. */
function useChange(): {
  busy: boolean;
  problem: Problem | null;
  change: (call: () => Promise<unknown>) => Promise<boolean>;
} {
  const [busy, setBusy] = useState(false);
  const [problem, setProblem] = useState<Problem | null>(null);
  const change = async (call: () => Promise<unknown>) => {
    setBusy(true);
    setProblem(null);
    try {
      await call();
      return true;
    } catch (thrown) {
      setProblem(asProblem(thrown));
      return false;
    } finally {
      await refresh("handles", "record");
      setBusy(false);
    }
  };
  return { busy, problem, change };
}

function Discovery({ handle }: { handle: OwnHandle }) {
  const { api } = useHome();
  const { problem, change } = useChange();
  const params = { path: { handle: handle.handle } };
  return (
    <Section title={t("discover")}>
      {!handle.chosen && (
        <Notice icon="search">
          <p>{t("discover.unchosen")}</p>
        </Notice>
      )}
      {problem !== null && <Failure problem={problem} />}
      <div class="card prose">
        <Options<Discover>
          label={t("discover.who")}
          value={handle.discover}
          onChange={(discover) =>
            void change(() => answer(api.PUT("/handles/{handle}", { params, body: { discover } })))
          }
          options={[
            ["public", t("discover.public"), t("discover.public.hint")],
            ["exact", t("discover.exact"), t("discover.exact.hint")],
            ["link", t("discover.link"), t("discover.link.hint")],
            ["none", t("discover.none"), t("discover.none.hint")],
          ]}
        />
      </div>
    </Section>
  );
}

function OtherHandle({ own, first }: { own: OwnHandle; first: boolean }) {
  const { api } = useHome();
  const { busy, problem, change } = useChange();
  const params = { path: { handle: own.handle } };
  const released = own.take_back_until !== undefined && own.take_back_until !== null;
  return (
    <>
      <div class="row">
        <span class="row-text">
          <span class="row-title">
            <Handle handle={own.handle} />
          </span>
          <span class="row-below">
            {own.status === "frozen"
              ? t("profile.frozen")
              : released
                ? t("profile.released", { date: dateTime(own.take_back_until ?? 0) })
                : t("profile.alias")}
          </span>
        </span>
        <span class="row-end row-deeds">
          <Button
            kind="quiet"
            busy={busy}
            onClick={() => change(() => answer(api.PUT("/handles/{handle}", { params, body: { as: "primary" } })))}
          >
            {released ? t("profile.take_back") : t("profile.make_primary")}
          </Button>
          {!released && !first && own.status === "active" && (
            <Button
              kind="quiet"
              busy={busy}
              onClick={() => change(() => answer(api.DELETE("/handles/{handle}", { params })))}
            >
              {t("profile.release")}
            </Button>
          )}
        </span>
      </div>
      {problem !== null && <Failure problem={problem} />}
    </>
  );
}

function NewHandle({ server }: { server: string }) {
  const { api } = useHome();
  const { busy, problem, change } = useChange();
  const [name, setName] = useState("");
  const wanted = name.trim().replace(/^@/, "").toLowerCase();
  return (
    <Section title={t("profile.new")}>
      <form
        class="card prose"
        onSubmit={async (event) => {
          event.preventDefault();
          if (wanted === "") return;
          const params = { path: { handle: wanted } };
          if (await change(() => answer(api.PUT("/handles/{handle}", { params, body: {} })))) setName("");
        }}
      >
        <Field id="new-handle" label={t("profile.new.name")} hint={t("profile.new.hint")} fault={problem?.message}>
          <div class="affixed">
            <span aria-hidden="true">@</span>
            <input
              id="new-handle"
              autocomplete="off"
              autocapitalize="none"
              spellcheck={false}
              maxLength={64}
              aria-describedby="new-handle-hint"
              value={name}
              onInput={(event) => setName(event.currentTarget.value)}
            />
            <span aria-hidden="true">:{server}</span>
          </div>
        </Field>
        <Button type="submit" busy={busy} disabled={wanted === ""}>
          {t("profile.new.take")}
        </Button>
      </form>
    </Section>
  );
}
