"""PIN, passkey and the lost device in a real browser, with the authenticator that Chromium's own tests use."""

import secrets
from typing import Any

import pytest
from app_pages import visiting
from running_demo import RunningDemo

from synapse_super_app.commands.matrix_client import MatrixClient, MatrixError, wait_until

PIN = "258046"


def test_a_passkey_confirms_in_the_place_of_the_pin_until_the_device_is_lost(chromium: Any, pair: RunningDemo) -> None:
    # Somebody new, since what is lost here are all sessions of an account.
    name, password = f"gina{secrets.token_hex(3)}", secrets.token_hex(8)
    admin = pair.admins[0]
    with (
        MatrixClient(str(pair.homeservers[0]["client_url"])) as gina,
        visiting(chromium, pair, None, by_name=True) as visit,
    ):
        user_id = f"@{name}:{pair.names[0]}"
        admin.request("PUT", f"/_synapse/admin/v2/users/{user_id}", {"password": password})
        admin.issue(user_id, 1_000, "EUR", name)
        gina.access_token = gina.login(name, password).access_token
        page = visit.open("safety")
        page.get_by_label("User name").fill(name)
        page.get_by_label("Password").fill(password)
        page.get_by_role("button", name="Sign in").click()
        visit.heading("Safety")
        devtools = visit.context.new_cdp_session(page)
        devtools.send("WebAuthn.enable")
        options = {"protocol": "ctap2", "transport": "internal", "hasUserVerification": True, "isUserVerified": True}
        devtools.send("WebAuthn.addVirtualAuthenticator", {"options": {**options, "automaticPresenceSimulation": True}})
        page.get_by_label("New PIN, 4 to 8 digits").fill(PIN)
        page.get_by_role("button", name="Set PIN").click()
        page.get_by_label("Your PIN, to add a passkey").fill(PIN)
        page.get_by_role("button", name="Add a passkey").click()
        page.get_by_role("button", name="Remove").wait_for()
        visit.shot("security-phone-light")

        address = f"send?to={pair.people['alice'].handle}&amount=150&currency=EUR"
        page = visit.open(address)
        page.get_by_role("button", name="Next").click()
        page.get_by_role("button", name="Pay €1.50").click()
        page.get_by_text("This payment needs your PIN or a passkey.").wait_for()
        page.get_by_role("button", name="Confirm with a passkey").click()
        page.get_by_text("Paid", exact=True).wait_for()
        wait_until(lambda: gina.available("EUR") == 850, timeout_s=60, what="the payment")

        visit.open("wallet")
        visit.open(address)
        page.get_by_role("button", name="Next").click()
        page.get_by_role("button", name="Pay €1.50").click()
        page.get_by_label("Your PIN").fill(PIN)
        page.get_by_role("button", name="Pay €1.50").click()
        page.get_by_text("Paid", exact=True).wait_for()
        wait_until(lambda: gina.available("EUR") == 700, timeout_s=60, what="the second payment")

        visit.open("safety")
        page.get_by_role("button", name="My phone is lost").click()
        page.get_by_role("button", name="Lock it and sign out everywhere").click()
        page.get_by_label("Password").wait_for()
        with pytest.raises(MatrixError, match="M_UNKNOWN_TOKEN"):
            gina.whoami()
        gina.access_token = gina.login(name, password).access_token
        assert gina.superapp("GET", "wallet/passkeys")["passkeys"] == []
        assert gina.superapp("GET", "wallet/safeguards")["locked_since"] is not None
        # Chromium would like a user name beside each password; a PIN has none.
        assert [each for each in visit.complaints if not each.startswith("[DOM]")] == []
