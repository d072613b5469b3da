// What the widget knows of the room that it is opened in and does there, as far as its client lets it.

import type { IRoomEvent, IWidgetApiRequest, WidgetApi } from "matrix-widget-api";

/** A readable line about a payment. */
export interface Card {
  paymentId: string;
  payer: string;
  text: string;
  /** The same for clients that draw a card of their own. */
  terms: { payee: string; amount: number; currency: string; scale: number; memo?: string; state: string };
}

const ENCRYPTION = "m.room.encryption";
const CARD_KEY = "org.superapp.card";

/** The room as its client shows it. It has to be made before the client is listened to. */
export class Room {
  #encrypted = false;
  /** Whether the client has said what the widget may do. */
  #negotiated = false;
  readonly #client: WidgetApi;

  constructor(client: WidgetApi) {
    this.#client = client;
    client.requestCapabilityToReceiveState(ENCRYPTION, "");
    client.requestCapabilityToSendMessage("m.notice");
    // What newer clients tell by themselves; older ones are asked, see look().
    client.on("action:update_state", (event: CustomEvent<IWidgetApiRequest>) => {
      event.preventDefault();
      const { state } = event.detail.data as { state?: IRoomEvent[] };
      this.#learn(state ?? []);
      client.transport.reply(event.detail, {});
    });
  }

  /** To be called once the client has said what the widget may do. */
  async look(): Promise<void> {
    this.#negotiated = true;
    if (!this.#client.hasCapability(`org.matrix.msc2762.receive.state_event:${ENCRYPTION}#`)) return;
    try {
      this.#learn(await this.#client.readStateEvents(ENCRYPTION, 1, ""));
    } catch {
      // A client that neither tells nor answers: the payment stands without a line about it.
    }
  }

  /** Say it in the room, encrypted by the client. Where the room is not encrypted the homeserver says it itself. */
  async post(card: Card): Promise<void> {
    if (
      !this.#negotiated ||
      !this.#encrypted ||
      !this.#client.hasCapability("org.matrix.msc2762.send.event:m.room.message#m.notice")
    )
      return;
    await this.#client.sendRoomEvent("m.room.message", {
      msgtype: "m.notice",
      body: card.text,
      [CARD_KEY]: { v: 1, kind: "payment", payment_id: card.paymentId, payer: card.payer, ...card.terms },
    });
  }

  #learn(events: readonly IRoomEvent[]): void {
    // Encryption that was switched on once stays on.
    this.#encrypted ||= events.some((event) => event.type === ENCRYPTION);
  }
}
