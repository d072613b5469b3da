// What one switches on and off in a call.

import { Icon, type IconName } from "../parts/icons.tsx";

export function Toggle(props: { icon: IconName; label: string; on: boolean; onChange: (on: boolean) => void }) {
  return (
    <button type="button" class="button quiet" aria-pressed={props.on} onClick={() => props.onChange(!props.on)}>
      <Icon name={props.icon} size={20} />
      <span>{props.label}</span>
    </button>
  );
}
