"""What another homeserver sends, or whoever holds its key: queries and PUTs of ours. Refused, and never broken by.

Any signed request reaches these handlers, whatever is in it, and what they raise but a SynapseError is a 500. Bodies
are from nowhere, from the published vectors, and nearly what the models of bodies take.
``make fuzz`` draws more of them.
"""

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fake_api import FakeHomeserver
from hypothesis import given, settings
from hypothesis import strategies as st
from json_fuzz import ANYTHING, NASTY, nearly
from synapse.module_api.errors import SynapseError

from super_app.ids import ServerName
from super_app.names import (
    CLEARING_PATH,
    DEPOSITS_PATH,
    DISPUTES_PATH,
    FARES_PATH,
    POTS_PATH,
    RECOVERY_PATH,
    FederationQuery,
)
from super_app.wire import WireModel
from synapse_super_app.recovery.bodies import What

EXAMPLES = int(os.environ.get("FUZZ_EXAMPLES", "12"))
PEER = ServerName("hs2.test")
ON_PURPOSE = frozenset(
    {"STARTING", "PAYMENTS_HALTED", "LINK_HALTED", "LINK_SUSPENDED", "PEER_UNREACHABLE", "BAD_RECORD"}
)
CONFIG = {
    "features": {"assistant": True, "cards": True, "recovery": True},
    "recovery": {"realms": [{"server": PEER, "operator": "another"}]},
}
FIELDS = (
    *("handle", "user_id", "acct", "from", "since", "limit", "follower", "follower_acct", "follows", "moved"),
    *("organisation", "link_id", "step", "shown", "unheard_of"),
)
PEOPLE = ("@alice:hs1.test", "@bob:hs1.test", "@nobody:hs1.test", f"@carol:{PEER}")
VALUES = st.one_of(
    NASTY,
    st.integers(-3, 10**20).map(str),
    st.sampled_from([*PEOPLE, "hs1.test", "A" * 43, "0", "1", "a" * 9_000]),
)
DEEDS = {
    CLEARING_PATH: (),
    DEPOSITS_PATH: ("terms", "expect"),
    DISPUTES_PATH: (),
    FARES_PATH: ("price", "agree", "ended"),
    POTS_PATH: ("look", "claim"),
    RECOVERY_PATH: tuple(What),
}
"""By path, the last parts that mean something there; an id of the message where there are none."""
VECTORS = json.loads((Path(__file__).parents[2] / "docs" / "clearing-vectors.json").read_text(encoding="utf-8"))


def _objects(value: Any) -> Iterator[dict[str, Any]]:
    match value:
        case dict():
            yield value
            for item in value.values():
                yield from _objects(item)
        case list():
            for item in value:
                yield from _objects(item)
        case _:
            return


def _models(of: type[WireModel]) -> Iterator[type[WireModel]]:
    for model in of.__subclasses__():
        yield model
        yield from _models(model)


def _world() -> FakeHomeserver:
    made = FakeHomeserver(config=CONFIG)
    made.start()
    for name in ("alice", "bob"):
        made.register(name)
    return made


WORLD = _world()
"""One for all, as a homeserver is: what one request leaves behind is what the next one meets."""
MODELS = sorted(
    {model for model in _models(WireModel) if model.__module__.startswith(("super_app", "synapse_super_app"))},
    key=lambda model: (model.__module__, model.__qualname__),
)
SIGNED = sorted(_objects(VECTORS), key=json.dumps)


def _of_path(path: str) -> list[type[WireModel]]:
    """The models whose names say that they belong there; those of clearing are in the vectors."""
    package = f".{path.rpartition('/')[2]}."
    return [model for model in MODELS if package in f"{model.__module__}."]


@st.composite
def bodies(draw: st.DrawFn, path: str) -> dict[str, Any]:
    own = _of_path(path)
    body: Any
    kind = draw(st.sampled_from(["model of it", "any model", "vector"]))
    if kind == "vector" or (kind == "model of it" and not own):
        body = dict(draw(st.sampled_from(SIGNED)))
        if body and draw(st.booleans()):
            body[draw(st.sampled_from(sorted(body)))] = draw(ANYTHING)
    else:
        model = draw(st.sampled_from(own if kind == "model of it" else MODELS))
        body = draw(nearly(model.model_json_schema(by_alias=True)))
    if isinstance(body, dict):
        for name in sorted(body.keys() & {"payer", "payee", "caller", "callee", "recipient", "claimer", "giver"}):
            body[name] = draw(st.sampled_from(PEOPLE))
    # Synapse passes on objects only, and what came as JSON.
    found: dict[str, Any] = json.loads(json.dumps(body if isinstance(body, dict) else {"x": body}))
    return found


def answered(asked: Any) -> None:
    refused: SynapseError | None = None
    try:
        WORLD.result(asked)
    except SynapseError as error:
        refused = error
    if refused is not None and refused.code >= 500:
        assert str(refused.errcode).removeprefix("ORG.SUPERAPP.") in ON_PURPOSE, refused.msg
    WORLD.settle()


@pytest.mark.parametrize("query", list(FederationQuery))
@settings(max_examples=EXAMPLES)
@given(data=st.data())
def test_no_query_of_another_homeserver_breaks_its_handler(query: FederationQuery, data: st.DataObject) -> None:
    names = data.draw(st.lists(st.sampled_from(FIELDS), unique=True, max_size=7), label="fields")
    arguments = {name: data.draw(VALUES, label=name) for name in names}
    answered(WORLD.private.queries[query]({**arguments, "origin": PEER}))


@pytest.mark.parametrize("path", sorted(DEEDS))
@settings(max_examples=2 * EXAMPLES)
@given(data=st.data())
def test_no_put_of_another_homeserver_breaks_its_handler(path: str, data: st.DataObject) -> None:
    ids = NASTY | st.just("A" * 43)
    last_part = data.draw(st.sampled_from(DEEDS[path]) | ids if DEEDS[path] else ids, label="last part")
    body = data.draw(bodies(path), label="body")
    answered(WORLD.private.put_handlers[path](PEER, str(last_part), body))


def test_nothing_that_others_reach_is_left_out() -> None:
    assert WORLD.private.queries.keys() == set(FederationQuery)
    assert WORLD.private.put_handlers.keys() == DEEDS.keys()
    assert len(MODELS) > 40
    assert all(_of_path(path) for path in DEEDS if path != CLEARING_PATH)
