// Bringing in an address book: it is read here, and of it only Matrix addresses are asked about.

import { useRef, useState } from "preact/hooks";
import { answer } from "../api.ts";
import { useHome } from "../home.ts";
import { Avatar, Button, Failure, Handle, Notice, Row, Screen } from "../parts/basics.tsx";
import { asProblem, type Problem } from "../problem.ts";
import { refresh } from "../resources.ts";
import { to } from "../route.ts";
import { d } from "../text/deeds.ts";
import { matrixAddresses } from "../vcard.ts";

const LARGEST_BYTES = 20_000_000;
const MOST = 200;

export function AddressBookScreen() {
  const { api, session } = useHome();
  const input = useRef<HTMLInputElement>(null);
  const [found, setFound] = useState<readonly string[] | null>(null);
  const [outcome, setOutcome] = useState<{ added: number; missing: number } | null>(null);
  const [busy, setBusy] = useState(false);
  const [problem, setProblem] = useState<Problem | null>(null);
  const add = async (addresses: readonly string[]) => {
    setBusy(true);
    setProblem(null);
    let added = 0;
    let missing = 0;
    try {
      for (const handle of addresses) {
        try {
          await answer(api.PUT("/contacts/{handle}", { params: { path: { handle } } }));
          added += 1;
        } catch (thrown) {
          const refused = asProblem(thrown);
          // Somebody whom nobody finds is no reason to leave the others out.
          if (refused.status !== 404) throw refused;
          missing += 1;
        }
      }
      setOutcome({ added, missing });
    } catch (thrown) {
      setProblem(asProblem(thrown));
    } finally {
      setBusy(false);
      void refresh("contacts", "search");
    }
  };
  return (
    <Screen title={d("people.import")} back={to("people")}>
      <p class="hint">{d("people.import.hint")}</p>
      <div class="centre">
        <input
          ref={input}
          class="unseen"
          id="vcard"
          type="file"
          accept=".vcf,text/vcard"
          aria-label={d("people.import.file")}
          tabIndex={-1}
          onChange={async (event) => {
            const file = event.currentTarget.files?.[0];
            event.currentTarget.value = "";
            if (file === undefined || file.size > LARGEST_BYTES) return;
            setOutcome(null);
            const addresses = matrixAddresses(await file.text());
            setFound(addresses.filter((each) => each !== session.userId).slice(0, MOST));
          }}
        />
        <Button icon="file" onClick={() => input.current?.click()}>
          {d("people.import.file")}
        </Button>
      </div>
      <div role="status">
        {found !== null && outcome === null && (
          <Notice icon="people">
            <p>{found.length === 0 ? d("people.import.none") : d("people.import.found", { n: found.length })}</p>
          </Notice>
        )}
        {outcome !== null && (
          <Notice icon="check" kind="good">
            <p>{d("people.import.done", { n: outcome.added })}</p>
            {outcome.missing > 0 && <p>{d("people.import.missing", { n: outcome.missing })}</p>}
          </Notice>
        )}
      </div>
      {problem !== null && <Failure problem={problem} />}
      {found !== null && found.length > 0 && outcome === null && (
        <>
          <ul class="card list">
            {found.map((each) => (
              <li key={each}>
                <Row start={<Avatar name={each} />} title={<Handle handle={each} />} />
              </li>
            ))}
          </ul>
          <Button kind="main" wide icon="plus" busy={busy} onClick={() => add(found)}>
            {d("people.import.add", { n: found.length })}
          </Button>
        </>
      )}
    </Screen>
  );
}
