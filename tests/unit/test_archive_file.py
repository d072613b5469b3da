"""An archive's file proves itself: whatever is changed in it is found without a database."""

import json
from collections.abc import Callable
from dataclasses import replace

import pytest

from super_app.errors import Reason, Refused
from super_app.ids import Acct
from super_app.ledger import rules
from super_app.ledger.archive_file import check_lines, header_line, line_hash
from super_app.ledger.model import (
    Account,
    AccountKind,
    Cause,
    Head,
    Stretch,
    Transfer,
    TransferId,
    available,
    house,
)
from super_app.money import AssetCode

EUR = AssetCode("EUR")
ALICE, BOB, ISSUED = available(Acct("alice"), EUR), available(Acct("bob"), EUR), house(AccountKind.ISSUED, EUR)


def order(number: int, cause: Cause, amount_minor: int) -> Transfer:
    debit, credit = (ISSUED, ALICE) if cause is Cause.ISSUE else (ALICE, BOB)
    return Transfer(
        transfer_id=TransferId(f"t{number}"),
        debit=debit,
        credit=credit,
        amount_minor=amount_minor,
        cause=cause,
        reference='quoted "r" ü',
    )


def journal(after: int = 0) -> list[str]:
    """The file of what follows entry ``after`` of a journal of four."""
    orders = [
        order(1, Cause.ISSUE, 100),
        order(2, Cause.PAYMENT, 10),
        order(3, Cause.ISSUE, 5),
        order(4, Cause.PAYMENT, 7),
    ]
    keys = (ALICE, BOB, ISSUED)
    accounts = {key: Account(account_id=number, balance_minor=0, last_seq=0) for number, key in enumerate(keys)}
    entries = rules.decide(orders, Head(epoch=1, seq=0, entry_hash=""), accounts, {}, 5).entries
    hashes = ["", *(entry.entry_hash for entry in entries)]
    lines = [rules.archive_line(hashes[entry.seq - 1], entry) for entry in entries[after:]]
    stretch = Stretch(after_seq=after, before_hash=hashes[after], through_seq=4, entry_hash=hashes[4], posted_ms=5)
    return [header_line("hs1.test", stretch), *lines]


def chained_again(lines: list[str]) -> list[str]:
    """The same lines, their hashes and the header made to fit, as a forger would."""
    header = json.loads(lines[0])
    before, made = header["before_hash"], []
    for line in lines[1:]:
        content = json.loads(line)
        content[1] = before
        made.append(json.dumps(content, ensure_ascii=False, separators=(",", ":")))
        before = line_hash(made[-1])
    header["hash"] = before
    return [json.dumps(header), *made]


def changed(lines: list[str], line: int, field: int, value: object) -> list[str]:
    content = json.loads(lines[line])
    content[field] = value
    return [*lines[:line], json.dumps(content, ensure_ascii=False, separators=(",", ":")), *lines[line + 1 :]]


@pytest.mark.parametrize("after", [0, 1, 2, 3])
def test_an_untouched_file_is_what_its_first_line_says(after: int) -> None:
    found = check_lines(journal(after))
    assert isinstance(found, Stretch)
    assert (found.after_seq, found.through_seq) == (after, 4)


@pytest.mark.parametrize(
    "damage",
    [
        pytest.param(lambda lines: lines[:0], id="empty"),
        pytest.param(lambda lines: lines[1:], id="no first line"),
        pytest.param(lambda lines: ["{}", *lines[1:]], id="another first line"),
        pytest.param(lambda lines: [lines[0].replace("archive-1", "archive-9"), *lines[1:]], id="another format"),
        pytest.param(lambda lines: lines[:-1], id="the end is cut off"),
        pytest.param(lambda lines: [*lines, lines[-1]], id="a line twice"),
        pytest.param(lambda lines: [*lines[:2], *lines[3:]], id="a line is missing"),
        pytest.param(lambda lines: [lines[0], lines[2], lines[1], *lines[3:]], id="two lines swapped"),
        pytest.param(lambda lines: changed(lines, 2, 13, 11), id="an amount"),
        pytest.param(lambda lines: changed(lines, 4, 15, "another"), id="the last reference"),
        pytest.param(lambda lines: [*lines[:2], lines[2] + " ", *lines[3:]], id="a space"),
        pytest.param(lambda lines: [*lines[:2], lines[2][:-1], *lines[3:]], id="no JSON"),
        pytest.param(lambda lines: changed(lines, 2, 0, "superapp-entry-2"), id="another kind of entry"),
        pytest.param(lambda lines: changed(lines, 2, 13, 10.0), id="a fraction"),
        pytest.param(lambda lines: chained_again(changed(lines, 2, 13, 11)), id="an amount, chained again"),
        pytest.param(lambda lines: chained_again(changed(lines, 2, 8, 91)), id="a balance, chained again"),
        pytest.param(lambda lines: chained_again(changed(lines, 4, 7, 1)), id="a link, chained again"),
        pytest.param(
            lambda lines: chained_again([*lines[:2], changed(lines, 3, 2, 2)[3], changed(lines, 4, 2, 3)[4]]),
            id="an entry left out, chained again",
        ),
    ],
)
def test_whatever_is_changed_in_it_is_found(damage: Callable[[list[str]], list[str]]) -> None:
    lines = journal()
    broken = damage(lines)
    assert broken != lines
    found = check_lines(broken)
    assert isinstance(found, Refused)
    assert found.reason is Reason.ARCHIVE_MISMATCH


def test_the_hash_of_a_line_is_the_hash_of_its_entry() -> None:
    lines = journal()
    found = check_lines(lines)
    assert isinstance(found, Stretch)
    assert line_hash(lines[-1]) == found.entry_hash
    assert check_lines(chained_again(lines)) == replace(found)
