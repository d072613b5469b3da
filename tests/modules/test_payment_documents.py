"""What is documented is what is there."""

import re
from pathlib import Path

import pytest

from super_app.errors import FINAL, Reason
from synapse_super_app.http.refusals import STATUS

DOCS = Path(__file__).parents[2] / "docs"
SECTION = re.compile(r"^### ([A-Z_]+)\n(\d{3})(, final)?\. (.+?)(?=^#|\Z)", re.MULTILINE | re.DOTALL)


def sections() -> dict[str, tuple[int, str]]:
    text = (DOCS / "refusals.md").read_text(encoding="utf-8")
    return {match[1]: (int(match[2]), match[4].strip()) for match in SECTION.finditer(text)}


@pytest.mark.parametrize("reason", Reason, ids=lambda reason: reason.name)
def test_every_refusal_is_documented_with_its_status_and_a_sentence(reason: Reason) -> None:
    status, sentence = sections()[reason.name]
    assert status == STATUS[reason]
    assert sentence.endswith(".")


def test_no_refusal_is_documented_that_does_not_exist() -> None:
    text = (DOCS / "refusals.md").read_text(encoding="utf-8")
    assert set(re.findall(r"^### (\w+)", text, re.MULTILINE)) == {reason.name for reason in Reason}


def test_which_refusals_are_final_is_one_list_in_code_and_document() -> None:
    text = (DOCS / "refusals.md").read_text(encoding="utf-8")
    assert {Reason[match[1]] for match in SECTION.finditer(text) if match[3]} == FINAL
