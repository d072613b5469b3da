// The passkeys of the wallet: what confirms payments in the place of the PIN.

import { useState } from "preact/hooks";
import { answer } from "../api.ts";
import { useHome } from "../home.ts";
import { Button, Failure, Loaded, Section } from "../parts/basics.tsx";
import { PinField } from "../parts/pin.tsx";
import { addPasskey, passkeyProblem, passkeysWork } from "../passkeys.ts";
import { asProblem, type Problem } from "../problem.ts";
import { useResource } from "../resources.ts";
import { t } from "../text/index.ts";

/** Do things one at a time, and say what did not happen. */
function useDeeds(after: () => Promise<unknown>) {
  const [busy, setBusy] = useState(false);
  const [problem, setProblem] = useState<Problem | null>(null);
  const attempt = async (deed: () => Promise<unknown>) => {
    setBusy(true);
    setProblem(null);
    try {
      await deed();
      await after();
    } catch (thrown) {
      setProblem(asProblem(passkeyProblem(thrown)));
    } finally {
      setBusy(false);
    }
  };
  return { busy, problem, attempt };
}

export function Passkeys() {
  const home = useHome();
  const { api } = home;
  const passkeys = useResource("passkeys", () => answer(api.GET("/wallet/passkeys")));
  const [pin, setPin] = useState("");
  const { busy, problem, attempt } = useDeeds(passkeys.again);
  return (
    <Section title={t("passkey")}>
      <div class="card prose">
        <p class="hint">{passkeysWork() ? t("passkey.hint") : t("passkey.not_here")}</p>
        <Loaded resource={passkeys} rows={1}>
          {(found) => (
            <ul>
              {found.passkeys.map((each) => (
                <li key={each.credential_id}>
                  <bdi>{each.name}</bdi>{" "}
                  <Button
                    kind="quiet"
                    busy={busy}
                    onClick={() =>
                      void attempt(() =>
                        answer(
                          api.DELETE("/wallet/passkeys/{credential_id}", {
                            params: { path: { credential_id: each.credential_id } },
                          }),
                        ),
                      )
                    }
                  >
                    {t("passkey.remove", { name: each.name })}
                  </Button>
                </li>
              ))}
            </ul>
          )}
        </Loaded>
        {passkeysWork() && (
          <form
            class="stack"
            onSubmit={(event) => {
              event.preventDefault();
              void attempt(async () => {
                await addPasskey(home, new Date().toISOString().slice(0, 10), pin);
                setPin("");
              });
            }}
          >
            <PinField id="pin-passkey" label={t("passkey.pin")} value={pin} onInput={setPin} />
            <Button type="submit" busy={busy}>
              {t("passkey.add")}
            </Button>
          </form>
        )}
        {problem !== null && <Failure problem={problem} />}
      </div>
    </Section>
  );
}
