"""Two operators settle by their commands, from the proposal to the end, as docs/admin.md shows it."""

import re
from pathlib import Path
from typing import Any

import pytest
from processes import super_app
from running_demo import RunningDemo

from synapse_super_app.commands.matrix_client import Json, wait_until

pytestmark = pytest.mark.on("postgresql")

SETTLED_MINOR = 500


class Desk:
    """One operator: their homeserver, their token, and their commands."""

    def __init__(self, demo: RunningDemo, index: int, folder: Path) -> None:
        self._admin = demo.admins[index]
        self._folder = folder
        self._url = str(demo.homeservers[index]["client_url"])
        self._token = str(demo.homeservers[index]["admin"]["access_token"])

    def settle(self, *arguments: str) -> str:
        return super_app(self._folder, "settle", *arguments, "--url", self._url, token=self._token)

    def link(self) -> str:
        return super_app(self._folder, "link", "list", "--url", self._url, token=self._token)

    def exposure(self) -> Json:
        (link,) = self._admin.superapp("GET", "admin/links")["links"]
        exposure: dict[str, Any] = next(each for each in link["currencies"] if each["currency"] == "EUR")
        return exposure

    def issue(self, user_id: str, amount_minor: int, reference: str) -> None:
        self._admin.issue(user_id, amount_minor, "EUR", reference)

    def is_sound(self) -> bool:
        return self._admin.superapp("GET", "admin/invariants")["ok"] is True

    def wait_for(self, reference: str, **fields: Any) -> None:
        """Until the settlement stands so here: what the other side signed has arrived."""

        def stands_so() -> bool:
            found = self._admin.superapp("GET", "admin/settlements")["settlements"]
            known: Json = next((each for each in found if each["reference"] == reference), {})
            return fields.items() <= known.items()

        wait_until(stands_so, timeout_s=60, what=f"{fields} of {reference}")


def test_two_operators_settle_and_the_credit_is_free_only_when_the_creditor_says_so(
    demo: RunningDemo, tmp_path: Path
) -> None:
    debtor, creditor = Desk(demo, 0, tmp_path), Desk(demo, 1, tmp_path)
    make_debt(demo, debtor, creditor)
    used_minor, owed_minor = creditor.exposure()["used_minor"], creditor.exposure()["due_from_minor"]
    assert used_minor >= SETTLED_MINOR

    told = debtor.settle("propose", demo.names[1], "EUR", "5.00")
    assert f"waits for the operator of {demo.names[1]} to agree that you pay 5.00 EUR" in told
    match = re.match(r"RF[0-9]{2} [0-9A-Z]{4} [0-9A-Z]{4} [0-9A-Z]{4}(?=  )", told)
    assert match is not None, told
    reference = match[0].replace(" ", "")

    creditor.wait_for(reference, waits=f"waits for you to agree that {demo.names[0]} pays you 5.00 EUR")
    creditor.settle("agree", reference, "--pay-to", "payto://iban/DE75512108001245126199")
    pay_to = f"payto://iban/DE75512108001245126199?amount=EUR:5.00&message={reference}"
    debtor.wait_for(reference, state="agreed", pay_to=pay_to)
    assert f"pay by: {pay_to}" in debtor.settle("list")
    assert creditor.exposure()["used_minor"] == used_minor

    debtor.settle("sent", match[0].lower(), "--bank-reference", "E2E 2026-11")
    creditor.wait_for(reference, state="sent", bank_reference="E2E 2026-11")
    assert f"waits for you to say whether 5.00 EUR arrived from {demo.names[0]}" in creditor.settle("list")
    assert f"waits for the operator of {demo.names[1]} to say whether 5.00 EUR arrived" in debtor.link()
    # The money is on its way, and nothing is free yet.
    assert debtor.exposure()["in_transit_minor"] == SETTLED_MINOR
    assert (creditor.exposure()["used_minor"], creditor.exposure()["due_from_minor"]) == (used_minor, owed_minor)
    assert debtor.is_sound()
    assert creditor.is_sound()

    assert "received" in creditor.settle("received", reference)
    assert (creditor.exposure()["used_minor"], creditor.exposure()["due_from_minor"]) == (
        used_minor - SETTLED_MINOR,
        owed_minor - SETTLED_MINOR,
    )
    debtor.wait_for(reference, state="received", received_minor=SETTLED_MINOR)
    assert "5.00 EUR arrived" in debtor.settle("list", "--all")
    assert debtor.exposure()["in_transit_minor"] == 0
    assert debtor.exposure()["due_to_minor"] == creditor.exposure()["due_from_minor"]
    assert debtor.is_sound()
    assert creditor.is_sound()


def make_debt(demo: RunningDemo, debtor: Desk, creditor: Desk) -> None:
    """Have dave pay carol so much that his homeserver owes hers 5.00 EUR net, whatever other tests have paid."""
    there = creditor.exposure()
    amount_minor = max(0, there["due_to_minor"] - there["due_from_minor"]) + SETTLED_MINOR
    with demo.client("dave") as dave, demo.client("carol") as carol:
        debtor.issue(dave.user_id, amount_minor, "to be settled")
        payment = dave.pay(demo.people["carol"].handle, amount_minor, "EUR")
        carol.wait_for_payment(payment["payment_id"], payer=dave.user_id)

    def receipted() -> bool:
        return int(debtor.exposure()["unreceipted_minor"]) == 0

    wait_until(receipted, timeout_s=60, what="the receipt of the payment")
