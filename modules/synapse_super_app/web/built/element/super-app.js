// src/address.ts
function e(...e) {
	let t = e.filter((e) => typeof e == "string").map(encodeURIComponent), n = new URLSearchParams();
	for (let t of e) if (typeof t != "string") for (let [e, r] of Object.entries(t)) r !== void 0 && n.set(e, r);
	let r = n.toString();
	return `#/${t.join("/")}${r === "" ? "" : `?${r}`}`;
}
// element-module/src/cards.ts
var t = /^[0-9a-f]{32}$/, n = /^@[^:\s]{1,200}:\S{1,230}$/;
function r(t) {
	if (t.stateKey !== void 0) return null;
	if (t.type === "org.superapp.contact") return a(t.content);
	let n = t.content["org.superapp.card"];
	if (t.type !== "m.room.message" || !d(n) || n.v !== 1) return null;
	let r = typeof t.content.body == "string" ? t.content.body.split("\n").slice(0, 4) : [], i = {
		money: o(n),
		memo: s(n.memo),
		state: c(n.state),
		lines: r
	};
	switch (n.kind) {
		case "payment": {
			let { payment_id: r, payer: a } = n;
			return !l(r) || a !== t.sender ? null : {
				kind: "payment",
				from: a,
				to: u(n.payee) ? [n.payee] : [],
				...i,
				address: e("payment", r, { payer: a })
			};
		}
		case "request": {
			let { request_id: r, requester: a } = n;
			return typeof r != "string" || a !== t.sender ? null : {
				kind: "request",
				from: a,
				to: Array.isArray(n.payers) ? n.payers.filter(u) : [],
				...i,
				address: e("asked", r, { requester: a })
			};
		}
		case "call": return n.caller === t.sender ? {
			kind: "call",
			from: t.sender,
			to: [],
			...i,
			address: e("calls")
		} : null;
		default: return null;
	}
}
function i(t) {
	if (t.stateKey !== void 0) return null;
	let { content: n, sender: r } = t, i = {
		money: o(n),
		memo: s(n.memo),
		state: null,
		lines: []
	};
	if (t.type === "org.superapp.payment" && l(n.payment_id)) {
		let t = typeof n.payee == "string" && u(n.payee) ? [n.payee] : [], a = e("payment", n.payment_id, { payer: r });
		return {
			kind: "payment",
			from: r,
			to: t,
			...i,
			address: a
		};
	}
	if (t.type === "org.superapp.payment.request" && typeof n.request_id == "string") {
		let t = Array.isArray(n.from) ? n.from.filter(u) : [], a = e("asked", n.request_id, { requester: r });
		return {
			kind: "request",
			from: r,
			to: t,
			...i,
			address: a
		};
	}
	return null;
}
function a(t) {
	let { record: n } = t;
	if (!d(n) || !u(n.handle)) return null;
	let { handle: r } = n;
	return {
		kind: "contact",
		from: r,
		to: [],
		money: null,
		memo: null,
		state: null,
		lines: [],
		address: e("person", r)
	};
}
function o(e) {
	let { amount: t, currency: n, scale: r } = e;
	return typeof t != "number" || !Number.isSafeInteger(t) || t < 0 || typeof n != "string" || !/^[A-Z0-9]{1,16}$/.test(n) ? null : {
		amount: t,
		currency: n,
		scale: typeof r == "number" && Number.isInteger(r) && r >= 0 && r <= 18 ? r : null
	};
}
function s(e) {
	return typeof e == "string" && e.trim() !== "" ? e.slice(0, 512) : null;
}
function c(e) {
	return typeof e == "string" ? e : null;
}
function l(e) {
	return typeof e == "string" && t.test(e);
}
function u(e) {
	return typeof e == "string" && n.test(e);
}
function d(e) {
	return typeof e == "object" && !!e && !Array.isArray(e);
}
// element-module/src/text.ts
var f = {
	superapp_pay: {
		en: "Pay",
		de: "Bezahlen"
	},
	superapp_pay_here: {
		en: "Pay somebody in this room",
		de: "Jemanden in diesem Raum bezahlen"
	},
	superapp_payment: {
		en: "Payment",
		de: "Zahlung"
	},
	superapp_request: {
		en: "Request for money",
		de: "Zahlungswunsch"
	},
	superapp_contact: {
		en: "Contact",
		de: "Kontakt"
	},
	superapp_call: {
		en: "Call",
		de: "Anruf"
	},
	superapp_from_to: {
		en: "%(from)s to %(to)s",
		de: "%(from)s an %(to)s"
	},
	superapp_asks: {
		en: "%(from)s asks %(to)s",
		de: "%(from)s bittet %(to)s"
	},
	superapp_open: {
		en: "Open in the wallet",
		de: "Im Geldbeutel öffnen"
	},
	superapp_answer: {
		en: "Pay or decline",
		de: "Bezahlen oder ablehnen"
	},
	superapp_check: {
		en: "See who verified them",
		de: "Sehen, wer sie geprüft hat"
	},
	superapp_chat: {
		en: "Chat",
		de: "Schreiben"
	},
	superapp_state_held: {
		en: "On its way",
		de: "Unterwegs"
	},
	superapp_state_awaiting_acceptance: {
		en: "Waits for an answer",
		de: "Wartet auf eine Antwort"
	},
	superapp_state_committed: {
		en: "On its way",
		de: "Unterwegs"
	},
	superapp_state_completed: {
		en: "Paid",
		de: "Bezahlt"
	},
	superapp_state_declined: {
		en: "Declined",
		de: "Abgelehnt"
	},
	superapp_state_expired: {
		en: "Expired",
		de: "Verfallen"
	},
	superapp_state_cancelled: {
		en: "Taken back",
		de: "Zurückgenommen"
	},
	superapp_state_failed: {
		en: "Failed",
		de: "Gescheitert"
	},
	superapp_state_open: {
		en: "Open",
		de: "Offen"
	},
	superapp_state_paid: {
		en: "Paid",
		de: "Bezahlt"
	}
};
function p(e) {
	let t = `superapp_state_${e}`;
	return t in f ? t : null;
}
// src/money.ts
function m(e, t) {
	let n = String(Math.abs(e)).padStart(t + 1, "0"), r = e < 0 ? "-" : "";
	return t === 0 ? r + n : `${r}${n.slice(0, -t)}.${n.slice(-t)}`;
}
function h(e) {
	return /^[A-Z]{3}$/.test(e);
}
function g(e, t, n, r) {
	let i = {
		minimumFractionDigits: t,
		maximumFractionDigits: t
	}, a = r ? "exceptZero" : "auto";
	if (h(e)) try {
		return new Intl.NumberFormat(n, {
			style: "currency",
			currency: e,
			...i,
			signDisplay: a
		});
	} catch {}
	return new Intl.NumberFormat(n, {
		...i,
		signDisplay: a
	});
}
function _(e, t, n, r = !1) {
	let i = g(e.currency, t, n, r).formatToParts(m(e.amount, t)), a = i.findIndex((e) => e.type === "decimal"), o = i.length;
	for (; o > 0 && !["integer", "fraction"].includes(i[o - 1]?.type ?? "");) --o;
	let s = (e, t) => i.slice(e, t).map((e) => e.value).join(""), c = i.some((e) => e.type === "currency") ? "" : ` ${e.currency}`;
	return {
		whole: s(0, a < 0 ? o : a),
		fraction: a < 0 ? "" : s(a, o),
		after: s(o, i.length) + c
	};
}
function v(e, t, n, r = !1) {
	let { whole: i, fraction: a, after: o } = _(e, t, n, r);
	return i + a + o;
}
// element-module/src/view.ts
var y = {
	display: "inline-flex",
	gap: "12px",
	maxWidth: "420px",
	minWidth: "240px",
	padding: "14px 16px",
	border: "1px solid var(--cpd-color-border-interactive-secondary, #8885)",
	borderRadius: "16px",
	background: "var(--cpd-color-bg-subtle-secondary, transparent)"
}, b = {
	display: "grid",
	gap: "4px",
	minWidth: 0,
	overflowWrap: "anywhere"
}, x = { font: "var(--cpd-font-heading-md-semibold, 600 1.4em sans-serif)" }, S = { color: "var(--cpd-color-text-secondary, inherit)" }, C = {
	display: "flex",
	flexWrap: "wrap",
	gap: "12px",
	marginTop: "4px"
}, w = {
	justifySelf: "start",
	padding: "1px 10px",
	borderRadius: "99px",
	border: "1px solid currentColor",
	fontSize: "0.85em"
}, T = {
	display: "inline-flex",
	alignItems: "center",
	padding: "4px 12px",
	border: "none",
	borderRadius: "99px",
	background: "var(--cpd-color-bg-action-primary-rest, #1b1d22)",
	color: "var(--cpd-color-text-on-solid-primary, #fff)",
	cursor: "pointer",
	font: "inherit"
}, E = {
	...T,
	padding: 0,
	background: "none",
	color: "var(--cpd-color-text-link-external, #0467dd)"
}, D = {
	payment: "💸",
	request: "🙏",
	contact: "👤",
	call: "📞"
}, O = class {
	#e;
	#t;
	constructor(e, t) {
		this.#e = e, this.#t = t;
	}
	card(e) {
		let { createElement: t } = window.React, n = e.state === null ? null : p(e.state), r = this.#e.profile.value.userId, i = e.kind === "request" && e.state === "open" && r !== void 0 && e.to.includes(r);
		return t("div", {
			style: y,
			role: "group",
			"aria-label": this.#o(`superapp_${e.kind}`)
		}, t("span", {
			"aria-hidden": !0,
			style: { fontSize: "1.6em" }
		}, D[e.kind]), t("div", { style: b }, e.money !== null && t("strong", { style: x }, this.#a(e.money)), ...this.#r(e), e.memo !== null && t("bdi", { style: S }, e.memo), n !== null && t("span", { style: w }, this.#o(n)), t("div", { style: C }, ...this.#i(e, i))));
	}
	payButton(e) {
		let { createElement: t } = window.React, n = this.#o("superapp_pay_here");
		return t("button", {
			type: "button",
			key: "superapp_pay",
			style: T,
			title: n,
			"aria-label": n,
			onClick: () => this.#n(e)
		}, this.#o("superapp_pay"));
	}
	#n(e) {
		this.#t(`#/send?room=${encodeURIComponent(e)}`);
	}
	#r(e) {
		let { createElement: t } = window.React, n = (e) => t("bdi", { key: e }, e);
		if (e.kind === "contact") return [t("strong", { key: "who" }, n(e.from))];
		if (e.money === null && e.lines.length > 0) return e.lines.map((e, n) => t("span", { key: n }, t("bdi", null, e)));
		if (e.to.length === 0) return [t("span", { key: "who" }, n(e.from))];
		let r = e.to.map((e, r) => t("span", { key: e }, r === 0 ? "" : ", ", n(e))), i = e.kind === "request" ? "superapp_asks" : "superapp_from_to";
		return [t("span", { key: "who" }, this.#e.i18n.translate(i, {
			from: n(e.from),
			to: t("span", null, ...r)
		}, {}))];
	}
	#i(e, t) {
		let { createElement: n } = window.React, r = (e, t, r) => n("button", {
			key: e,
			type: "button",
			style: t,
			onClick: r
		}, this.#o(e)), i = () => this.#t(e.address);
		return t ? [r("superapp_answer", T, i)] : e.kind === "contact" ? [r("superapp_chat", E, () => void this.#e.navigation.toMatrixToLink(`https://matrix.to/#/${encodeURIComponent(e.from)}`)), r("superapp_check", E, i)] : [r("superapp_open", E, i)];
	}
	#a(e) {
		return v(e, e.scale ?? k(e.currency), this.#e.i18n.language);
	}
	#o(e) {
		return this.#e.i18n.translate(e);
	}
};
function k(e) {
	try {
		return new Intl.NumberFormat("en", {
			style: "currency",
			currency: e
		}).resolvedOptions().maximumFractionDigits ?? 0;
	} catch {
		return 0;
	}
}
// element-module/src/index.ts
var A = "org.superapp", j = "m.stickerpicker", M = "org.matrix.msc2762.send.event:m.room.message#m.notice", N = /^org\.matrix\.msc2762\.timeline:!/, P = class {
	static moduleApiVersion = ">=1.4.0 <3.0.0";
	#e;
	constructor(e) {
		this.#e = e;
	}
	async load() {
		let e = this.#e, t = F(this.#e), n = I(this.#e, t);
		if (n === null) {
			console.error("Super App: say where the homeserver's pages are, as org.superapp.wallet in config.json");
			return;
		}
		e.i18n.register(f);
		let a = (e) => void window.open(new URL(`app/${e}`, n), "_blank", "noopener"), o = new O(this.#e, a), s = (e) => r(e) ?? (t.events === !0 ? i(e) : null);
		e.customComponents.registerMessageRenderer((e) => s(e) !== null, (e, t) => {
			let n = s(e.mxEvent);
			return n === null ? t?.() ?? window.React.createElement("span") : o.card(n);
		}, { allowEditingEvent: !1 }), e.extras?.addRoomHeaderButtonCallback((e) => o.payButton(e)), e.composer?.addFileUploadOption({
			type: "org.superapp.pay",
			label: e.i18n.translate("superapp_pay"),
			onSelected: (e) => a(e === void 0 ? "#/send" : `#/send?room=${encodeURIComponent(e)}`)
		});
		let c = (e) => e.type === j && e.templateUrl.startsWith(new URL("widget/", n).href);
		e.widgetLifecycle?.registerPreloadApprover((e) => c(e) || void 0), e.widgetLifecycle?.registerIdentityApprover((e) => c(e) || void 0), e.widgetLifecycle?.registerCapabilitiesApprover((e, t) => c(e) ? new Set([...t].filter((e) => e === M || N.test(e))) : void 0);
	}
};
function F(e) {
	let t = e.config.get()[A];
	if (typeof t != "object" || !t) return {};
	let { wallet: n, events: r } = t;
	return {
		...typeof n == "string" ? { wallet: n } : {},
		...typeof r == "boolean" ? { events: r } : {}
	};
}
function I(e, t) {
	let n = e.config.get().default_server_config?.["m.homeserver"]?.base_url, r = t.wallet ?? (typeof n == "string" ? `${n.replace(/\/$/, "")}/superapp/` : null);
	if (r === null) return null;
	try {
		let e = new URL(r.endsWith("/") ? r : `${r}/`);
		return ["https:", "http:"].includes(e.protocol) ? e : null;
	} catch {
		return null;
	}
}
export { P as default };
