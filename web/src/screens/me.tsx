// What is one's own: handles, calls, settings; on a phone also the way to them.

import { useHome } from "../home.ts";
import { Avatar, Handle, Row, Screen } from "../parts/basics.tsx";
import { Icon, type IconName } from "../parts/icons.tsx";
import { to } from "../route.ts";
import { d } from "../text/deeds.ts";
import { t } from "../text/index.ts";

export function MeScreen() {
  const { about, session } = useHome();
  const row = (address: string, icon: IconName, title: string, below: string) => (
    <li>
      <Row
        href={address}
        start={
          <span class="row-icon">
            <Icon name={icon} />
          </span>
        }
        title={title}
        below={below}
        end={<Icon name="next" size={18} />}
      />
    </li>
  );
  return (
    <Screen title={t("me")}>
      <div class="card hero">
        <Avatar name={session.userId} />
        <p class="hero-title">
          <Handle handle={session.userId} />
        </p>
      </div>
      <ul class="card list">
        {about.features.includes("directory") && row(to("profile"), "person", t("profile"), t("profile.hint"))}
        {about.features.includes("payments") && row(to("receive"), "qr", t("receive"), t("receive.row"))}
        {about.features.includes("payments") && row(to("more"), "more", d("more"), d("more.hint"))}
        {about.features.includes("payments") && row(to("safety"), "lock", d("safety"), d("safety.hint"))}
        {about.features.includes("calls") && row(to("calls"), "phone", t("calls"), t("calls.hint"))}
        {row(to("settings"), "settings", t("settings"), t("settings.hint"))}
      </ul>
    </Screen>
  );
}
