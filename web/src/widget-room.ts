// What the widget says in rooms, as far as its client and its person let it.

import type { IWidgetApiRequest, WidgetApi } from "matrix-widget-api";

/** A readable line about a payment that was made in an encrypted room. */
export interface Card {
  roomId: string;
  paymentId: string;
  payer: string;
  text: string;
  /** The same for clients that draw a card of their own. */
  terms: { payee: string; amount: number; currency: string; scale: number; memo?: string; state: string };
}

const CARD_KEY = "org.superapp.card";
const SEND = "org.matrix.msc2762.send.event:m.room.message#m.notice";
/** How long somebody may take to say whether the line is posted. */
const ANSWERED_MS = 120_000;

/**
 * The wallet behind the sticker button follows its person from room to room in one frame, and a client says of the room
 * that it began in, or of the one that is looked at, or of neither: what it is told without the name of a room may land
 * in any of them. So nothing is sent but to a room by its name, and the client is asked for that room when it is needed.
 */
export class Room {
  readonly #client: WidgetApi;
  readonly #approved = new Set<string>();
  #notified: (() => void) | null = null;

  /** It has to be made before the client is listened to. */
  constructor(client: WidgetApi) {
    this.#client = client;
    client.on("action:notify_capabilities", (event: CustomEvent<IWidgetApiRequest>) => {
      const { approved } = event.detail.data as { approved?: string[] };
      for (const capability of approved ?? []) this.#approved.add(capability);
      this.#notified?.();
    });
  }

  /** Say it in the room, encrypted by the client; a client or person who does not want that is left alone. */
  async post(card: Card): Promise<void> {
    if (!(await this.#mayPost(card.roomId))) return;
    const content = {
      msgtype: "m.notice",
      body: card.text,
      "m.mentions": {},
      [CARD_KEY]: { v: 1, kind: "payment", payment_id: card.paymentId, payer: card.payer, ...card.terms },
    };
    await this.#client.sendRoomEvent("m.room.message", content, card.roomId);
  }

  async #mayPost(roomId: string): Promise<boolean> {
    const timeline = `org.matrix.msc2762.timeline:${roomId}`;
    const wanted = [SEND, timeline];
    if (wanted.every((each) => this.#approved.has(each))) return true;
    const notified = new Promise<void>((resolve) => {
      this.#notified = resolve;
      setTimeout(resolve, ANSWERED_MS);
    });
    try {
      // Clients that cannot be asked once they have begun throw here.
      this.#client.requestCapabilities(wanted);
      await this.#client.updateRequestedCapabilities();
    } catch {
      return false;
    }
    await notified;
    return wanted.every((each) => this.#approved.has(each));
  }
}
