// A module of Element Web, for operators who host it: payments, requests and contacts as cards of the timeline, badges
// of handles, a button to pay in the header of a room and beside the composer, and the wallet without questions.
//
// It is named in Element's config.json ("modules") and runs in Element's page, with what Element's module API lets it do. It
// holds no session and moves nothing: whatever does leads to the wallet. It asks the homeserver for badges alone.

import type { Api, Module, ModuleFactory } from "@element-hq/element-web-module-api";
import { Badges } from "./badges.ts";
import { readCard } from "./cards.ts";
import { otherIn } from "./rooms.ts";
import { TEXTS } from "./text.ts";
import { View } from "./view.ts";

/** ``"org.superapp"`` in Element's config.json. */
interface Settings {
  /** Where the homeserver's pages are; the default homeserver's, if it is left out. */
  wallet?: string;
}

const SETTINGS = "org.superapp";
const WIDGET_TYPE = "m.stickerpicker";
/** What our widget asks for, and no more (web/src/widget-room.ts): to post a notice in a room that it names. */
const SEND = "org.matrix.msc2762.send.event:m.room.message#m.notice";
const TIMELINE = /^org\.matrix\.msc2762\.timeline:!/;

/** What an older Element may lack of the module API. */
type Since<Key extends keyof Api> = Omit<Api, Key> & Partial<Pick<Api, Key>>;
type AnyApi = Since<"client" | "composer" | "extras" | "widgetLifecycle">;

class SuperAppModule implements Module {
  // Cards and the badges on them need 1.4 (Element 1.12). What is in the header, a wallet without questions and the entry
  // in the menu beside the composer came later; an Element that is older does without them.
  static readonly moduleApiVersion = ">=1.4.0 <3.0.0";
  readonly #api: Api;

  constructor(api: Api) {
    this.#api = api;
  }

  async load(): Promise<void> {
    const api: AnyApi = this.#api;
    const settings = settingsOf(this.#api);
    const wallet = walletOf(this.#api, settings);
    if (wallet === null) {
      console.error("Super App: say where the homeserver's pages are, as org.superapp.wallet in config.json");
      return;
    }
    api.i18n.register(TEXTS);
    const open = (address: string) => void window.open(new URL(`app/${address}`, wallet), "_blank", "noopener");
    const view = new View(this.#api, new Badges(wallet), open);
    // Of notices alone: for events of a type of our own Element (1.12) says that they cannot be displayed, whoever draws them.
    api.customComponents.registerMessageRenderer(
      (event) => readCard(event) !== null,
      (props, original) => {
        const card = readCard(props.mxEvent);
        // An edit may have made something else of it since.
        return card === null ? (original?.() ?? window.React.createElement("span")) : view.card(card);
      },
      { allowEditingEvent: false },
    );
    // Asked each time, since a chat becomes one of two while Element runs.
    const other = (roomId: string) => otherIn(roomId, api.client?.accountData?.get("m.direct").value);
    api.extras?.addRoomHeaderButtonCallback((roomId) => view.header(roomId, other(roomId)));
    api.composer?.addFileUploadOption({
      type: "org.superapp.pay",
      label: api.i18n.translate("superapp_pay"),
      onSelected: (roomId) => view.pay(roomId, roomId === undefined ? null : other(roomId)),
    });
    const isOurs = (widget: { type: string; templateUrl: string }) =>
      widget.type === WIDGET_TYPE && widget.templateUrl.startsWith(new URL("widget/", wallet).href);
    api.widgetLifecycle?.registerPreloadApprover((widget) => isOurs(widget) || undefined);
    api.widgetLifecycle?.registerIdentityApprover((widget) => isOurs(widget) || undefined);
    api.widgetLifecycle?.registerCapabilitiesApprover((widget, asked) =>
      isOurs(widget) ? new Set([...asked].filter((each) => each === SEND || TIMELINE.test(each))) : undefined,
    );
  }
}

export default SuperAppModule satisfies ModuleFactory;

/** What the operator wrote, as far as it can be read. */
function settingsOf(api: Api): Settings {
  const found = (api.config.get() as unknown as Record<string, unknown>)[SETTINGS];
  if (typeof found !== "object" || found === null) return {};
  const { wallet } = found as Record<string, unknown>;
  return typeof wallet === "string" ? { wallet } : {};
}

function walletOf(api: Api, settings: Settings): URL | null {
  const config = api.config.get() as unknown as {
    default_server_config?: { "m.homeserver"?: { base_url?: unknown } };
  };
  const homeserver = config.default_server_config?.["m.homeserver"]?.base_url;
  const said =
    settings.wallet ?? (typeof homeserver === "string" ? `${homeserver.replace(/\/$/, "")}/superapp/` : null);
  if (said === null) return null;
  try {
    const url = new URL(said.endsWith("/") ? said : `${said}/`);
    return ["https:", "http:"].includes(url.protocol) ? url : null;
  } catch {
    return null;
  }
}
