"""The page for server admins, as one uses it: sign in, halt payments, propose, freeze, check the audit log."""

from typing import Any

from app_pages import SCREENSHOTS
from lone import LoneHomeserver

from synapse_super_app.commands.matrix_client import MatrixClient

_PATIENCE_MS = 120_000


def test_an_admin_halts_proposes_freezes_and_finds_it_all_in_the_log(chromium: Any, homeserver: LoneHomeserver) -> None:
    with homeserver.account("operations-admin", admin=True) as admin, homeserver.account("operations-alice") as alice:
        context = chromium.new_context()
        context.set_default_timeout(_PATIENCE_MS)
        page = context.new_page()
        complaints: list[str] = []
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.goto(f"{homeserver.process.client_url}/superapp/admin/")
        page.get_by_label("User name").fill("operations-admin")
        page.get_by_label("Password").fill("operations-admin-password")
        page.get_by_role("button", name="Sign in").click()
        page.get_by_role("cell", name="balanced", exact=True).wait_for()

        halt = page.locator("#halt")
        halt.get_by_label("Reason").fill("a look at the books")
        halt.get_by_role("button").click()
        page.get_by_text(f"HALTED by {admin.user_id}: a look at the books").wait_for()
        assert admin.superapp("GET", "admin/payments/halt")["halted"] is True
        page.get_by_role("button", name="Let payments start again").click()
        page.get_by_role("cell", name="go on", exact=True).wait_for()

        propose = page.locator("#propose")
        propose.get_by_label("Whom").fill(alice.user_id)
        propose.get_by_label("Amount (minor units)").fill("12")
        propose.get_by_label("Currency").fill("PTS")
        propose.get_by_label("Reference").fill("<b>not markup</b>")
        propose.get_by_role("button").click()
        page.locator("#proposals").get_by_text("<b>not markup</b>").wait_for()
        page.locator("#proposals").get_by_role("button", name="Approve").click()
        page.get_by_text("Another server admin than the one who proposed it must approve it").wait_for()

        look = page.locator("#look")
        look.get_by_label("Whom").fill(alice.user_id)
        look.get_by_role("button").click()
        account = page.locator("#account")
        account.get_by_label("Reason").fill("a case")
        account.get_by_role("button", name="Freeze").click()
        account.get_by_role("button", name="Unfreeze").wait_for()
        assert admin.superapp("GET", f"admin/accounts/{alice.user_id}")["frozen_since"] > 0

        _disputes_and_handles(page, admin, alice)

        page.get_by_role("button", name="Check that it is whole").click()
        page.get_by_text("each follows from the one before").wait_for()
        SCREENSHOTS.mkdir(parents=True, exist_ok=True)
        page.screenshot(path=SCREENSHOTS / "operations.png", full_page=True)
        page.get_by_role("button", name="Sign out").click()
        page.get_by_role("heading", name="Sign in as a server admin").wait_for()
        assert complaints == []
        context.close()


def test_who_is_no_admin_sees_nothing(chromium: Any, homeserver: LoneHomeserver) -> None:
    with homeserver.account("operations-bob"):
        context = chromium.new_context()
        context.set_default_timeout(_PATIENCE_MS)
        page = context.new_page()
        page.goto(f"{homeserver.process.client_url}/superapp/admin/")
        page.get_by_label("User name").fill("operations-bob")
        page.get_by_label("Password").fill("operations-bob-password")
        page.get_by_role("button", name="Sign in").click()
        page.get_by_text("Only a server admin may do this").wait_for()
        assert page.locator("#desk").is_hidden()
        context.close()


def _disputes_and_handles(page: Any, admin: MatrixClient, alice: MatrixClient) -> None:
    admin.issue(alice.user_id, 50, "PTS", "for the dispute")
    admin.superapp("POST", f"admin/accounts/{alice.user_id}/unfreeze", {"reason": "a case"})
    paid = alice.pay(admin.user_id, 7, "PTS")
    alice.wait_for_payment(paid["payment_id"])
    opened = {"ground": "not_received", "statement": "<i>where is it?</i>"}
    alice.superapp("POST", f"payments/{paid['payment_id']}/dispute", opened)
    name = page.locator("#name")
    name.get_by_label("Handle").fill("operations-alice")
    name.get_by_role("button").click()
    handle = page.locator("#handle")
    handle.get_by_role("button", name="Freeze", exact=True).click()
    page.get_by_text("Write a reason first.").wait_for()
    handle.get_by_label("Reason").fill("a case")
    handle.get_by_role("button", name="Freeze", exact=True).click()
    handle.get_by_role("cell", name="frozen", exact=True).wait_for()
    handle.get_by_label("Reason").fill("cleared up")
    handle.get_by_role("button", name="Unfreeze", exact=True).click()
    handle.get_by_role("cell", name="active", exact=True).wait_for()

    case = page.locator("#disputes")
    case.get_by_text("<i>where is it?</i>").wait_for()
    case.get_by_label("Reason").fill("it was there")
    with page.expect_response("**/admin/audit?limit=30"):
        page.locator("#look").get_by_label("Whom").fill(alice.user_id)
        page.locator("#look").get_by_role("button").click()
    assert case.get_by_label("Reason").input_value() == "it was there"
    case.get_by_role("button", name="Reject").click()
    case.get_by_text("There is nothing here.").wait_for()
    found = alice.superapp("GET", f"disputes/{paid['payment_id']}")
    assert found["state"] == "rejected"
    page.locator("#reviews").get_by_text("There is nothing here.").wait_for()
