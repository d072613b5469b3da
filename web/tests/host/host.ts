// A client around the widget, as small as one can be: the other side of the widget API, and what it was asked for.
//
// What it allows stands in its address. The tests read what happened from ``window.client``.

import {
  type Capability,
  ClientWidgetApi,
  type IOpenIDUpdate,
  type ISendEventDetails,
  OpenIDRequestState,
  type SimpleObservable,
  Widget,
  WidgetApiToWidgetAction,
  WidgetDriver,
} from "matrix-widget-api";

interface Seen {
  asked: string[];
  openIdAsks: number;
  sent: { room: string | null; type: string; content: unknown }[];
  openId: object | null;
}

declare global {
  interface Window {
    client: Seen;
  }
}

const query = new URLSearchParams(location.search);
const room = query.get("room") ?? "";

window.client = { asked: [], openIdAsks: 0, sent: [], openId: JSON.parse(query.get("openid") ?? "null") };

class Driver extends WidgetDriver {
  override async validateCapabilities(requested: Set<Capability>): Promise<Set<Capability>> {
    window.client.asked = [...window.client.asked, ...requested].sort();
    return query.get("allow") === "none" ? new Set() : requested;
  }

  override askOpenID(observer: SimpleObservable<IOpenIDUpdate>): void {
    window.client.openIdAsks += 1;
    const token = window.client.openId;
    if (token === null) observer.update({ state: OpenIDRequestState.Blocked });
    else observer.update({ state: OpenIDRequestState.Allowed, token });
  }

  override async sendEvent(
    type: string,
    content: unknown,
    _stateKey: string | null = null,
    named: string | null = null,
  ): Promise<ISendEventDetails> {
    window.client.sent.push({ room: named, type, content });
    return { roomId: named ?? room, eventId: "$sent" };
  }

  override getKnownRooms(): string[] {
    return [room];
  }
}

const frame = document.getElementById("widget") as HTMLIFrameElement;
const widget = new Widget({
  id: query.get("id") ?? "org.superapp.wallet",
  creatorUserId: "@alice:here",
  type: "m.stickerpicker",
  url: query.get("widget") ?? "",
});
const api = new ClientWidgetApi(widget, frame, new Driver());
if (query.get("allow") === "nothing said") {
  // A client that was busy when the widget came, and whose one question about capabilities got lost.
  const { transport } = api;
  const send = transport.send.bind(transport);
  transport.send = (action, ...rest) =>
    action === WidgetApiToWidgetAction.Capabilities ? new Promise(() => undefined) : send(action, ...rest);
}
api.setViewedRoomId(room);
const address = new URL(
  widget.getCompleteUrl({ widgetRoomId: room, currentUserId: "@alice:here", deviceId: "X", clientTheme: "light" }),
);
address.searchParams.set("parentUrl", location.href);
frame.src = address.href;
