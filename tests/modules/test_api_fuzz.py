"""Every route with bodies, paths and queries from its own schema and from nowhere: it refuses, and never breaks.

A refusal is a SynapseError below 500, or one of those that say 503 on purpose. Anything else would be a 500 for a
client. ``make fuzz`` draws more of them.
"""

import os
from typing import Any

import pytest
from fake_api import FakeHomeserver
from hypothesis import given, settings
from hypothesis import strategies as st
from json_fuzz import ANYTHING, NASTY, nearly
from synapse.module_api.errors import SynapseError

from super_app.ids import UserId
from synapse_super_app.http.resource import ApiResource, answer
from synapse_super_app.http.routes import Auth, Route

ON_PURPOSE = frozenset(
    {"STARTING", "PAYMENTS_HALTED", "LINK_HALTED", "LINK_SUSPENDED", "PEER_UNREACHABLE", "BAD_RECORD", "DISK_FULL"}
)
CONFIG = {
    "features": {"assistant": True, "cards": True, "recovery": True},
    "payments": {
        "mode": "custodial",
        "assets": [{"code": "EUR"}, {"code": "PTS", "scale": 0}],
        "acknowledge": {"operator": "a test", "licence": "none"},
    },
}


def _world() -> FakeHomeserver:
    made = FakeHomeserver(config=CONFIG)
    made.start()
    made.register("operator", admin=True)
    for name in ("alice", "bob"):
        user_id = made.register(name)
        issue = {"user_id": user_id, "amount": 1_000, "currency": "EUR", "reference": f"for {name}"}
        made.call("POST", "admin/issue", "@operator:hs1.test", issue)
    made.room("@alice:hs1.test", "@bob:hs1.test")
    return made


WORLD = _world()
RESOURCE = next(each for each in WORLD.api.web_resources.values() if isinstance(each, ApiResource))
ROUTES = [route for _, route in RESOURCE._routes]


def _caller(route: Route) -> UserId:
    match route.auth:
        case Auth.PUBLIC:
            return UserId("")
        case Auth.ADMIN:
            return UserId("@operator:hs1.test")
        case _:
            return UserId("@alice:hs1.test")


@pytest.mark.parametrize("route", ROUTES, ids=lambda route: f"{route.method} {route.path}")
@settings(max_examples=int(os.environ.get("FUZZ_EXAMPLES", "6")))
@given(data=st.data())
def test_no_request_breaks_a_route(route: Route, data: st.DataObject) -> None:
    names = [part[1:-1] for part in route.path.split("/") if part.startswith("{")]
    path = {name: data.draw(NASTY, label=name) for name in names}
    query: dict[str, str] = {}
    if route.query is not None:
        known = list(route.query.model_json_schema().get("properties", {}))
        chosen = data.draw(st.lists(st.sampled_from([*known, "unheard_of"]), unique=True, max_size=4), label="query")
        values = NASTY | st.integers(-3, 10**20).map(str)
        query = {name: data.draw(values, label=name) for name in chosen}
    content: Any = None
    if route.body is not None:
        content = data.draw(nearly(route.body.model_json_schema(by_alias=True)) | ANYTHING, label="body")
    refused: SynapseError | None = None
    try:
        WORLD.result(answer(route, path, _caller(route), query, content, "192.0.2.1", "DEVICE"))
    except SynapseError as error:
        refused = error
    if refused is not None and refused.code >= 500:
        assert str(refused.errcode).removeprefix("ORG.SUPERAPP.") in ON_PURPOSE, refused.msg
    WORLD.settle()
