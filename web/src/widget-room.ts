// What the widget does in the room that it is opened in, as far as its client lets it.

import type { WidgetApi } from "matrix-widget-api";

/** A readable line about a payment. */
export interface Card {
  paymentId: string;
  payer: string;
  text: string;
}

const ENCRYPTION = "m.room.encryption";
const CARD_KEY = "org.superapp.card";

export function wantedCapabilities(client: WidgetApi): void {
  client.requestCapabilityToReceiveState(ENCRYPTION, "");
  client.requestCapabilityToSendMessage("m.notice");
}

/** Whether the room is known to be encrypted: there the homeserver cannot write a readable card, and the client can. */
export async function encrypted(client: WidgetApi): Promise<boolean> {
  if (!client.hasCapability(`org.matrix.msc2762.receive.state_event:${ENCRYPTION}#`)) return false;
  if (!client.hasCapability("org.matrix.msc2762.send.event:m.room.message#m.notice")) return false;
  try {
    const found = await client.readStateEvents(ENCRYPTION, 1, "");
    return found.length > 0;
  } catch {
    return false;
  }
}

/** Say it in the room, encrypted by the client. A room without the card still has the payment. */
export async function postCard(client: WidgetApi, card: Card): Promise<void> {
  await client.sendRoomEvent("m.room.message", {
    msgtype: "m.notice",
    body: card.text,
    [CARD_KEY]: { v: 1, kind: "payment", payment_id: card.paymentId, payer: card.payer },
  });
}
