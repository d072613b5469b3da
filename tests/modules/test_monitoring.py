"""The alert rules and the dashboard, held to the metrics that the module exports."""

import importlib
import json
import pkgutil
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from prometheus_client import REGISTRY
from prometheus_client.metrics import MetricWrapperBase

import synapse_super_app

MONITORING = Path(__file__).parents[2] / "docker" / "monitoring"
ALERTS: list[dict[str, Any]] = [
    rule
    for group in yaml.safe_load((MONITORING / "alerts.yml").read_text(encoding="utf-8"))["groups"]
    for rule in group["rules"]
]
DASHBOARD: dict[str, Any] = json.loads((MONITORING / "dashboard.json").read_text(encoding="utf-8"))
_OF_A_HISTOGRAM = ("_bucket", "_sum", "_count")
_ADDED_BY_PROMETHEUS = {"le"}


def expressions() -> Iterator[tuple[str, str]]:
    for rule in ALERTS:
        yield rule["alert"], rule["expr"]
    for panel in DASHBOARD["panels"]:
        for target in panel.get("targets", ()):
            yield panel["title"], target["expr"]


@pytest.fixture(scope="module")
def exported() -> dict[str, set[str]]:
    """Every series that our code exports, with its labels."""
    for module in pkgutil.walk_packages(synapse_super_app.__path__, "synapse_super_app."):
        importlib.import_module(module.name)
    found: dict[str, set[str]] = {}
    for collector in set(REGISTRY._names_to_collectors.values()):
        if not isinstance(collector, MetricWrapperBase) or not collector._name.startswith("superapp_"):
            continue
        labels = set(collector._labelnames)
        match collector._type:
            case "counter":
                found[collector._name + "_total"] = labels
            case "histogram":
                found |= {collector._name + suffix: labels for suffix in _OF_A_HISTOGRAM}
            case _:
                found[collector._name] = labels
    return found


@pytest.mark.parametrize(("where", "expression"), list(expressions()))
def test_an_expression_asks_for_what_is_exported(where: str, expression: str, exported: dict[str, set[str]]) -> None:
    series = set(re.findall(r"superapp_\w+", expression))
    assert series, where
    assert series <= set(exported), where
    labels = set[str]().union(*(exported[name] for name in series)) | _ADDED_BY_PROMETHEUS
    grouped = [word for group in re.findall(r"by \(([^)]*)\)", expression) for word in re.findall(r"\w+", group)]
    matched = re.findall(r"[{,]\s*(\w+)\s*(?:=~|!~|!=|=)", expression)
    assert {*grouped, *matched} <= labels, where


@pytest.mark.parametrize("rule", ALERTS, ids=lambda rule: rule["alert"])
def test_an_alert_says_what_is_wrong_and_what_to_do(rule: dict[str, Any], exported: dict[str, set[str]]) -> None:
    assert rule["labels"]["severity"] in ("critical", "warning")
    said = rule["annotations"]
    assert said["summary"].endswith(".")
    assert said["action"].endswith(".")
    named = set(re.findall(r"\$labels\.(\w+)", said["summary"] + said["action"]))
    (labels,) = {frozenset(exported[name]) for name in re.findall(r"superapp_\w+", rule["expr"])}
    kept = re.findall(r"sum by \(([^)]*)\)", rule["expr"])
    assert named <= (set(re.findall(r"\w+", kept[0])) if kept else set(labels))


def test_alerts_and_panels_have_names_of_their_own() -> None:
    names = [rule["alert"] for rule in ALERTS]
    assert len(names) == len(set(names))
    ids = [panel["id"] for panel in DASHBOARD["panels"]]
    assert len(ids) == len(set(ids))


def test_a_legend_names_labels_that_the_panel_keeps() -> None:
    for panel in DASHBOARD["panels"]:
        for target in panel.get("targets", ()):
            used = set(re.findall(r"{{(\w+)}}", target["legendFormat"]))
            kept = re.findall(r"by \(([^)]*)\)", target["expr"])
            if kept:
                assert used <= set(re.findall(r"\w+", kept[-1])), panel["title"]


def test_what_is_watched_has_few_labels(exported: dict[str, set[str]]) -> None:
    """No label may have a value for each person, room or payment."""
    assert not {"user_id", "acct", "handle", "room_id", "payment_id", "call_id"} & set[str]().union(*exported.values())


NOT_WATCHED = {
    "superapp_call_policy_malformed_total": "a person's own mistake, which their client tells them",
    "superapp_call_record_seconds": "beside superapp_call_screening_seconds, for benchmarks",
    "superapp_call_unsilenced_total": "a ring too many in a group",
    "superapp_clearing_unreachable_total": "superapp_clearing_unsent_objects is what grows from it",
    "superapp_directory_acts_total": "the log of acts says more",
    "superapp_directory_asked_total": "for who looks for the cause of a slow search",
    "superapp_directory_feed_entries_total": "for who looks at how fast a feed is read",
    "superapp_directory_feed_left_out_total": "a line in the log names the homeserver and what to change",
    "superapp_directory_feed_refused_total": "superapp_directory_peers_failing is what follows",
    "superapp_directory_frozen_total": "each is a line in the log for the operator",
    "superapp_directory_heads_compared_total": "evidence is what comes of a difference",
    "superapp_directory_log_generation": "for who looks into a restore",
    "superapp_ledger_ahead_total": "for benchmarks of the writer",
    "superapp_ledger_alone_total": "for benchmarks of the writer",
    "superapp_ledger_apart_total": "for benchmarks of the writer",
    "superapp_ledger_decided_again_total": "for benchmarks of the writer",
    "superapp_ledger_epoch": "superapp_ledger_lease_lost_total is what matters of it",
    "superapp_ledger_relayed_total": "for who looks for the cause of slow orders",
    "superapp_left_money_taken_total": "the operators' log has each",
    "superapp_payment_holds_released_total": "nothing is wrong with one",
    "superapp_sfu_leaves_total": "nothing is wrong with one",
    "superapp_sql_exchanges_total": "for benchmarks",
}
"""Metrics that are in no alert and no panel, and why."""


def test_every_metric_is_watched_or_says_why_not(exported: dict[str, set[str]]) -> None:
    """So that a new feature does not go without."""
    asked = {name for _, expression in expressions() for name in re.findall(r"superapp_\w+", expression)}
    families = {re.sub(r"_(bucket|sum|count)$", "", name): name for name in exported}
    watched = {re.sub(r"_(bucket|sum|count)$", "", name) for name in asked}
    assert families.keys() - watched == NOT_WATCHED.keys()
