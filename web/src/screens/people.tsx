// People: contacts, whom one finds, and what is known of one of them.

import type { ComponentType } from "preact";
import { useEffect, useState } from "preact/hooks";
import { answer } from "../api.ts";
import { useBadges, useContacts, useHome, useNewestPayments } from "../home.ts";
import {
  Avatar,
  Button,
  dateTime,
  Failure,
  Handle,
  LinkButton,
  Loaded,
  Notice,
  Screen,
  Section,
} from "../parts/basics.tsx";
import { Icon } from "../parts/icons.tsx";
import { otherOf, PaymentList } from "../parts/payments.tsx";
import { BadgeMark, FindPerson } from "../parts/people.tsx";
import { asProblem, type Problem } from "../problem.ts";
import { refresh, useResource } from "../resources.ts";
import { to } from "../route.ts";
import type { BelievedBadge, ContactShown, HandleRecord } from "../schema.ts";
import { t } from "../text/index.ts";

export function PeopleScreen() {
  const { widget } = useHome();
  return (
    <Screen title={t("people")}>
      <FindPerson label={t("people.find")} href={(person) => to("person", person.handle)} />
      {widget === null && (
        <p class="centre">
          <a href={to("address-book")}>{t("people.import")}</a>
        </p>
      )}
    </Screen>
  );
}

export function PersonScreen({ handle }: { handle: string }) {
  const { api, about, session, widget } = useHome();
  const record = useResource(`record ${handle}`, () =>
    answer(api.GET("/handles/{handle}", { params: { path: { handle } } })),
  );
  const badges = useBadges(handle);
  const contacts = useContacts();
  const payments = useNewestPayments();
  const shown = record.value?.handle ?? handle;
  const userId = record.value?.user_id ?? handle;
  const contact = contacts.value?.contacts.find((each) => each.user_id === userId || each.handle === handle);
  const between = (payments.value?.payments ?? []).filter((payment) => otherOf(payment) === userId).slice(0, 5);
  const me = userId === session.userId;
  return (
    <Screen title={t("person")} back={to("people")}>
      <div class="card hero">
        <Avatar name={shown} />
        <p class="hero-title">
          <Handle handle={shown} /> <BadgeMark badges={badges.value ?? []} />
        </p>
        {!me && (
          <div class="choices">
            {about.features.includes("payments") && (
              <LinkButton href={to("send", { to: shown })} icon="send" kind="main">
                {t("send")}
              </LinkButton>
            )}
            {about.features.includes("calls") && widget === null && record.value?.services.call !== false && (
              <CallButtons callee={shown} />
            )}
            {contacts.value !== undefined && widget === null && (
              <ContactButton handle={contact?.handle ?? shown} known={contact !== undefined} />
            )}
          </div>
        )}
      </div>
      {!me && widget === null && about.features.includes("payments") && <WhatItCosts key={userId} person={userId} />}
      {record.problem?.code === "UNKNOWN_HANDLE" ? (
        <Notice icon="person">
          <p>{t("person.hidden")}</p>
        </Notice>
      ) : (
        <Loaded resource={record} rows={2}>
          {(found) => <Known record={found} badges={badges.value ?? []} />}
        </Loaded>
      )}
      {contact !== undefined && widget === null && <OwnNotes key={contact.acct} contact={contact} />}
      {between.length > 0 && (
        <Section title={t("person.between")}>
          <PaymentList payments={between} />
        </Section>
      )}
    </Screen>
  );
}

/** Loaded when somebody looks at a contact. */
function OwnNotes({ contact }: { contact: ContactShown }) {
  const [Notes, setNotes] = useState<ComponentType<{ contact: ContactShown }> | null>(null);
  useEffect(() => {
    // Without the file there are no notes to be seen just now, and all else is.
    import("../parts/notes.tsx").then(
      (found) => setNotes(() => found.default),
      () => undefined,
    );
  }, []);
  return Notes === null ? null : <Notes contact={contact} />;
}

/** Loaded after the person is there: most people ask nothing. */
function WhatItCosts({ person }: { person: string }) {
  const [Costs, setCosts] = useState<ComponentType<{ person: string }> | null>(null);
  useEffect(() => {
    import("../parts/reach.tsx").then(
      (found) => setCosts(() => found.Costs),
      // Then they hear of it when they ring.
      () => undefined,
    );
  }, []);
  return Costs === null ? null : <Costs person={person} />;
}

function CallButtons({ callee }: { callee: string }) {
  const home = useHome();
  const [problem, setProblem] = useState<Problem | null>(null);
  const ring = async (media: "audio" | "video") => {
    try {
      setProblem(null);
      const { phoneOf } = await import("../calling/phone.ts");
      await phoneOf(home).ring(callee, media);
    } catch (thrown) {
      setProblem(asProblem(thrown));
    }
  };
  return (
    <>
      <Button icon="phone" onClick={() => ring("audio")}>
        {t("phone.call")}
      </Button>
      <Button icon="video" onClick={() => ring("video")}>
        {t("phone.video_call")}
      </Button>
      {problem !== null && <Failure problem={problem} />}
    </>
  );
}

function ContactButton({ handle, known }: { handle: string; known: boolean }) {
  const { api } = useHome();
  const [busy, setBusy] = useState(false);
  const [problem, setProblem] = useState<Problem | null>(null);
  const params = { path: { handle } };
  return (
    <>
      <Button
        icon={known ? "close" : "plus"}
        busy={busy}
        onClick={async () => {
          setBusy(true);
          setProblem(null);
          try {
            await answer(
              known ? api.DELETE("/contacts/{handle}", { params }) : api.PUT("/contacts/{handle}", { params }),
            );
            await refresh("contacts", "search");
          } catch (thrown) {
            setProblem(asProblem(thrown));
          } finally {
            setBusy(false);
          }
        }}
      >
        {known ? t("person.remove") : t("person.add")}
      </Button>
      {problem !== null && <Failure problem={problem} />}
    </>
  );
}

function Known({ record, badges }: { record: HandleRecord; badges: readonly BelievedBadge[] }) {
  return (
    <>
      <Section title={t("verification")}>
        <div class="card prose">
          {badges.length > 0 ? (
            <ul class="badges">
              {badges.map((badge) => (
                <li key={`${badge.kind} ${badge.issuer}`}>
                  <Icon name="shield" size={20} />
                  <span>
                    {t(`verification.${badge.kind}`, { issuer: badge.issuer })}
                    <small>{t("verification.until", { date: dateTime(badge.expires) })}</small>
                  </span>
                </li>
              ))}
            </ul>
          ) : (
            <p>{t("verification.none")}</p>
          )}
          <details>
            <summary>{t("verification.what")}</summary>
            <p>{t("verification.explained", { server: record.server })}</p>
            <p>{t("verification.advice")}</p>
          </details>
        </div>
      </Section>
      <dl class="card facts">
        <div>
          <dt>{t("person.address")}</dt>
          <dd>
            <bdi>{record.user_id}</bdi>
          </dd>
        </div>
        <div>
          <dt>{t("person.server")}</dt>
          <dd>{record.server}</dd>
        </div>
        <div>
          <dt>{t("person.can")}</dt>
          <dd>
            {[
              record.services.pay === true && t("person.can.pay"),
              record.services.call === true && t("person.can.call"),
              record.services.chat === true && t("person.can.chat"),
            ]
              .filter(Boolean)
              .join(", ") || t("person.can.nothing")}
          </dd>
        </div>
      </dl>
    </>
  );
}
