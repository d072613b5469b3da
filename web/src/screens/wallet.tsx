// What one has, what waits for one, and what happened last.

import { useHome, useNewestPayments, useWallet } from "../home.ts";
import { Amount, Empty, LinkButton, Loaded, Notice, Screen, Section } from "../parts/basics.tsx";
import { Icon, type IconName } from "../parts/icons.tsx";
import { PaymentList, PaymentRow } from "../parts/payments.tsx";
import { to } from "../route.ts";
import { t } from "../text/index.ts";
import { WaitingRequests } from "./requests.tsx";

export function WalletScreen() {
  const { widget } = useHome();
  const wallet = useWallet();
  const payments = useNewestPayments();
  return (
    <Screen title={t("wallet")}>
      <Loaded resource={wallet} rows={1}>
        {(found) => (
          <>
            {found.frozen_since !== undefined && found.frozen_since !== null && (
              <Notice icon="warn" kind="warn">
                <p>{t("wallet.frozen")}</p>
              </Notice>
            )}
            <ul class="balances" aria-label={t("wallet.balances")}>
              {found.accounts.map((account) => (
                <li class="balance" key={account.currency}>
                  <span class="balance-name">{account.currency}</span>
                  <Amount money={{ amount: account.available, currency: account.currency }} large />
                  <span class="balance-held">
                    {account.held > 0 ? (
                      <>
                        {t("wallet.held")} <Amount money={{ amount: account.held, currency: account.currency }} />
                      </>
                    ) : (
                      t("wallet.available")
                    )}
                  </span>
                </li>
              ))}
            </ul>
          </>
        )}
      </Loaded>
      <nav class="deeds" aria-label={t("wallet.deeds")}>
        <Deed href={to("send")} icon="send" text={t("send")} main />
        <Deed href={to("requests")} icon="ask" text={t("request")} />
        {widget === null && <Deed href={to("scan")} icon="qr" text={t("scan")} />}
        <Deed href={to("receive")} icon="receive" text={t("receive")} />
        {widget === null && <Deed href={to("more")} icon="more" text={t("wallet.more")} />}
      </nav>
      <WaitingRequests />
      <Loaded resource={payments} rows={4}>
        {(page) => {
          const waiting = page.payments.filter(
            (payment) => payment.direction === "incoming" && payment.state === "awaiting_acceptance",
          );
          const rest = page.payments.filter((payment) => !waiting.includes(payment)).slice(0, 8);
          return (
            <>
              {waiting.length > 0 && (
                <Section title={t("wallet.waiting")}>
                  <ul class="card list">
                    {waiting.map((payment) => (
                      <li key={payment.payer + payment.payment_id}>
                        <PaymentRow payment={payment} />
                      </li>
                    ))}
                  </ul>
                </Section>
              )}
              <Section
                title={t("wallet.latest")}
                action={rest.length > 0 && <a href={to("activity")}>{t("wallet.all")}</a>}
              >
                {rest.length > 0 ? (
                  <PaymentList payments={rest} />
                ) : (
                  <Empty icon="activity" title={t("activity.none")}>
                    <p>{t("activity.none.hint")}</p>
                    <LinkButton href={to("send")} icon="send">
                      {t("send.first")}
                    </LinkButton>
                  </Empty>
                )}
              </Section>
            </>
          );
        }}
      </Loaded>
    </Screen>
  );
}

function Deed({ href, icon, text, main = false }: { href: string; icon: IconName; text: string; main?: boolean }) {
  return (
    <a href={href} class={main ? "deed main" : "deed"}>
      <span>
        <Icon name={icon} />
      </span>
      {text}
    </a>
  );
}
