// What the module says, in the form in which Element takes translations.

export const TEXTS = {
  superapp_pay: { en: "Pay", de: "Bezahlen" },
  superapp_pay_here: { en: "Pay somebody in this room", de: "Jemanden in diesem Raum bezahlen" },
  superapp_payment: { en: "Payment", de: "Zahlung" },
  superapp_request: { en: "Request for money", de: "Zahlungswunsch" },
  superapp_contact: { en: "Contact", de: "Kontakt" },
  superapp_call: { en: "Call", de: "Anruf" },
  superapp_from_to: { en: "%(from)s to %(to)s", de: "%(from)s an %(to)s" },
  superapp_asks: { en: "%(from)s asks %(to)s", de: "%(from)s bittet %(to)s" },
  superapp_open: { en: "Open in the wallet", de: "Im Geldbeutel öffnen" },
  superapp_answer: { en: "Pay or decline", de: "Bezahlen oder ablehnen" },
  superapp_check: { en: "See who verified them", de: "Sehen, wer sie geprüft hat" },
  superapp_verified_by: { en: "%(handle)s, verified by %(issuers)s", de: "%(handle)s, geprüft von %(issuers)s" },
  superapp_unverified: { en: "%(handle)s, verified by nobody", de: "%(handle)s, von niemandem geprüft" },
  superapp_chat: { en: "Chat", de: "Schreiben" },
  superapp_state_held: { en: "On its way", de: "Unterwegs" },
  superapp_state_awaiting_acceptance: { en: "Waits for an answer", de: "Wartet auf eine Antwort" },
  superapp_state_committed: { en: "On its way", de: "Unterwegs" },
  superapp_state_completed: { en: "Paid", de: "Bezahlt" },
  superapp_state_declined: { en: "Declined", de: "Abgelehnt" },
  superapp_state_expired: { en: "Expired", de: "Verfallen" },
  superapp_state_cancelled: { en: "Taken back", de: "Zurückgenommen" },
  superapp_state_failed: { en: "Failed", de: "Gescheitert" },
  superapp_state_open: { en: "Open", de: "Offen" },
  superapp_state_paid: { en: "Paid", de: "Bezahlt" },
} as const;

export type TextKey = keyof typeof TEXTS;

/** The text for a state of a payment or request; null for one that this module does not know. */
export function stateKey(state: string): TextKey | null {
  const key = `superapp_state_${state}`;
  return key in TEXTS ? (key as TextKey) : null;
}
