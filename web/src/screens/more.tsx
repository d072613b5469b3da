// What one does now and then: with others, later, and with one's books.

import { useHome } from "../home.ts";
import { Row, Screen, Section } from "../parts/basics.tsx";
import { Icon, type IconName } from "../parts/icons.tsx";
import { to } from "../route.ts";
import { d, type Name } from "../text/deeds.ts";

type Way = readonly [address: string, icon: IconName, text: Name, hint: Name];

const WAYS: readonly (readonly [Name, readonly Way[]])[] = [
  [
    "more.together",
    [
      ["gifts", "gift", "gifts", "gifts.hint"],
      ["split", "people", "split", "split.hint"],
      ["collect", "goal", "collect", "collect.hint"],
    ],
  ],
  [
    "more.later",
    [
      ["schedules", "calendar", "schedules", "schedules.hint"],
      ["money-links", "link", "links", "links.hint"],
    ],
  ],
  [
    "more.books",
    [
      ["statements", "file", "statements", "statements.hint"],
      ["deposits", "shield", "deposits", "deposits.hint"],
      ["disputes", "scales", "disputes", "disputes.hint"],
      ["safety", "lock", "safety", "safety.hint"],
    ],
  ],
];

export function MoreScreen() {
  const { widget } = useHome();
  // A widget only reads: what is made here is made in the app by itself.
  const shown = widget === null ? WAYS : [];
  return (
    <Screen title={d("more")} back={to()}>
      {shown.map(([title, ways]) => (
        <Section key={title} title={d(title)}>
          <ul class="card list">
            {ways.map(([address, icon, text, hint]) => (
              <li key={address}>
                <Row
                  href={to(address)}
                  start={
                    <span class="row-icon">
                      <Icon name={icon} />
                    </span>
                  }
                  title={d(text)}
                  below={d(hint)}
                  end={<Icon name="next" size={18} />}
                />
              </li>
            ))}
          </ul>
        </Section>
      ))}
    </Screen>
  );
}
