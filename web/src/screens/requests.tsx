// Requests for money, made and received, as a list. Making one (ask.tsx) and one of them (asked.tsx) are loaded later.

import { answer } from "../api.ts";
import { useHome } from "../home.ts";
import { Amount, Avatar, day, Empty, LinkButton, Loaded, Row, Screen, Section } from "../parts/basics.tsx";
import { useNames } from "../parts/payments.tsx";
import { type Resource, useResource } from "../resources.ts";
import { to } from "../route.ts";
import type { RequestJson, RequestsPage } from "../schema.ts";
import { type Key, t } from "../text/index.ts";

const SOON_MS = 8_000;

function useRequests(): Resource<RequestsPage> {
  const { api } = useHome();
  return useResource("requests", () => answer(api.GET("/requests", { params: { query: { limit: 50 } } })), SOON_MS);
}

function addressOf(request: RequestJson): string {
  return to("asked", request.request_id, request.direction === "incoming" ? { requester: request.requester } : {});
}

function RequestRow({ request }: { request: RequestJson }) {
  const nameOf = useNames();
  const incoming = request.direction === "incoming";
  const goal = request.kind === "goal";
  const others = incoming || goal ? [request.requester] : request.from.map((each) => each.user_id);
  const state = request.state === "open" && incoming ? null : t(`asked.${request.state}` as Key);
  return (
    <Row
      href={addressOf(request)}
      start={<Avatar name={others[0] ?? "?"} icon={goal ? "goal" : "ask"} />}
      title={<bdi>{others.map(nameOf).join(", ")}</bdi>}
      below={<bdi>{[state, request.memo].filter(Boolean).join(" · ") || t(incoming ? "asked.you" : "asked.them")}</bdi>}
      end={
        <>
          <Amount money={goal ? { amount: request.total, currency: request.currency } : request} />
          <small>{day(request.created_ts)}</small>
        </>
      }
    />
  );
}

/** Those that wait for this person; nothing where there are none. */
export function WaitingRequests() {
  const requests = useRequests();
  const waiting = (requests.value?.requests ?? []).filter(
    // Nobody owes anything to a collection.
    (request) => request.direction === "incoming" && request.state === "open" && request.kind !== "goal",
  );
  if (waiting.length === 0) return null;
  return (
    <Section title={t("asked.waiting")}>
      <ul class="card list">
        {waiting.map((request) => (
          <li key={request.requester + request.request_id}>
            <RequestRow request={request} />
          </li>
        ))}
      </ul>
    </Section>
  );
}

export function RequestsScreen() {
  const requests = useRequests();
  const { widget } = useHome();
  return (
    <Screen
      title={t("requests")}
      back={to()}
      action={
        widget === null && (
          <LinkButton href={to("request")} icon="plus">
            {t("request")}
          </LinkButton>
        )
      }
    >
      <Loaded resource={requests} rows={4}>
        {(page) =>
          page.requests.length === 0 ? (
            <Empty icon="ask" title={t("requests.none")}>
              <p>{t("requests.none.hint")}</p>
            </Empty>
          ) : (
            <ul class="card list">
              {page.requests.map((request) => (
                <li key={request.requester + request.request_id}>
                  <RequestRow request={request} />
                </li>
              ))}
            </ul>
          )
        }
      </Loaded>
    </Screen>
  );
}
