"""What the command line finds wrong with a homeserver's config, and how it says so."""

import copy
import importlib.util
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from synapse_super_app.commands import homeserver_config
from synapse_super_app.commands.config_checks import Weight, findings
from synapse_super_app.commands.homeserver_config import HomeserverConfig

SHIPPED = homeserver_config.load(Path(__file__).parents[2] / "homeserver.yaml")

Content = dict[str, Any]


def changed(change: Callable[[Content], object]) -> HomeserverConfig:
    content = copy.deepcopy(dict(SHIPPED.content))
    change(content)
    return HomeserverConfig(path=SHIPPED.path, folder=SHIPPED.folder, content=content)


def ours(content: Content) -> Content:
    config: Content = content["modules"][0]["config"]
    return config


def test_the_config_that_we_ship_has_no_fault() -> None:
    assert findings(SHIPPED) == []


@pytest.mark.parametrize(
    ("change", "key", "remedy"),
    [
        (lambda c: c.update(ip_range_blocklist=[]), "ip_range_blocklist", "write ip_range_blacklist"),
        (
            lambda c: c.update(federation_ip_range_blocklist=[]),
            "federation_ip_range_blocklist",
            "write federation_ip_range_blacklist",
        ),
        (lambda c: c.update(ip_range_allowlist=[]), "ip_range_allowlist", "write ip_range_whitelist"),
        (lambda c: c.update(max_event_delay="24h"), "max_event_delay", "write max_event_delay_duration"),
        (lambda c: c.update(max_event_delay_durations="24h"), "max_event_delay_durations", "write max_event_delay"),
        (lambda c: c.update(experimental_feature={}), "experimental_feature", "write experimental_features"),
        (lambda c: c.update(signing_key_paths="x"), "signing_key_paths", "write signing_key_path"),
        (lambda c: c.pop("server_name"), "server_name", "write the domain"),
        (lambda c: c.pop("report_stats"), "report_stats", "write report_stats: false"),
        (lambda c: c.pop("listeners"), "listeners", "add {port: 8008"),
        (lambda c: c.update(daemonize=True), "daemonize", "write daemonize: false"),
        (lambda c: c.pop("database"), "database", "write database: {name: sqlite3"),
        (lambda c: c["database"].update(name="mysql"), "database.name", "write sqlite3 or psycopg2"),
        (lambda c: c.pop("modules"), "modules", "needs one entry"),
        (lambda c: c["modules"].append(c["modules"][0]), "modules", "named twice"),
        (lambda c: ours(c).update(feature={}), "config.feature", "did you mean features?"),
        (lambda c: ours(c)["payments"].update(mode="custodial"), "config.payments", "acknowledge"),
        (lambda c: ours(c)["retention"].update(memos=2), "config.retention.memos", "number with a unit"),
        (
            lambda c: c["database"].update(synchronous_commit=False),
            "database.synchronous_commit",
            "remove it, or switch payments off",
        ),
        (
            lambda c: c.update(federation_verify_certificates=False),
            "federation_verify_certificates",
            "federation_custom_ca_list",
        ),
    ],
)
def test_a_fault_refuses_the_start_and_names_key_and_remedy(
    change: Callable[[Content], object], key: str, remedy: str
) -> None:
    (finding,) = findings(changed(change))
    assert finding.weight is Weight.REFUSE
    assert key in finding.line
    assert remedy in finding.line
    assert "\n" not in finding.line


@pytest.mark.parametrize(
    ("change", "key"),
    [
        (lambda c: c.pop("max_event_delay_duration"), "max_event_delay_duration"),
        (lambda c: c.pop("experimental_features"), "experimental_features.msc4075_enabled"),
        (lambda c: c.pop("rc_user_directory"), "rc_user_directory"),
        (lambda c: c["rc_user_directory"].update(per_second=0.016), "rc_user_directory"),
        (lambda c: c["rc_user_directory"].update(burst_count=2), "rc_user_directory.burst_count"),
        (lambda c: c.update(rc_message={"per_second": 0.1, "burst_count": 10}), "rc_message.per_second"),
        (lambda c: c.update(rc_message={"burst_count": 3}), "rc_message.burst_count"),
        (lambda c: c.update(rc_delayed_event_mgmt={"per_second": 0.1}), "rc_delayed_event_mgmt.per_second"),
        (lambda c: c.update(rc_federation={"reject_limit": 5}), "rc_federation.reject_limit"),
        (
            lambda c: ours(c)["calls"].update(turn_uris=["turn:localhost"], turn_secret_path="x", limits={"turn": 2}),
            "calls.limits.turn",
        ),
        (lambda c: ours(c).update(requests={"reads": 5}), "requests.reads"),
        (lambda c: ours(c).update(requests={"writes": 1}), "requests.writes"),
    ],
)
def test_what_only_makes_a_feature_worse_is_a_warning(change: Callable[[Content], object], key: str) -> None:
    (finding,) = findings(changed(change))
    assert finding.weight is Weight.WARN
    assert finding.line.startswith(f"{key}: ")
    assert "; write " in finding.line


def test_limits_as_wide_as_synapses_own_and_none_at_all_are_no_warning() -> None:
    def change(content: Content) -> None:
        content["rc_message"] = {"per_second": 0.2, "burst_count": 10}
        content["rc_delayed_event_mgmt"] = {"per_second": 1}
        content["rc_federation"] = {"reject_limit": 50, "concurrent": 3}
        ours(content)["calls"].update(limits={"turn": 0, "tokens": 0})
        ours(content)["requests"] = {"reads": 0, "writes": 0}

    assert findings(changed(change)) == []


def test_nobody_is_bothered_about_a_feature_that_is_off() -> None:
    def change(content: Content) -> None:
        ours(content)["features"] = {"directory": False, "calls": False, "payments": False}
        for key in ("max_event_delay_duration", "experimental_features", "rc_user_directory"):
            content.pop(key)
        content["database"]["synchronous_commit"] = False
        content["federation_verify_certificates"] = False

    assert findings(changed(change)) == []


def test_faults_come_before_warnings_and_all_are_told_at_once() -> None:
    def change(content: Content) -> None:
        content.pop("max_event_delay_duration")
        content.pop("server_name")
        content["ip_range_blocklist"] = []

    weights = [finding.weight for finding in findings(changed(change))]
    assert weights == [Weight.REFUSE, Weight.REFUSE, Weight.WARN]


def test_no_key_that_synapse_reads_is_taken_for_a_mistake() -> None:
    spec = importlib.util.find_spec("synapse")
    assert spec is not None
    assert spec.origin is not None
    source = "".join(path.read_text(encoding="utf-8") for path in Path(spec.origin).parent.glob("config/*.py"))
    keys = set(re.findall(r'\bconfig(?:\.get\(\s*|\[)"(\w+)"', source))
    assert {"user_directory", "registration_shared_secret", "macaroon_secret_key", "databases"} <= keys
    for key in sorted(keys - set(SHIPPED.content)):
        content = {**SHIPPED.content, key: None}
        found = findings(HomeserverConfig(path=SHIPPED.path, folder=SHIPPED.folder, content=content))
        assert not [finding for finding in found if "does not know this key" in finding.line], key
