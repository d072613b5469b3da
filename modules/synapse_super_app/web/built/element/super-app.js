// element-module/src/badges.ts
var e = /^@[!-9;-~]{1,200}:[A-Za-z0-9.:[\]-]{1,230}$/, t = class {
	#e;
	#t;
	#n = /* @__PURE__ */ new Map();
	#r = /* @__PURE__ */ new Set();
	constructor(e, t = Date.now) {
		this.#e = new URL("../_synapse/client/superapp/v1/", e), this.#t = t;
	}
	of(e) {
		let t = this.#n.get(e);
		return (t === void 0 || t.untilMs <= this.#t()) && (this.#i(e, t?.told ?? null), this.#a(e)), this.#n.get(e)?.told ?? null;
	}
	subscribe = (e) => (this.#r.add(e), () => void this.#r.delete(e));
	#i(e, t) {
		this.#n.delete(e), this.#n.set(e, {
			told: t,
			untilMs: this.#t() + 6e5
		});
		let [n] = this.#n.keys();
		this.#n.size > 2e3 && n !== void 0 && this.#n.delete(n);
	}
	async #a(e) {
		let t = null;
		try {
			let r = await fetch(new URL(`handles/${encodeURIComponent(e)}/public`, this.#e), {
				credentials: "omit",
				referrerPolicy: "no-referrer"
			});
			r.ok && (t = n(await r.json()));
		} catch {}
		let r = JSON.stringify(this.#n.get(e)?.told ?? null);
		if (this.#i(e, t), JSON.stringify(t) !== r) for (let e of [...this.#r]) e();
	}
};
function n(t) {
	if (typeof t != "object" || !t) return null;
	let { handle: n, badges: r } = t;
	if (typeof n != "string" || !e.test(n) || !Array.isArray(r)) return null;
	let i = r.map((e) => e?.issuer);
	return {
		handle: n,
		issuers: [...new Set(i.filter((e) => typeof e == "string"))]
	};
}
// src/address.ts
function r(...e) {
	let t = e.filter((e) => typeof e == "string").map(encodeURIComponent), n = new URLSearchParams();
	for (let t of e) if (typeof t != "string") for (let [e, r] of Object.entries(t)) r !== void 0 && n.set(e, r);
	let r = n.toString();
	return `#/${t.join("/")}${r === "" ? "" : `?${r}`}`;
}
// element-module/src/cards.ts
var i = "org.superapp.card", a = /^[0-9a-f]{32}$/, o = /^@[!-9;-~]{1,200}:[A-Za-z0-9.:[\]-]{1,230}$/, s = 512;
function c(e) {
	if (e.stateKey !== void 0 || l(e.content)) return null;
	let t = e.content[i];
	if (e.type !== "m.room.message" || !h(t) || t.v !== 1) return null;
	let n = typeof e.content.body == "string" ? e.content.body.split("\n").slice(0, 4) : [], a = {
		money: u(t),
		memo: d(t.memo),
		state: f(t.state),
		lines: n
	};
	switch (t.kind) {
		case "payment": {
			let { payment_id: n, payer: i } = t;
			return !p(n) || i !== e.sender ? null : {
				kind: "payment",
				from: i,
				to: m(t.payee) ? [t.payee] : [],
				...a,
				address: r("payment", n, { payer: i })
			};
		}
		case "request": {
			let { request_id: n, requester: i } = t;
			return typeof n != "string" || i !== e.sender ? null : {
				kind: "request",
				from: i,
				to: Array.isArray(t.payers) ? t.payers.filter(m) : [],
				...a,
				address: r("asked", n, { requester: i })
			};
		}
		case "contact": {
			let { handle: n, sharer: i } = t;
			return i !== e.sender || !m(n) ? null : {
				kind: "contact",
				from: n,
				to: [],
				...a,
				address: r("person", n)
			};
		}
		case "call": return t.caller === e.sender ? {
			kind: "call",
			from: e.sender,
			to: [],
			...a,
			address: r("calls")
		} : null;
		default: return null;
	}
}
function l(e) {
	let t = e["m.relates_to"];
	return h(t) && t.rel_type === "m.replace";
}
function u(e) {
	let { amount: t, currency: n, scale: r } = e;
	return typeof t != "number" || !Number.isSafeInteger(t) || t < 0 || typeof n != "string" || !/^[A-Z0-9]{1,16}$/.test(n) ? null : {
		amount: t,
		currency: n,
		scale: typeof r == "number" && Number.isInteger(r) && r >= 0 && r <= 18 ? r : null
	};
}
function d(e) {
	return typeof e == "string" && e.trim() !== "" ? e.slice(0, s) : null;
}
function f(e) {
	return typeof e == "string" ? e : null;
}
function p(e) {
	return typeof e == "string" && a.test(e);
}
function m(e) {
	return typeof e == "string" && o.test(e);
}
function h(e) {
	return typeof e == "object" && !!e && !Array.isArray(e);
}
// element-module/src/rooms.ts
function g(e, t) {
	if (typeof t != "object" || !t) return null;
	let n = Object.entries(t).filter(([t, n]) => m(t) && Array.isArray(n) && n.includes(e)).map(([e]) => e);
	return n.length === 1 ? n[0] ?? null : null;
}
// element-module/src/text.ts
var _ = {
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
	superapp_verified_by: {
		en: "%(handle)s, verified by %(issuers)s",
		de: "%(handle)s, geprüft von %(issuers)s"
	},
	superapp_unverified: {
		en: "%(handle)s, verified by nobody",
		de: "%(handle)s, von niemandem geprüft"
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
function v(e) {
	let t = `superapp_state_${e}`;
	return t in _ ? t : null;
}
// src/money.ts
function y(e, t) {
	let n = String(Math.abs(e)).padStart(t + 1, "0"), r = e < 0 ? "-" : "";
	return t === 0 ? r + n : `${r}${n.slice(0, -t)}.${n.slice(-t)}`;
}
function b(e) {
	return /^[A-Z]{3}$/.test(e);
}
function x(e, t, n, r) {
	let i = {
		minimumFractionDigits: t,
		maximumFractionDigits: t
	}, a = r ? "exceptZero" : "auto";
	if (b(e)) try {
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
function S(e, t, n, r = !1) {
	let i = x(e.currency, t, n, r).formatToParts(y(e.amount, t)), a = i.findIndex((e) => e.type === "decimal"), o = i.length;
	for (; o > 0 && !["integer", "fraction"].includes(i[o - 1]?.type ?? "");) --o;
	let s = (e, t) => i.slice(e, t).map((e) => e.value).join(""), c = i.some((e) => e.type === "currency") ? "" : ` ${e.currency}`;
	return {
		whole: s(0, a < 0 ? o : a),
		fraction: a < 0 ? "" : s(a, o),
		after: s(o, i.length) + c
	};
}
function C(e, t, n, r = !1) {
	let { whole: i, fraction: a, after: o } = S(e, t, n, r);
	return i + a + o;
}
// element-module/src/view.ts
var w = {
	display: "inline-flex",
	gap: "12px",
	maxWidth: "420px",
	minWidth: "240px",
	padding: "14px 16px",
	border: "1px solid var(--cpd-color-border-interactive-secondary, #8885)",
	borderRadius: "16px",
	background: "var(--cpd-color-bg-subtle-secondary, transparent)"
}, T = {
	display: "grid",
	gap: "4px",
	minWidth: 0,
	overflowWrap: "anywhere"
}, E = { font: "var(--cpd-font-heading-md-semibold, 600 1.4em sans-serif)" }, D = { color: "var(--cpd-color-text-secondary, inherit)" }, O = {
	display: "flex",
	flexWrap: "wrap",
	gap: "12px",
	marginTop: "4px"
}, k = {
	justifySelf: "start",
	padding: "1px 10px",
	borderRadius: "99px",
	border: "1px solid currentColor",
	fontSize: "0.85em"
}, A = {
	display: "inline-flex",
	alignItems: "center",
	padding: "4px 12px",
	border: "none",
	borderRadius: "99px",
	background: "var(--cpd-color-bg-action-primary-rest, #1b1d22)",
	color: "var(--cpd-color-text-on-solid-primary, #fff)",
	cursor: "pointer",
	font: "inherit"
}, j = {
	...A,
	padding: 0,
	background: "none",
	color: "var(--cpd-color-text-link-external, #0467dd)"
}, M = {
	color: "var(--cpd-color-text-success-primary, #007a61)",
	marginInlineStart: "0.25em",
	fontWeight: 600
}, N = {
	...j,
	maxWidth: "240px",
	marginInlineEnd: "12px",
	whiteSpace: "nowrap"
}, P = {
	overflow: "hidden",
	textOverflow: "ellipsis"
}, F = {
	payment: "💸",
	request: "🙏",
	contact: "👤",
	call: "📞"
}, I = class {
	#e;
	#t;
	#n;
	constructor(e, t, n) {
		this.#e = e, this.#t = t, this.#n = n;
	}
	card(e) {
		let { createElement: t } = window.React, n = e.state === null ? null : v(e.state), r = this.#e.profile.value.userId, i = e.kind === "request" && e.state === "open" && r !== void 0 && e.to.includes(r);
		return t("div", {
			style: w,
			role: "group",
			"aria-label": this.#d(`superapp_${e.kind}`)
		}, t("span", {
			"aria-hidden": !0,
			style: { fontSize: "1.6em" }
		}, F[e.kind]), t("div", { style: T }, e.money !== null && t("strong", { style: E }, this.#u(e.money)), ...this.#c(e), e.memo !== null && t("bdi", { style: D }, e.memo), n !== null && t("span", { style: k }, this.#d(n)), t("div", { style: O }, ...this.#l(e, i))));
	}
	header(e, t) {
		let { createElement: n, Fragment: r } = window.React, i = this.#d("superapp_pay_here");
		return n(r, { key: "superapp" }, t !== null && n(this.#i, { person: t }), n("button", {
			type: "button",
			style: A,
			title: i,
			"aria-label": i,
			onClick: () => this.pay(e, t)
		}, this.#d("superapp_pay")));
	}
	pay(e, t = null) {
		this.#n(r("send", {
			room: e,
			to: t ?? void 0
		}));
	}
	#r = ({ person: e }) => {
		let { createElement: t, Fragment: n } = window.React, r = this.#a(e);
		return t(n, null, t("bdi", { title: e }, r?.handle ?? e), this.#o(r));
	};
	#i = ({ person: e }) => {
		let { createElement: t } = window.React, n = this.#a(e);
		if (n === null) return null;
		let i = this.#s(n);
		return t("button", {
			type: "button",
			style: N,
			title: i,
			"aria-label": i,
			onClick: () => this.#n(r("person", n.handle))
		}, t("bdi", { style: P }, n.handle), this.#o(n));
	};
	#a(e) {
		let t = this.#t, n = () => t.of(e);
		return window.React.useSyncExternalStore(t.subscribe, n, n);
	}
	#o(e) {
		if (e === null || e.issuers.length === 0) return null;
		let t = this.#s(e);
		return window.React.createElement("span", {
			role: "img",
			style: M,
			title: t,
			"aria-label": t
		}, "✓");
	}
	#s(e) {
		let t = e.issuers.length === 0 ? "superapp_unverified" : "superapp_verified_by";
		return this.#e.i18n.translate(t, {
			handle: e.handle,
			issuers: e.issuers.join(", ")
		});
	}
	#c(e) {
		let { createElement: t } = window.React, n = (e) => t(this.#r, {
			key: e,
			person: e
		});
		if (e.kind === "contact") return [t("strong", { key: "who" }, n(e.from))];
		if (e.money === null && e.lines.length > 0) return e.lines.map((e, n) => t("span", { key: n }, t("bdi", null, e)));
		if (e.to.length === 0) return [t("span", { key: "who" }, n(e.from))];
		let r = e.to.map((e, r) => t("span", { key: e }, r === 0 ? "" : ", ", n(e))), i = e.kind === "request" ? "superapp_asks" : "superapp_from_to";
		return [t("span", { key: "who" }, this.#e.i18n.translate(i, {
			from: n(e.from),
			to: t("span", null, ...r)
		}, {}))];
	}
	#l(e, t) {
		let { createElement: n } = window.React, r = (e, t, r) => n("button", {
			key: e,
			type: "button",
			style: t,
			onClick: r
		}, this.#d(e)), i = () => this.#n(e.address);
		return t ? [r("superapp_answer", A, i)] : e.kind === "contact" ? [r("superapp_chat", j, () => void this.#e.navigation.toMatrixToLink(`https://matrix.to/#/${encodeURIComponent(e.from)}`)), r("superapp_check", j, i)] : [r("superapp_open", j, i)];
	}
	#u(e) {
		return C(e, e.scale ?? L(e.currency), this.#e.i18n.language);
	}
	#d(e) {
		return this.#e.i18n.translate(e);
	}
};
function L(e) {
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
var R = "org.superapp", z = "m.stickerpicker", B = "org.matrix.msc2762.send.event:m.room.message#m.notice", V = /^org\.matrix\.msc2762\.timeline:!/, H = class {
	static moduleApiVersion = ">=1.4.0 <3.0.0";
	#e;
	constructor(e) {
		this.#e = e;
	}
	async load() {
		let e = this.#e, n = U(this.#e), r = W(this.#e, n);
		if (r === null) {
			console.error("Super App: say where the homeserver's pages are, as org.superapp.wallet in config.json");
			return;
		}
		e.i18n.register(_);
		let i = new I(this.#e, new t(r), (e) => void window.open(new URL(`app/${e}`, r), "_blank", "noopener"));
		e.customComponents.registerMessageRenderer((e) => c(e) !== null, (e, t) => {
			let n = c(e.mxEvent);
			return n === null ? t?.() ?? window.React.createElement("span") : i.card(n);
		}, { allowEditingEvent: !1 });
		let a = (t) => g(t, e.client?.accountData?.get("m.direct").value);
		e.extras?.addRoomHeaderButtonCallback((e) => i.header(e, a(e))), e.composer?.addFileUploadOption({
			type: "org.superapp.pay",
			label: e.i18n.translate("superapp_pay"),
			onSelected: (e) => i.pay(e, e === void 0 ? null : a(e))
		});
		let o = (e) => e.type === z && e.templateUrl.startsWith(new URL("widget/", r).href);
		e.widgetLifecycle?.registerPreloadApprover((e) => o(e) || void 0), e.widgetLifecycle?.registerIdentityApprover((e) => o(e) || void 0), e.widgetLifecycle?.registerCapabilitiesApprover((e, t) => o(e) ? new Set([...t].filter((e) => e === B || V.test(e))) : void 0);
	}
};
function U(e) {
	let t = e.config.get()[R];
	if (typeof t != "object" || !t) return {};
	let { wallet: n } = t;
	return typeof n == "string" ? { wallet: n } : {};
}
function W(e, t) {
	let n = e.config.get().default_server_config?.["m.homeserver"]?.base_url, r = t.wallet ?? (typeof n == "string" ? `${n.replace(/\/$/, "")}/superapp/` : null);
	if (r === null) return null;
	try {
		let e = new URL(r.endsWith("/") ? r : `${r}/`);
		return ["https:", "http:"].includes(e.protocol) ? e : null;
	} catch {
		return null;
	}
}
export { H as default };
