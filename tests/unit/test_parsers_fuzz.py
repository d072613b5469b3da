"""Every parser of what comes from the network takes anything: it reads it, refuses it or says None, and never raises.

Values are made from nothing, and from the published vectors with one place changed, which gets further. ``make fuzz``
draws more of them, and lets libFuzzer look for bytes that reach what these do not (``tests/unit/coverage_fuzz.py``).
A parser that is in none of the tables here, and not among those that read nothing of strangers, fails a test.
"""

import ast
import json
import os
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from super_app.accounts import vcard
from super_app.assistant import amounts, parsing
from super_app.assistant.amounts import locale_of
from super_app.calls import events, policy
from super_app.calls.events import RoomEvent
from super_app.calls.model import Policy, RateLimit, Who
from super_app.clearing import objects, settlement_rules
from super_app.clearing.model import Terms, WireId
from super_app.conferences import content as conferences
from super_app.conferences.rules import closed_until
from super_app.deposits import rules as deposits
from super_app.directory import badges, cards, generations, heads, moves, records, server_record
from super_app.directory.model import AskedBy, DirectoryKey
from super_app.directory.naming import normalise, split
from super_app.errors import Refused
from super_app.ids import Acct, EventId, Handle, RoomId, ServerName, UserId, parse_payment_id, parse_user_id
from super_app.money import Asset, AssetCode
from super_app.payments import rules as payments
from super_app.recovery import group
from super_app.reviews import rules as reviews
from super_app.signing import verify
from super_app.statements import proof
from super_app.statements import rules as statements
from super_app.transparency import checkpoint, tiles
from synapse_super_app.directory.search import read_term
from synapse_super_app.pots import bodies as pots

DOCS = Path(__file__).parents[2] / "docs"
EXAMPLES = int(os.environ.get("FUZZ_EXAMPLES", "20"))
ASSETS = {AssetCode("EUR"): Asset(code=AssetCode("EUR"), scale=2)}
SERVER = ServerName("hs2.test")
KEY = "A" * 43
TEXTS = st.one_of(
    st.text(max_size=40),
    st.sampled_from(["", "\0", "\ud800", "@", "@a:b", "9" * 50, "https://x/#/", "— x y\n", "tile/0/x001/067"]),
)
SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.sampled_from([2**53, 2**63, -(2**63), 10**40]),
    st.floats(),
    TEXTS,
)
ANYTHING = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXTS, inner, max_size=4), max_leaves=10
)


def _objects(value: Any) -> list[dict[str, Any]]:
    """All JSON objects in a file of vectors."""
    match value:
        case dict():
            return [value, *(found for item in value.values() for found in _objects(item))]
        case list():
            return [found for item in value for found in _objects(item)]
        case _:
            return []


VECTORS = [
    found
    for name in ("clearing-vectors.json", "directory-vectors.json")
    for found in _objects(json.loads((DOCS / name).read_text(encoding="utf-8")))
    if len(json.dumps(found)) < 10_000
]


def changed(draw: st.DrawFn, value: Any) -> Any:
    """The value with one place in it replaced."""
    if isinstance(value, dict) and value and draw(st.integers(0, 4)):
        name = draw(st.sampled_from(sorted(value)))
        if draw(st.integers(0, 5)) == 0:
            return {key: item for key, item in value.items() if key != name}
        return {**value, name: changed(draw, value[name])}
    if isinstance(value, list) and value and draw(st.integers(0, 4)):
        place = draw(st.integers(0, len(value) - 1))
        return [*value[:place], changed(draw, value[place]), *value[place + 1 :]]
    return draw(ANYTHING)


@st.composite
def nearly_vectors(draw: st.DrawFn) -> Any:
    return changed(draw, draw(st.sampled_from(VECTORS)))


JSON_VALUES = st.one_of(ANYTHING, nearly_vectors())


def _event(kind: str) -> Callable[[Any], RoomEvent]:
    def make(content: Any) -> RoomEvent:
        return RoomEvent(
            event_id=EventId("$e"),
            event_type=kind,
            room_id=RoomId("!r"),
            sender=UserId("@a:hs2.test"),
            content=content if isinstance(content, dict) else {"x": content},
            is_state=False,
            origin_server_ts=1,
            age_ts=None,
            arrived_ms=2,
        )

    return make


def _signed_headers(value: Any) -> object:
    return verify(value, KEY) if isinstance(value, dict) else None


HANDLE, ACCT, USER = Handle("@a:hs2.test"), Acct("A" * 43), UserId("@a:hs2.test")
DIRECTORY_KEY = DirectoryKey(server=SERVER, key_id="ed25519:x", public_key=KEY, certificate={})
DEFAULT_POLICY = Policy(who=frozenset({Who.CONTACTS}), rate=RateLimit(caller=1, server=1, strangers=1, window_ms=1_000))
TERMS = Terms(
    wire_id=WireId(KEY),
    payer_commit=KEY,
    payee_commit=KEY,
    memo_commit=KEY,
    amount_minor=5,
    currency=AssetCode("EUR"),
    scale=2,
)


def zone_of(name: str) -> ZoneInfo | None:
    return ZoneInfo("Europe/Berlin") if name == "Europe/Berlin" else None


def _if_object(parser: Callable[[Any], object]) -> Callable[[Any], object]:
    """For what is called with objects alone, as from Synapse's account data and the content of events."""
    return lambda value: parser(value if isinstance(value, dict) else {"v": 1, "x": value})


def _link(value: Any) -> object:
    """As it is used: whoever reads one says when it opens."""
    least = {"v": 1, "link_id": "0" * 32}
    price = {"amount": 1, "currency": "EUR", "payee": "@a:b"}
    dear = {**least, "price": {**price, **value}}
    for content in (value, {**least, **value}, {**least, "opens_ms": value.get("x")}, dear):
        link = conferences.read_link(content, zone_of)
        if not isinstance(link, Refused):
            closed_until(link, 1)
            conferences.link_name(link)
    return None


def _card(value: Any) -> object:
    """As it is called: once the server of the card could be read from it."""
    server = cards.server_of_card(value)
    return server if isinstance(server, Refused) else cards.read(value, server, KEY, 1)


def _point(text: str) -> None:
    raw = text.encode("utf-8", "surrogatepass")
    for read in (group.read_scalar, group.read_element):
        # What they promise to raise, and nothing else.
        with suppress(ValueError):
            read(raw)
            read((raw + bytes(32))[:32])


JSON_PARSERS: dict[str, Callable[[Any], object]] = {
    "directory answer": lambda value: [
        records.read_answer(value, SERVER, KEY, asked="@a:hs2.test", by=by, now_ms=1) for by in AskedBy
    ],
    "server record": lambda value: server_record.read(value, SERVER, KEY, 1),
    "acceptance of a move": lambda value: moves.read_acceptance(
        value, SERVER, KEY, from_user_id=USER, from_acct=ACCT, now_ms=1
    ),
    "claim of a moved account": lambda value: moves.read_claim(value, to_user_id=USER, to_acct=ACCT, now_ms=1),
    "moved": lambda value: (moves.read_moved_to(value, SERVER), moves.read_moved_from(value, SERVER)),
    "generation": lambda value: generations.read(value, SERVER, KEY),
    "badge": lambda value: (badges.server_of_badge(value), badges.read(value, KEY, HANDLE, ACCT, 1)),
    "card": _card,
    "call policy": _if_object(lambda value: policy.read(value, DEFAULT_POLICY, zone_of)),
    "deposit policy": lambda value: deposits.read_policy(value, ASSETS),
    "call link": _if_object(_link),
    "roles of a stage": _if_object(conferences.read_roles),
    "opening": _if_object(lambda value: objects.read_opening(value, TERMS, SERVER, SERVER)),
    "order of a peer": _if_object(lambda value: objects.read_order(value, TERMS, SERVER, SERVER)),
    "clearing body": objects.read_body,
    "clearing object": objects.read_object,
    "certificate": lambda value: records.read_certificate(value, SERVER),
    "record": lambda value: records.read_record(value, SERVER, KEY, 1),
    "feed entry": lambda value: records.read_feed_entry(value, SERVER, KEY, 1),
    "log proof": lambda value: heads.read_log_proof(value, SERVER),
    "page proof": lambda value: heads.read_page_proof(value, SERVER),
    "head statement": lambda value: heads.read_head_statement(value, SERVER, KEY),
    "payment event": lambda value: payments.read_content(value, ASSETS),
    "payment policy": lambda value: payments.read_policy(value, ASSETS),
    "signature": _signed_headers,
}
TEXT_PARSERS: dict[str, Callable[[str], object]] = {
    "vCard": lambda text: [
        vcard.read(f"BEGIN:VCARD\n{name}:{text}\n{text}")
        for name in ("X-MATRIX", "IMPP;ENCODING=QUOTED-PRINTABLE", "URL:https://matrix.to/#/", "URL:matrix:u/")
    ],
    "amount": lambda text: [amounts.read(text, ASSETS, locale_of(each)) for each in ("en", "de")],
    "message with HTML": lambda text: [
        parsing.text_of(text, html)
        for html in (text, f"<a href='{text}'>{text}</a>", f"<{text}", f"<!{text}>", f"&{text};")
    ],
    "payto": lambda text: settlement_rules.payto_of(f"payto://iban/{text}", 5, ASSETS[AssetCode("EUR")], "RF"),
    "reference of a settlement": lambda text: (
        settlement_rules.is_reference(text),
        settlement_rules.is_reference(f"RF{text}"),
    ),
    "receipt": lambda text: (proof.read(text), proof.read(proof.PREFIX + text)),
    "year and month": lambda text: (statements.year_of(text), statements.month_ms(text, ZoneInfo("UTC"))),
    "head": lambda text: (heads.read_old_head(text, DIRECTORY_KEY), heads.read_head(text, DIRECTORY_KEY, 1)),
    "words of a name": lambda text: (reviews.read_list(text), reviews.words_of(text)),
    "point and scalar": _point,
    "payment id": parse_payment_id,
    "user id": parse_user_id,
    "handle": lambda text: (normalise(text), split(text, SERVER)),
    "fingerprint": objects.read_fingerprint,
    "note": lambda text: (note := checkpoint.read_note(text)) and checkpoint.read_checkpoint(note),
    "tile": tiles.read_path,
    "bundle": lambda text: tiles.read_bundle(text.encode("utf-8", "surrogatepass")),
    "search": read_term,
    "gift link": pots.read_link,
    "word to the assistant": lambda text: (
        parsing.read(text, ASSETS, locale_of("en")),
        parsing.read_aside(text, ASSETS, locale_of("de")),
    ),
}


@pytest.mark.parametrize("parser", JSON_PARSERS)
@settings(max_examples=EXAMPLES)
@given(value=JSON_VALUES)
def test_no_json_breaks_a_parser(parser: str, value: Any) -> None:
    JSON_PARSERS[parser](value)


@pytest.mark.parametrize("parser", TEXT_PARSERS)
@settings(max_examples=EXAMPLES)
@given(text=TEXTS)
def test_no_text_breaks_a_parser(parser: str, text: str) -> None:
    TEXT_PARSERS[parser](text)


@pytest.mark.parametrize("kind", sorted(events.RING_TYPES | events.SIGNAL_TYPES))
@settings(max_examples=EXAMPLES // 4)
@given(value=ANYTHING)
def test_no_event_of_a_call_breaks_its_parser(kind: str, value: Any) -> None:
    event = _event(kind)(value)
    events.read_ring(event)
    events.read_signal(event)


NOT_OF_STRANGERS = {
    "super_app.fares.rules.read": "what a call costs now, from rows of ours",
    "super_app.fares.rules.read_stay": "whether somebody is in a call, as entrance has read it from room state",
    "super_app.ledger.lease.read": "a row of ours",
    "super_app.requests.rules.read_kind": "takes a model that was parsed",
    "super_app.requests.rules.read_money": "takes a model that was parsed",
    "super_app.payments.rules.read_order": "takes a model that was parsed; read_content goes through it",
    "super_app.conferences.content.read_hours": "takes a model that was parsed; read_link goes through it",
    "synapse_super_app.config.parse_config": "the operator's own file",
    "synapse_super_app.key_files.read": "the operator's own file",
    "synapse_super_app.private_api.read_committed": "a setting of the database",
    "synapse_super_app.key_files.read_retired": "the operator's own file",
}
"""Functions that are called like parsers and read nothing that a stranger sends, and why."""
PACKAGES = Path(__file__).parents[2]


def parsers() -> Iterator[str]:
    """By full name, functions called read… or parse…, but for those of commands, of SQL, and inside of others."""
    for root in (PACKAGES / "super_app", PACKAGES / "modules" / "synapse_super_app"):
        for path in sorted(root.rglob("*.py")):
            if "commands" in path.parts or path.stem.endswith("store") or path.stem == "archive_file":
                continue
            module = ".".join((root.name, *path.relative_to(root).with_suffix("").parts))
            for node in ast.parse(path.read_text(encoding="utf-8")).body:
                if isinstance(node, ast.FunctionDef) and node.name.partition("_")[0] in ("read", "parse"):
                    yield f"{module}.{node.name}"


def test_each_parser_is_tried_or_reads_nothing_of_strangers() -> None:
    source = ast.parse(Path(__file__).read_text(encoding="utf-8"))
    imported = {
        alias.asname or alias.name: f"{node.module}.{alias.name}"
        for node in ast.walk(source)
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }
    used = {
        f"{imported[node.value.id]}.{node.attr}"
        for node in ast.walk(source)
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id in imported
    } | set(imported.values())
    found = set(parsers())
    assert len(found) > 40
    assert found - used == NOT_OF_STRANGERS.keys() & found
    assert NOT_OF_STRANGERS.keys() <= found, "a name that is gone"
