"""Every parser of what comes from the network takes anything: it reads it, refuses it or says None, and never raises.

Values are made from nothing, and from the published vectors with one place changed, which gets further. ``make fuzz``
draws more of them.
"""

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from super_app.assistant import parsing
from super_app.assistant.amounts import locale_of
from super_app.calls import events
from super_app.calls.events import RoomEvent
from super_app.clearing import objects
from super_app.directory import heads, records
from super_app.directory.naming import normalise, split
from super_app.ids import EventId, RoomId, ServerName, UserId, parse_payment_id, parse_user_id
from super_app.money import Asset, AssetCode
from super_app.payments import rules as payments
from super_app.signing import verify
from super_app.transparency import checkpoint, tiles
from synapse_super_app.directory.search import read_term
from synapse_super_app.pots import bodies as pots

DOCS = Path(__file__).parents[2] / "docs"
EXAMPLES = int(os.environ.get("FUZZ_EXAMPLES", "40"))
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


JSON_PARSERS: dict[str, Callable[[Any], object]] = {
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
