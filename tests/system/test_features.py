"""Each feature switches on and off by itself, and chat never falls with any of them."""

import re
import sys
from pathlib import Path

import pytest
from callback_probe import CALLBACKS_OF_THE_PROBE, PATH
from lone import LoneHomeserver, MakeLone

from super_app.db import Engine, migrations
from super_app.names import CLIENT_API_PREFIX, WEB_PREFIX
from synapse_super_app.commands.homeserver_process import HomeserverDied
from synapse_super_app.config import FeatureName

HERE = Path(__file__).parent
SWITCHES = (
    FeatureName.DIRECTORY,
    FeatureName.CALLS,
    FeatureName.PAYMENTS,
    FeatureName.WEB,
    FeatureName.RECOVERY,
)
CORE = ("super_app.accounts", "super_app.operations")
PACKAGES = {
    FeatureName.DIRECTORY: ("super_app.directory",),
    FeatureName.CALLS: ("super_app.calls", "super_app.conferences"),
    FeatureName.PAYMENTS: (
        "super_app.ledger",
        "super_app.clearing",
        "super_app.payments",
        "super_app.safeguards",
        "super_app.requests",
        "super_app.pots",
        "super_app.schedules",
        "super_app.disputes",
        "super_app.reviews",
        "super_app.deposits",
    ),
    FeatureName.WEB: ("super_app.sessions",),
    FeatureName.RECOVERY: ("super_app.recovery",),
}
# One path of each, as the pinned API names it.
PINNED = {
    FeatureName.DIRECTORY: "search",
    FeatureName.CALLS: "calls",
    FeatureName.PAYMENTS: "wallet",
}
SEGMENTS = {
    "handles": FeatureName.DIRECTORY,
    "search": FeatureName.DIRECTORY,
    "directory": FeatureName.DIRECTORY,
    "admin/handles": FeatureName.DIRECTORY,
    "admin/directory": FeatureName.DIRECTORY,
    "calls": FeatureName.CALLS,
    "wallet": FeatureName.PAYMENTS,
    "payments": FeatureName.PAYMENTS,
    "admin/accounts": FeatureName.PAYMENTS,
    "admin/acts": FeatureName.PAYMENTS,
    "admin/archive": FeatureName.PAYMENTS,
    "admin/archives": FeatureName.PAYMENTS,
    "admin/burn": FeatureName.PAYMENTS,
    "admin/correct": FeatureName.PAYMENTS,
    "admin/fees": FeatureName.PAYMENTS,
    "admin/invariants": FeatureName.PAYMENTS,
    "admin/issue": FeatureName.PAYMENTS,
    "admin/links": FeatureName.PAYMENTS,
    "admin/payment-key": FeatureName.PAYMENTS,
    "admin/settlements": FeatureName.PAYMENTS,
    "admin/statement": FeatureName.PAYMENTS,
    "admin/trial_balance": FeatureName.PAYMENTS,
    "admin/verify": FeatureName.PAYMENTS,
    "cards": FeatureName.DIRECTORY,
    "account": FeatureName.DIRECTORY,
    "account/export": None,
    "admin/audit": None,
    "admin/migrate": None,
    "admin/erasures": None,
    "admin/overview": None,
    "call_export": FeatureName.CALLS,
    "call_links": FeatureName.CALLS,
    "call_rooms": FeatureName.CALLS,
    "call_policy": FeatureName.CALLS,
    "requests": FeatureName.PAYMENTS,
    "activity": FeatureName.PAYMENTS,
    "claims": FeatureName.PAYMENTS,
    "disputes": FeatureName.PAYMENTS,
    "gifts": FeatureName.PAYMENTS,
    "call_price": FeatureName.PAYMENTS,
    "call_prices": FeatureName.PAYMENTS,
    "paid_calls": FeatureName.PAYMENTS,
    "deposits": FeatureName.PAYMENTS,
    "deposit_policy": FeatureName.PAYMENTS,
    "deposit_terms": FeatureName.PAYMENTS,
    "receipts": FeatureName.PAYMENTS,
    "schedules": FeatureName.PAYMENTS,
    "statements": FeatureName.PAYMENTS,
    "summaries": FeatureName.PAYMENTS,
    "admin/disputes": FeatureName.PAYMENTS,
    "admin/leavers": FeatureName.PAYMENTS,
    "admin/payments": FeatureName.PAYMENTS,
    "admin/proposals": FeatureName.PAYMENTS,
    "admin/reviews": FeatureName.PAYMENTS,
    "recovery": FeatureName.RECOVERY,
    "admin/recovery": FeatureName.RECOVERY,
    "admin/people": FeatureName.PAYMENTS,
    "about": FeatureName.WEB,
    "sessions": FeatureName.WEB,
    "widget": FeatureName.WEB,
    "sign_ins": None,
    "contacts": None,
    "follows": None,
    "blocks": None,
}


# Only the directory asks for this one, and Synapse itself does so only when somebody searches.
SYMBOL = "synapse.handlers.user_directory:UserDirectoryHandler.search_users"


def without(symbol: str) -> tuple[str, ...]:
    return (sys.executable, str(HERE / "moved_symbol.py"), symbol)


def only(*features: FeatureName) -> dict[str, object]:
    return {"features": {each.value: each in features for each in FeatureName}}


def tables_of(package: str) -> set[str]:
    sql = "\n".join(migration.sql for migration in migrations.load(package, Engine.SQLITE))
    made: set[str] = set()
    for verb, name, new in re.findall(
        r"^(CREATE TABLE|DROP TABLE|ALTER TABLE) (\w+)(?: RENAME TO (\w+);)?", sql, re.MULTILINE
    ):
        if verb == "CREATE TABLE":
            made.add(name)
        elif verb == "DROP TABLE":
            made.remove(name)
        elif new:
            made.remove(name)
            made.add(new)
    # A full-text index keeps its parts in tables of its own (SQLite, FTS5, "The Data Structures").
    indexes = re.findall(r"^CREATE VIRTUAL TABLE (\w+)", sql, re.MULTILINE)
    parts = {f"{name}{suffix}" for name in indexes for suffix in ("", "_data", "_idx", "_docsize", "_config")}
    return made | parts


def feature_of(path: str) -> FeatureName | None:
    parts = path.strip("/").split("/")
    two = "/".join(parts[:2])
    return SEGMENTS[two if parts[0] == "admin" or two in SEGMENTS else parts[0]]


def assert_chat_works(homeserver: LoneHomeserver) -> None:
    with homeserver.account("alice") as alice, homeserver.account("bob") as bob:
        room_id = alice.create_room(preset="trusted_private_chat", is_direct=True, invite=[bob.user_id])
        bob.join(room_id)
        event_id = alice.send_text(room_id, "hello")
        assert bob.wait_for_event(room_id, lambda event: event["event_id"] == event_id)["content"]["body"] == "hello"


@pytest.mark.parametrize("on", SWITCHES, ids=lambda feature: feature.value)
def test_a_feature_runs_alone_and_the_others_leave_no_routes_and_no_tables(on: FeatureName, lone: MakeLone) -> None:
    with lone(only(on)) as homeserver:
        assert_chat_works(homeserver)
        assert {feature_of(path) for path in homeserver.paths()} == {None, on}
        wanted = {table for package in (*CORE, *PACKAGES[on]) for table in tables_of(package)}
        assert homeserver.tables() == wanted | {"superapp_migration"}
        for feature, path in PINNED.items():
            # Without a token a route that is there is 401 (or 405 to GET), and one that is not is 404.
            assert homeserver.status(f"{CLIENT_API_PREFIX}/{path}") in ({401, 405} if feature is on else {404})
        assert homeserver.status(f"{WEB_PREFIX}/") == (200 if on is FeatureName.WEB else 404)


def test_with_every_feature_off_nothing_of_us_is_left_but_chat(lone: MakeLone) -> None:
    with lone(only(), expects_our_api=False) as homeserver:
        assert_chat_works(homeserver)
        assert homeserver.tables() == frozenset()
        assert homeserver.status(f"{CLIENT_API_PREFIX}/openapi.json") == 404
        assert homeserver.status(f"{WEB_PREFIX}/") == 404


def test_no_callback_that_loads_room_state_for_every_event_is_ours(lone: MakeLone) -> None:
    probe = {"module": "callback_probe.CallbackProbe", "config": {}}
    with lone(only(*SWITCHES), modules=[probe], path=HERE) as homeserver:
        registered: dict[str, list[str]] = homeserver.answer(PATH)
        ours = {name for name, origins in registered.items() if any(_is_ours(origin) for origin in origins)}
        assert "check_event_for_spam" in ours
        for name in CALLBACKS_OF_THE_PROBE:
            assert registered[name] == [f"callback_probe.CallbackProbe.{name}"]


def _is_ours(origin: str) -> bool:
    return origin.startswith("synapse_super_app.")


def test_a_symbol_that_moved_switches_off_its_feature_and_no_other(lone: MakeLone) -> None:
    with lone(only(*SWITCHES), program=without(SYMBOL)) as homeserver:
        assert_chat_works(homeserver)
        assert {feature_of(path) for path in homeserver.paths()} == {
            None,
            FeatureName.CALLS,
            FeatureName.PAYMENTS,
            FeatureName.WEB,
            FeatureName.RECOVERY,
        }
        assert homeserver.status(f"{WEB_PREFIX}/") == 200
        assert not homeserver.tables() & tables_of("super_app.directory")
        (line,) = [line for line in homeserver.log().splitlines() if "which this Synapse does not have" in line]
        assert f"feature directory needs {SYMBOL}" in line
        assert "ERROR" in line


def test_or_it_refuses_the_start_if_the_operator_wants_that(lone: MakeLone) -> None:
    homeserver = lone({**only(*SWITCHES), "on_private_api_change": "refuse_start"}, program=without(SYMBOL))
    with (
        pytest.raises(HomeserverDied, match=f"feature directory needs {SYMBOL}.*switch it off in features"),
        homeserver,
    ):
        pass
