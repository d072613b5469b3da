// People in lists, and how one finds them.

import { useEffect, useId, useState } from "preact/hooks";
import { useContacts, useNewestPayments, usePeople } from "../home.ts";
import { readLink, splitHandle } from "../links.ts";
import type { SearchResult } from "../schema.ts";
import { t } from "../text/index.ts";
import { Avatar, Empty, Failure, Handle, Row, Skeleton, useFocus } from "./basics.tsx";
import { Icon } from "./icons.tsx";
import { otherOf } from "./payments.tsx";

export interface Person {
  /** A full handle, or a user id where there is none. */
  handle: string;
  userId: string | null;
  displayName: string | null;
  /** Those that the homeserver has checked. */
  badges: readonly unknown[];
  contact: boolean;
}

const TYPING_MS = 200;

export function BadgeMark({ badges }: { badges: readonly unknown[] }) {
  if (badges.length === 0) return null;
  return (
    <span class="badge" title={t("badge")}>
      <Icon name="shield" size={16} />
      <span class="unseen">{t("badge")}</span>
    </span>
  );
}

export function PersonRow(props: { person: Person; href?: string; onClick?: () => void }) {
  const { handle, displayName, badges } = props.person;
  const name = displayName ?? `@${splitHandle(handle).name}`;
  return (
    <Row
      {...(props.href === undefined ? {} : { href: props.href })}
      {...(props.onClick === undefined ? {} : { onClick: props.onClick })}
      start={<Avatar name={handle} />}
      title={
        <>
          <bdi>{name}</bdi>
          <BadgeMark badges={badges} />
        </>
      }
      below={<Handle handle={handle} />}
      end={<Icon name="next" size={18} />}
    />
  );
}

/** The display name is the server's answer with badges in it; what it says about itself comes before them. */
function personOf(found: SearchResult): Person {
  return {
    handle: found.handle,
    userId: found.user_id,
    displayName: found.display_name === "" ? null : found.display_name,
    badges: found.badges,
    contact: found.contact,
  };
}

/** A field to find somebody with: contacts and those paid last before anything is typed, then whom the text finds. */
export function FindPerson(props: {
  label: string;
  href?: (person: Person) => string;
  onChoose?: (person: Person) => void;
  focus?: boolean;
}) {
  const id = useId();
  const focus = useFocus(props.focus === true);
  const [typed, setTyped] = useState("");
  const [term, setTerm] = useState("");
  useEffect(() => {
    const timer = setTimeout(() => setTerm(typed), TYPING_MS);
    return () => clearTimeout(timer);
  }, [typed]);
  const link = readLink(term);
  const found = usePeople(link === null ? term : link.payee);
  const contacts = useContacts();
  const payments = useNewestPayments();

  const favouritesFirst = [...(contacts.value?.contacts ?? [])].sort(
    (one, other) => Number(other.favourite === true) - Number(one.favourite === true),
  );
  const known: Person[] = favouritesFirst.map((each) => ({
    handle: each.handle,
    userId: each.user_id,
    displayName: null,
    badges: [],
    contact: true,
  }));
  const recent = [...new Set((payments.value?.payments ?? []).map(otherOf))]
    .filter((userId) => !known.some((each) => each.userId === userId))
    .slice(0, 5)
    .map((userId): Person => ({ handle: userId, userId, displayName: null, badges: [], contact: false }));
  const people = term.trim() === "" ? null : (found.value ?? []).map(personOf);
  const full = link?.payee;
  const list = (shown: readonly Person[]) => (
    <ul class="card list">
      {shown.map((person) => (
        <li key={person.handle}>
          <PersonRow
            person={person}
            {...(props.href === undefined ? {} : { href: props.href(person) })}
            {...(props.onChoose === undefined ? {} : { onClick: () => props.onChoose?.(person) })}
          />
        </li>
      ))}
    </ul>
  );
  return (
    <div class="find">
      <label class="unseen" for={id}>
        {props.label}
      </label>
      <div class="searchbox large">
        <Icon name="search" size={20} />
        <input
          id={id}
          type="search"
          placeholder={t("find.placeholder")}
          autocomplete="off"
          autocapitalize="none"
          spellcheck={false}
          {...focus}
          value={typed}
          onInput={(event) => setTyped(event.currentTarget.value)}
        />
      </div>
      <p class="unseen" role="status">
        {people !== null && found.value !== undefined ? t("find.found", { n: people.length }) : ""}
      </p>
      {people === null ? (
        <>
          {recent.length > 0 && (
            <>
              <h2 class="small">{t("find.recent")}</h2>
              {list(recent)}
            </>
          )}
          {known.length > 0 && (
            <>
              <h2 class="small">{t("people.contacts")}</h2>
              {list(known)}
            </>
          )}
          {known.length + recent.length === 0 && (
            <Empty icon="people" title={t("find.nobody_yet")}>
              <p>{t("find.hint")}</p>
            </Empty>
          )}
        </>
      ) : found.problem !== undefined && found.value === undefined ? (
        <Failure problem={found.problem} again={found.again} />
      ) : found.value === undefined ? (
        <Skeleton rows={2} />
      ) : people.length > 0 ? (
        list(people)
      ) : full !== undefined ? (
        list([{ handle: full, userId: null, displayName: null, badges: [], contact: false }])
      ) : (
        <Empty icon="search" title={t("find.nobody", { term: term.trim() })}>
          <p>{t("find.nobody.hint")}</p>
        </Empty>
      )}
    </div>
  );
}
