// What the page of recovery says. It has texts of its own, so that the web app's first load does not carry them.

import { chosenLanguage, fill, preferred } from "../text/index.ts";

const en = {
  title: "Recovery PIN",
  lead: "Six digits that bring your Element recovery key back when you have lost your devices.",
  not_wallet:
    "This is not the PIN of your wallet. Take another one: the wallet's PIN is known to your homeserver in a way that this one is not.",
  off: "This homeserver does not offer a recovery PIN. Keep your recovery key in a safe place.",
  too_few_realms: "Fewer than three homeservers can guard shares just now, so no PIN can be set up. Try again later.",
  no_storage:
    "Your account has no recovery key yet. In Element open Settings, Encryption, and set up recovery; then come back.",
  recover: "Get your recovery key",
  recover_hint: "After ten wrong PINs the shares are destroyed. All your sessions are told of each wrong one.",
  pin: "PIN",
  recovering: "Asking the homeservers that guard your key. This takes some seconds.",
  here: "Your recovery key",
  here_hint: "In Element choose “Enter recovery key”, and paste this. Nobody else should see it.",
  copy: "Copy the key",
  hide: "Hide it",
  wrong: "Wrong PIN. One guess is left.|Wrong PIN. {n} guesses are left.",
  gone: "There were ten wrong guesses, so the shares were destroyed. Use your recovery key, and set up a new PIN.",
  wait: "After several wrong PINs the next one has to wait. Try again in about {time}.",
  minutes: "one minute|{n} minutes",
  hours: "one hour|{n} hours",
  too_few: "Only {right} of the {wanted} homeservers that it takes have answered. Without an answer: {silent}.",
  lied: "{names} answered wrongly and was left out. Tell its operator, and replace it by setting up the PIN anew.",
  silent: "{names} did not answer. The others sufficed.",
  other_kdf: "This PIN was set up by a newer page than this one. Load the page again.",
  account_changed:
    "Since you set up this PIN, your account has got another recovery key. What comes back is the old one; set up the PIN anew.",
  key_changed:
    "Since you set up this PIN, your account has got another recovery key, and this PIN brings only the old one back. Choose “Change PIN, key or homeservers”, and give the new key.",
  moves:
    "{names} guards no new shares any more. Get your key back below, then choose “Change PIN, key or homeservers”, so that its share goes to another one.",
  set_up: "Set up a PIN",
  change: "Change PIN, key or homeservers",
  key: "Recovery key",
  key_hint: "The 48 letters and digits that Element gave you.",
  key_mistyped: "This is no recovery key; a letter is missing or wrong.",
  key_other: "This is a recovery key, but not that of your account.",
  new_pin: "New PIN",
  new_pin_hint: "Six digits, or four if you must.",
  again: "New PIN once more",
  again_differs: "That is another one.",
  digits: "A PIN has six digits, or four.",
  common: "That one is among the first that anybody would try. Choose another.",
  short:
    "Four digits have only ten thousand possibilities. Whoever gets ten guesses at them finds yours in one of a thousand cases; with six digits in one of a hundred thousand.",
  short_accept: "I want four digits all the same",
  realms: "Who guards it",
  realms_hint:
    "Each of these homeservers gets one share, and none learns your PIN or key. {threshold} of {shares} bring it back; as many of them together, if they conspire, could try all PINs.",
  realm_own: "your own homeserver, always one of them",
  realm_leaving: "takes no new shares",
  realm_silent: "does not answer",
  realms_too_few: "Choose three at least.",
  start: "Set up",
  working: "Giving out shares: {done} of {of}",
  ready: "Done. From now on this PIN brings your recovery key back.",
  failed: "{name} did not do its part, so nothing has changed. Try again, or choose another homeserver.",
  remove: "Give the PIN up",
  remove_sure: "Destroy all shares now",
  remove_hint: "Then only your recovery key itself opens your messages on a new device.",
  removed: "The PIN is gone, and so are the shares.",
  honest: "What this can do, and what it cannot",
  honest_1: "Fewer than {threshold} of the homeservers that guard your key can do nothing with what they have.",
  honest_2:
    "{threshold} of them together can try all PINs, and will find yours. That is why they are run by different people.",
  honest_3:
    "Your own homeserver makes this page. One that is malicious, or broken into, could make a page that sends your PIN or key to it. Whoever fears that should not use a PIN.",
  honest_4:
    "Somebody who is signed in as you can spend the ten guesses, and so can your own homeserver. Then the PIN is lost, and the key is not.",
  honest_5:
    "A thief of what your own homeserver stores for you can do nothing with it: without the other homeservers not one PIN can be tried.",
  honest_6:
    "Why six digits: ten guesses at each homeserver are {guesses} at most for somebody who asks a different {threshold} each time. They find a PIN of six digits that was drawn by dice in one of {six} cases, and one of four digits in one of {four}. PINs that come to mind first are tried first, so they are not taken.",
  signed_in: "Signed in as {user}",
  sign_out: "Sign out",
} as const;

type Texts = Record<keyof typeof en, string>;

const de: Texts = {
  title: "Wiederherstellungs-PIN",
  lead: "Sechs Ziffern, die deinen Wiederherstellungsschlüssel von Element zurückbringen, wenn du deine Geräte verloren hast.",
  not_wallet:
    "Das ist nicht die PIN deines Geldbeutels. Nimm eine andere: Die PIN des Geldbeutels kennt dein Homeserver auf eine Weise, auf die er diese nicht kennt.",
  off: "Dieser Homeserver bietet keine Wiederherstellungs-PIN an. Verwahre deinen Wiederherstellungsschlüssel sicher.",
  too_few_realms:
    "Gerade können weniger als drei Homeserver Anteile hüten, deshalb lässt sich keine PIN einrichten. Versuch es später.",
  no_storage:
    "Dein Konto hat noch keinen Wiederherstellungsschlüssel. Öffne in Element Einstellungen, Verschlüsselung, richte die Wiederherstellung ein und komm zurück.",
  recover: "Den Schlüssel zurückholen",
  recover_hint:
    "Nach zehn falschen PINs werden die Anteile zerstört. Von jeder falschen erfahren alle deine Sitzungen.",
  pin: "PIN",
  recovering: "Die Homeserver, die deinen Schlüssel hüten, werden gefragt. Das dauert einige Sekunden.",
  here: "Dein Wiederherstellungsschlüssel",
  here_hint:
    "Wähle in Element „Wiederherstellungsschlüssel eingeben“ und füge ihn ein. Niemand sonst sollte ihn sehen.",
  copy: "Schlüssel kopieren",
  hide: "Verbergen",
  wrong: "Falsche PIN. Ein Versuch bleibt.|Falsche PIN. Es bleiben {n} Versuche.",
  gone: "Es gab zehn falsche Versuche, deshalb wurden die Anteile zerstört. Nimm deinen Wiederherstellungsschlüssel und richte eine neue PIN ein.",
  wait: "Nach mehreren falschen PINs muss die nächste warten. Versuch es in etwa {time} wieder.",
  minutes: "einer Minute|{n} Minuten",
  hours: "einer Stunde|{n} Stunden",
  too_few: "Nur {right} der {wanted} Homeserver, die es braucht, haben geantwortet. Ohne Antwort: {silent}.",
  lied: "{names} hat falsch geantwortet und blieb außen vor. Sag es dem Betreiber und ersetze ihn, indem du die PIN neu einrichtest.",
  silent: "{names} hat nicht geantwortet. Die anderen genügten.",
  other_kdf: "Diese PIN wurde mit einer neueren Seite als dieser eingerichtet. Lade die Seite neu.",
  account_changed:
    "Seit du diese PIN eingerichtet hast, hat dein Konto einen anderen Wiederherstellungsschlüssel. Zurück kommt der alte; richte die PIN neu ein.",
  key_changed:
    "Seit du diese PIN eingerichtet hast, hat dein Konto einen anderen Wiederherstellungsschlüssel, und diese PIN bringt nur den alten zurück. Wähle „PIN, Schlüssel oder Homeserver ändern“ und gib den neuen Schlüssel an.",
  moves:
    "{names} hütet keine neuen Anteile mehr. Hol unten deinen Schlüssel zurück und wähle dann „PIN, Schlüssel oder Homeserver ändern“, damit ein anderer den Anteil bekommt.",
  set_up: "PIN einrichten",
  change: "PIN, Schlüssel oder Homeserver ändern",
  key: "Wiederherstellungsschlüssel",
  key_hint: "Die 48 Buchstaben und Ziffern, die du von Element bekommen hast.",
  key_mistyped: "Das ist kein Wiederherstellungsschlüssel; ein Zeichen fehlt oder ist falsch.",
  key_other: "Das ist ein Wiederherstellungsschlüssel, aber nicht der deines Kontos.",
  new_pin: "Neue PIN",
  new_pin_hint: "Sechs Ziffern, notfalls vier.",
  again: "Neue PIN noch einmal",
  again_differs: "Das ist eine andere.",
  digits: "Eine PIN hat sechs Ziffern, oder vier.",
  common: "Die gehört zu den ersten, die jemand versuchen würde. Wähle eine andere.",
  short:
    "Bei vier Ziffern gibt es nur zehntausend Möglichkeiten. Wer zehnmal raten darf, findet deine in einem von tausend Fällen; bei sechs Ziffern in einem von hunderttausend.",
  short_accept: "Ich will trotzdem vier Ziffern",
  realms: "Wer ihn hütet",
  realms_hint:
    "Jeder dieser Homeserver bekommt einen Anteil, und keiner erfährt PIN oder Schlüssel. {threshold} von {shares} bringen ihn zurück; so viele zusammen könnten, wenn sie sich verschwören, alle PINs durchprobieren.",
  realm_own: "dein eigener Homeserver, immer dabei",
  realm_leaving: "nimmt keine neuen Anteile",
  realm_silent: "antwortet nicht",
  realms_too_few: "Wähle mindestens drei.",
  start: "Einrichten",
  working: "Anteile werden verteilt: {done} von {of}",
  ready: "Fertig. Ab jetzt bringt diese PIN deinen Wiederherstellungsschlüssel zurück.",
  failed:
    "{name} hat seinen Teil nicht getan, deshalb hat sich nichts geändert. Versuch es noch einmal oder wähle einen anderen Homeserver.",
  remove: "Die PIN aufgeben",
  remove_sure: "Jetzt alle Anteile zerstören",
  remove_hint: "Dann öffnet auf einem neuen Gerät nur noch der Wiederherstellungsschlüssel selbst deine Nachrichten.",
  removed: "Die PIN ist weg, und die Anteile auch.",
  honest: "Was das kann, und was nicht",
  honest_1:
    "Weniger als {threshold} der Homeserver, die deinen Schlüssel hüten, können mit dem, was sie haben, nichts anfangen.",
  honest_2:
    "{threshold} von ihnen zusammen können alle PINs durchprobieren und finden deine. Deshalb werden sie von verschiedenen Leuten betrieben.",
  honest_3:
    "Dein eigener Homeserver liefert diese Seite. Ein böswilliger, oder einer, in den eingebrochen wurde, könnte eine liefern, die ihm PIN oder Schlüssel schickt. Wer das fürchtet, sollte keine PIN verwenden.",
  honest_4:
    "Wer als du angemeldet ist, kann die zehn Versuche verbrauchen, und dein eigener Homeserver kann es auch. Dann ist die PIN verloren, der Schlüssel nicht.",
  honest_5:
    "Ein Dieb dessen, was dein eigener Homeserver für dich speichert, kann damit nichts anfangen: Ohne die anderen Homeserver lässt sich keine einzige PIN versuchen.",
  honest_6:
    "Warum sechs Ziffern: Zehn Versuche bei jedem Homeserver sind höchstens {guesses} für jemanden, der jedes Mal andere {threshold} fragt. Damit findet man eine gewürfelte PIN aus sechs Ziffern in einem von {six} Fällen, und eine aus vier Ziffern in einem von {four}. PINs, die einem zuerst einfallen, werden zuerst versucht, deshalb werden sie nicht angenommen.",
  signed_in: "Angemeldet als {user}",
  sign_out: "Abmelden",
};

export type Name = keyof Texts;

/** The text of a name, in the language of the app. */
export function r(name: Name, values: Readonly<Record<string, string | number>> = {}): string {
  const language = chosenLanguage() ?? preferred(navigator.languages);
  return fill((language === "de" ? de : en)[name], values, language);
}
