"""The words that people say to the assistant, in each language. All are understood whatever language is set.

A language is added with a row here, its name in ``LANGUAGES``, and a catalogue in ``locale``.
"""

from collections.abc import Mapping
from enum import StrEnum
from typing import Final

LANGUAGES: Final[Mapping[str, str]] = {"en": "English", "de": "Deutsch"}
"""The languages that the assistant speaks, each by its own name."""
SOURCE_LANGUAGE: Final = "en"


class Command(StrEnum):
    """What somebody can want."""

    BALANCE = "balance"
    PAY = "pay"
    REQUEST = "request"
    ACCEPT = "accept"
    DECLINE = "decline"
    CANCEL = "cancel"
    GIFT = "gift"
    CLAIM = "claim"
    LINK = "link"
    SPLIT = "split"
    COLLECT = "collect"
    REMIND = "remind"
    HISTORY = "history"
    STATEMENT = "statement"
    SCHEDULE = "schedule"
    DISPUTE = "dispute"
    FIND = "find"
    HANDLE = "handle"
    MOVE = "move"
    CONTACTS = "contacts"
    FOLLOW = "follow"
    UNFOLLOW = "unfollow"
    RECOVERY = "recovery"
    CALL = "call"
    CALL_POLICY = "call policy"
    CALL_PRICE = "call price"
    DEPOSIT = "deposit"
    CALL_LINK = "call link"
    CALL_LINKS = "call links"
    PAID_CALL_LINK = "paid call link"
    ENTER_CALL = "enter call"
    LIVE_ROOM = "live room"
    CALL_BACK = "call back"
    PAY_POLICY = "who may pay me"
    LOST = "lost phone"
    HELP = "help"
    LANGUAGE = "lang"
    YES = "yes"
    NO = "no"
    CHOICE = "choice"
    UNKNOWN = "unknown"


PHRASES: Final[Mapping[str, Mapping[Command, tuple[str, ...]]]] = {
    "en": {
        Command.BALANCE: ("balance", "wallet", "money", "how much", "how much do i have"),
        Command.PAY: ("pay", "send", "give", "transfer"),
        Command.REQUEST: ("request", "ask", "ask for", "charge"),
        Command.ACCEPT: ("accept", "take"),
        Command.DECLINE: ("decline", "refuse", "reject"),
        Command.CANCEL: ("cancel", "undo", "stop", "take back"),
        Command.GIFT: ("gift", "red packet"),
        Command.CLAIM: ("claim", "redeem"),
        Command.LINK: ("link", "invite"),
        Command.SPLIT: ("split", "split the bill"),
        Command.COLLECT: ("collect", "collect for"),
        Command.REMIND: ("remind", "remind them"),
        Command.STATEMENT: ("statement", "statements", "month"),
        Command.SCHEDULE: ("schedule", "schedules", "pay later", "standing order"),
        Command.DISPUTE: ("dispute", "disputes", "complain", "complaint"),
        Command.HISTORY: ("history", "activity", "payments", "transactions"),
        Command.FIND: ("find", "search", "look up", "who is"),
        Command.HANDLE: ("handle", "handles", "my handle", "who am i"),
        Command.MOVE: ("move", "moving"),
        Command.CONTACTS: ("contacts", "contact"),
        Command.FOLLOW: ("follow", "follows", "following", "followers", "who follows me", "whom do i follow"),
        Command.UNFOLLOW: ("unfollow", "stop following"),
        Command.RECOVERY: ("recovery", "recovery pin", "recovery key", "recover"),
        Command.CALL: ("call", "calls", "ring"),
        Command.CALL_POLICY: ("call policy", "who may call me", "who can call me", "who may ring me"),
        Command.CALL_PRICE: ("call price", "price of a call", "call costs"),
        Command.DEPOSIT: ("deposit", "deposits"),
        Command.CALL_LINK: ("call link", "new call", "new call link"),
        Command.CALL_LINKS: ("call links", "my call links"),
        Command.PAID_CALL_LINK: ("paid call link", "new paid call link", "paid call"),
        Command.ENTER_CALL: ("enter call", "enter the call", "come in"),
        Command.LIVE_ROOM: ("live room", "new live room", "go live"),
        Command.CALL_BACK: ("call back", "callback", "call me back"),
        Command.PAY_POLICY: ("who may pay me", "who can pay me", "pay policy", "payment policy"),
        Command.LOST: ("lost phone", "lost my phone", "i lost my phone", "stolen phone", "my phone was stolen"),
        Command.HELP: ("help", "?", "hi", "hello", "start", "commands"),
        Command.LANGUAGE: ("lang", "language"),
        Command.YES: ("yes", "y", "yep", "ok", "okay", "confirm", "👍"),
        Command.NO: ("no", "n", "nope"),
    },
    "de": {
        Command.BALANCE: ("guthaben", "kontostand", "geld", "wie viel", "wie viel habe ich"),
        Command.PAY: (
            "zahle",
            "zahl",
            "zahlen",
            "bezahle",
            "bezahl",
            "bezahlen",
            "sende",
            "schicke",
            "schick",
            "gib",
            "überweise",
            "überweisen",
        ),
        Command.REQUEST: ("fordere", "fordern", "anfordern", "anfrage", "bitte um", "verlange"),
        Command.ACCEPT: ("annehmen", "nimm an", "akzeptiere", "akzeptieren"),
        Command.DECLINE: ("ablehnen", "lehne ab", "lehn ab"),
        Command.CANCEL: ("abbrechen", "abbruch", "storniere", "stornieren", "rückgängig", "stopp", "zurück"),
        Command.GIFT: ("geschenk", "verschenke", "schenke"),
        Command.CLAIM: ("einlösen", "löse ein", "abholen", "hole ab"),
        Command.LINK: ("link", "geldlink", "lade ein", "einladen"),
        Command.SPLIT: ("teile", "teilen", "aufteilen"),
        Command.COLLECT: ("sammle", "sammeln"),
        Command.REMIND: ("erinnere", "erinnern", "erinnerung"),
        Command.STATEMENT: ("auszug", "kontoauszug", "monat"),
        Command.SCHEDULE: ("dauerauftrag", "daueraufträge", "terminzahlung", "plane", "zahle später"),
        Command.DISPUTE: ("reklamiere", "reklamation", "reklamationen", "beanstande", "streitfall"),
        Command.HISTORY: ("verlauf", "umsätze", "buchungen", "zahlungen"),
        Command.FIND: ("finde", "finden", "suche", "such", "suchen", "wer ist"),
        Command.HANDLE: ("name", "mein name", "mein handle", "wer bin ich"),
        Command.MOVE: ("umzug", "umziehen"),
        Command.CONTACTS: ("kontakte", "kontakt"),
        Command.FOLLOW: ("folge", "folgen", "wer folgt mir", "wem folge ich"),
        Command.UNFOLLOW: ("entfolge", "entfolgen", "folge nicht mehr"),
        Command.RECOVERY: (
            "wiederherstellung",
            "wiederherstellen",
            "wiederherstellungsschlüssel",
            "wiederherstellungs-pin",
        ),
        Command.CALL: ("anruf", "anrufe", "anrufen", "ruf", "rufe"),
        Command.CALL_POLICY: ("anrufregel", "wer darf mich anrufen", "wer kann mich anrufen"),
        Command.CALL_PRICE: ("anrufpreis", "gesprächspreis", "was kostet ein anruf"),
        Command.DEPOSIT: ("pfand", "kaution"),
        Command.CALL_LINK: ("anruflink", "neuer anruflink", "neuer anruf"),
        Command.CALL_LINKS: ("anruflinks", "meine anruflinks"),
        Command.PAID_CALL_LINK: ("bezahlter anruflink", "neuer bezahlter anruflink", "bezahlter anruf"),
        Command.ENTER_CALL: ("anruf betreten", "betrete anruf", "komm herein"),
        Command.LIVE_ROOM: ("liveraum", "live raum", "neuer liveraum"),
        Command.CALL_BACK: ("rückruf", "bitte um rückruf", "ruf mich zurück"),
        Command.PAY_POLICY: (
            "wer darf mich bezahlen",
            "wer darf mir zahlen",
            "wer kann mich bezahlen",
            "zahlungsregel",
        ),
        Command.LOST: ("handy verloren", "ich habe mein handy verloren", "handy gestohlen", "gerät verloren"),
        Command.HELP: ("hilfe", "hallo", "befehle"),
        Command.LANGUAGE: ("sprache",),
        Command.YES: ("ja", "j", "jawohl", "bestätigen", "bestätige"),
        Command.NO: ("nein",),
    },
}

FILLERS: Final = frozenset(
    {
        "to",
        "for",
        "from",
        "of",
        "about",
        "me",
        "please",
        "an",
        "für",
        "von",
        "mir",
        "bitte",
        "wegen",
        "über",
        "with",
        "mit",
    }
)
"""Words between a person, an amount and what it is for."""

OFF_WORDS: Final = frozenset({"off", "none", "aus", "kein", "keine"})
ADD_WORDS: Final = frozenset({"add", "+", "hinzu", "hinzufügen", "neu"})
REMOVE_WORDS: Final = frozenset({"remove", "delete", "-", "weg", "entfernen", "lösche", "löschen"})
TELL_WORDS: Final = frozenset({"tell", "openly", "sag", "sagen", "offen"})
QUIETLY_WORDS: Final = frozenset({"quietly", "silently", "still", "heimlich"})
"""Whether somebody of another homeserver may know that one follows them."""

WHO: Final[Mapping[str, str]] = {
    "everyone": "everyone",
    "everybody": "everyone",
    "anyone": "everyone",
    "all": "everyone",
    "alle": "everyone",
    "jeder": "everyone",
    "contacts": "contacts",
    "kontakte": "contacts",
    "following": "following",
    "verified": "verified",
    "bestätigte": "verified",
    "shared_rooms": "shared_rooms",
    "shared": "shared_rooms",
    "rooms": "shared_rooms",
    "gemeinsame": "shared_rooms",
    "räume": "shared_rooms",
    "nobody": "nobody",
    "none": "nobody",
    "niemand": "nobody",
    "keiner": "nobody",
}
"""How people say who may ring or pay them, and the words of the policies."""
ASK_WORDS: Final = frozenset({"ask", "fragen", "frag", "manual"})
AUTO_WORDS: Final = frozenset({"auto", "automatic", "automatisch", "always", "immer"})
