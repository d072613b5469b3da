// One's links into calls: making one, passing it on, going there, and opening that of somebody else.

import { useState } from "preact/hooks";
import { answer, HOMESERVER } from "../api.ts";
import { useHome, useMoney } from "../home.ts";
import { linkIn } from "../links.ts";
import { asProblem, type Problem } from "../problem.ts";
import { refresh, useResource } from "../resources.ts";
import { go, to } from "../route.ts";
import type { LinkShown } from "../schema.ts";
import { c } from "../text/calling.ts";
import { d } from "../text/deeds.ts";
import { t } from "../text/index.ts";
import { Avatar, Button, CopyButton, dateTime, Failure, Field, LinkButton, Loaded, Row, Section } from "./basics.tsx";

export function CallLinks() {
  const { api } = useHome();
  const links = useResource("call_links", () => answer(api.GET("/call_links")));
  const [pasted, setPasted] = useState("");
  const [busy, setBusy] = useState(false);
  const [problem, setProblem] = useState<Problem | null>(null);
  const attempt = async (deed: () => Promise<unknown>) => {
    setBusy(true);
    setProblem(null);
    try {
      await deed();
      await refresh("call_links");
    } catch (thrown) {
      setProblem(asProblem(thrown));
    } finally {
      setBusy(false);
    }
  };
  const money = useMoney();
  const link = linkIn(pasted);
  return (
    <Section
      title={t("call_links")}
      action={
        <LinkButton icon="plus" href={to("new-call-link")}>
          {t("call_links.new")}
        </LinkButton>
      }
    >
      {problem !== null && <Failure problem={problem} />}
      <Loaded resource={links} rows={1}>
        {(found) =>
          found.links.length === 0 ? (
            <p class="hint">{t("call_links.none")}</p>
          ) : (
            <ul class="card list">
              {found.links.map((each) => (
                <li key={each.link}>
                  <Row
                    start={<Avatar name={each.title} icon="video" />}
                    title={each.title === "" ? t("room_call") : each.title}
                    below={termsIn(each, each.price == null ? null : money(each.price))}
                    end={
                      <span class="pair">
                        <CopyButton
                          text={`${HOMESERVER}superapp/app/${to("call-link", each.link)}`}
                          label={t("call_links.copy")}
                        />
                        {each.room_id != null && (
                          <LinkButton href={to("room-call", each.room_id)}>{t("call_links.enter")}</LinkButton>
                        )}
                        <Button
                          kind="quiet"
                          busy={busy}
                          onClick={() =>
                            attempt(() =>
                              answer(api.DELETE("/call_links/{link}", { params: { path: { link: each.link } } })),
                            )
                          }
                        >
                          {t("call_links.delete")}
                        </Button>
                      </span>
                    }
                  />
                </li>
              ))}
            </ul>
          )
        }
      </Loaded>
      <form
        class="card prose"
        onSubmit={(event) => {
          event.preventDefault();
          if (link !== null) go(to("call-link", link));
        }}
      >
        <Field id="call-link" label={t("call_links.paste")}>
          <input id="call-link" value={pasted} onInput={(event) => setPasted(event.currentTarget.value)} />
        </Field>
        <Button type="submit" disabled={link === null}>
          {t("call_links.enter")}
        </Button>
      </form>
    </Section>
  );
}

function termsIn(link: LinkShown, price: string | null): string {
  const said = [link.is_open ? t("call_links.open") : t("call_links.closed")];
  if (price !== null) said.push(d("price.of_link", { price }));
  if (link.opens_ts != null) said.push(c("link.opens", { date: dateTime(link.opens_ts) }));
  if (link.closes_ts != null) said.push(c("link.closes", { date: dateTime(link.closes_ts) }));
  if (link.waiting_room) said.push(c("link.waits"));
  if (link.waiting != null && link.waiting > 0) said.push(c("link.someone_waits", { n: link.waiting }));
  if (link.max > 0) said.push(c("link.at_most", { n: link.max }));
  return said.join(" · ");
}
