"""The report of a soak: what it concludes from what was measured, and that a page and docs/soak.md come of it."""

import random
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest
import soak_report
from soak import UNNAMED, Fault, Look, Outcome, Size, Soak, Verdict
from soak_people import Done, Notes

SIZE = Size(people=1000, minutes=10, workers=3, seed=4711, compare_rounds=40)


def outcome(*, slower: float = 1.0, leak_bytes: float = 0.0) -> Outcome:
    """Forty rounds of 25 messages on a noisy machine; with the modules each takes so many times as long."""
    noise = random.Random(1)
    found = Outcome(size=SIZE, notes=Notes())
    for name, factor, leak in (("without", 1.0, 0.0), ("with", slower, leak_bytes)):
        # What disturbs a round disturbs both.
        busy = random.Random(2)
        found.compared[name] = [
            [0.03 * factor * busy.uniform(1, 1.5) * noise.uniform(0.8, 1.2) for _ in range(25)] for _ in range(40)
        ]
        found.beside[name] = [
            int(1e9 + leak * 25 * number + 50 * 25 * number + noise.gauss(0, 10_000)) for number in range(40)
        ]
    return found


def compared(found: Outcome, tmp_path: Path) -> dict[str, Verdict]:
    soak = Soak(tmp_path, SIZE, print)
    soak.outcome = found
    soak._check_comparison()
    slower, larger = found.verdicts
    return {"slower": slower, "larger": larger}


def test_the_same_time_is_shown_to_be_no_more_than_five_percent_more(tmp_path: Path) -> None:
    slower = compared(outcome(), tmp_path)["slower"]
    assert not slower.wrong
    assert "cannot show" not in slower.looked_at


def test_a_tenth_more_is_wrong(tmp_path: Path) -> None:
    assert compared(outcome(slower=1.1), tmp_path)["slower"].wrong


def test_what_a_run_cannot_tell_from_five_percent_is_said(tmp_path: Path) -> None:
    slower = compared(outcome(slower=1.05), tmp_path)["slower"]
    assert slower.wrong or "cannot show that it is no more" in slower.looked_at


def test_what_both_leave_behind_is_no_growth_of_ours_and_a_leak_is(tmp_path: Path) -> None:
    assert not compared(outcome(), tmp_path)["larger"].wrong
    assert compared(outcome(leak_bytes=500), tmp_path)["larger"].wrong


@pytest.fixture
def whole() -> Outcome:
    """One that has something of everything."""
    found = outcome()
    found.notes.done += [Done(deed="chat", at_s=second, took_s=0.03, tries=1) for second in range(100)]
    found.notes.hindered.append((12.0, "503 ORG.SUPERAPP.STARTING"))
    found.faults.append(Fault(kind="worker killed", what="1.worker1", at_s=10, until_s=15))
    found.looks += [Look(process="1.main", pid=7, at_s=at, size_bytes=10**8 + 100 * at) for at in range(100)]
    found.verdicts.append(Verdict(name="every call record is final", looked_at="3 rings", wrong=["a | `call`"]))
    found.errors += [(11.0, "Redis was away"), (12.0, UNNAMED)]
    found.causes["Redis was away"] += 1
    found.took_s["soaking"] = 600
    return found


def test_the_page_has_a_plot_of_everything_and_nothing_from_elsewhere(whole: Outcome) -> None:
    page = soak_report.page(whole)
    assert page.count("<svg") == 7
    assert "http" not in page.replace("http://www.w3.org/2000/svg", "")
    assert "--people 1000 --minutes 10 --workers 3" in page
    assert UNNAMED in page
    assert any("every call record is final" in line for line in soak_report.lines(whole))


def test_what_goes_into_docs_names_the_command_and_its_pictures(whole: Outcome, tmp_path: Path) -> None:
    soak_report.publish(whole, tmp_path)
    text = (tmp_path / "soak.md").read_text(encoding="utf-8")
    assert 'make soak ARGS="--people 1000 --minutes 10 --workers 3' in text
    assert "**no**" in text
    pictures = sorted(path.name for path in (tmp_path / "pictures").iterdir())
    assert len(pictures) == 7
    for name in pictures:
        assert f"(pictures/{name})" in text
        ET.parse(tmp_path / "pictures" / name)
    # Every row of a table has as many cells as its head.
    table: list[int] = []
    for line in text.splitlines():
        table = [*table, line.count("|")] if line.startswith("|") else []
        assert len(set(table)) <= 1, line


def test_a_soak_in_which_nothing_happened_has_a_report_too(tmp_path: Path) -> None:
    soak_report.publish(Outcome(size=SIZE, notes=Notes()), tmp_path)
    assert "<svg" in soak_report.page(Outcome(size=SIZE, notes=Notes()))
