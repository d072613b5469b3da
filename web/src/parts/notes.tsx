// What one keeps about a contact for oneself.

import { useState } from "preact/hooks";
import { answer } from "../api.ts";
import { useHome } from "../home.ts";
import type { ContactShown } from "../schema.ts";
import { d } from "../text/deeds.ts";
import { t } from "../text/index.ts";
import { Button, Failure, Field, Notice, Section, Switch } from "./basics.tsx";
import { useDeed } from "./compose.tsx";

const NOTE_MAX = 2_000;

export default function Notes({ contact }: { contact: ContactShown }) {
  const { api } = useHome();
  const deed = useDeed("contacts");
  const [note, setNote] = useState(contact.note ?? "");
  const [saved, setSaved] = useState(false);
  const params = { path: { handle: contact.handle } };
  return (
    <Section title={d("note.title")}>
      <form
        class="card prose"
        onSubmit={async (event) => {
          event.preventDefault();
          const body = { note };
          setSaved((await deed.run("note", () => answer(api.POST("/contacts/{handle}", { params, body })))) !== null);
        }}
      >
        <Switch
          label={d("note.favourite")}
          on={contact.favourite === true}
          busy={deed.busy !== null}
          onChange={(favourite) =>
            void deed.run("favourite", () => answer(api.POST("/contacts/{handle}", { params, body: { favourite } })))
          }
        />
        <Field id="note" label={d("note")} hint={d("note.hint")}>
          <textarea
            id="note"
            rows={3}
            maxLength={NOTE_MAX}
            aria-describedby="note-hint"
            value={note}
            onInput={(event) => {
              setNote(event.currentTarget.value);
              setSaved(false);
            }}
          />
        </Field>
        <Button type="submit" busy={deed.busy === "note"}>
          {d("note.save")}
        </Button>
        <div role="status">
          {saved && (
            <Notice icon="check" kind="good">
              <p>{t("saved")}</p>
            </Notice>
          )}
        </div>
        {deed.problem !== null && <Failure problem={deed.problem} />}
      </form>
    </Section>
  );
}
