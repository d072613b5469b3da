// Where the PIN of the wallet is typed, and nowhere else.

import { Field } from "./basics.tsx";

export function PinField(props: { id: string; label: string; value: string; onInput: (pin: string) => void }) {
  return (
    <Field id={props.id} label={props.label}>
      <input
        id={props.id}
        type="password"
        inputMode="numeric"
        autocomplete="off"
        maxLength={8}
        value={props.value}
        onInput={(event) => props.onInput(event.currentTarget.value)}
      />
    </Field>
  );
}
