"""A PIN against real sessions: what a session may do that was signed in long ago, refreshed, or just now."""

import pytest
from running_demo import RunningDemo

from synapse_super_app.commands.loopback import REGISTRATION_SECRET
from synapse_super_app.commands.matrix_client import MatrixClient, MatrixError

pytestmark = pytest.mark.on("postgresql")

PASSWORD = "a password of erin"


def test_only_who_just_signed_in_may_drop_a_forgotten_pin(demo: RunningDemo) -> None:
    url = str(demo.homeservers[0]["client_url"])
    with MatrixClient(url) as anyone:
        anyone.register_with_secret(REGISTRATION_SECRET, "erin", PASSWORD)
        identifier = {"type": "m.id.user", "user": "erin"}
        login = {"type": "m.login.password", "identifier": identifier, "password": PASSWORD, "refresh_token": True}
        session = anyone.matrix("POST", "login", login)
        refreshed = anyone.matrix("POST", "refresh", {"refresh_token": session["refresh_token"]})
    user_id = str(session["user_id"])
    demo.admins[0].issue(user_id, 1_000, "EUR", "erin's first")
    with MatrixClient(url, user_id=user_id, access_token=str(refreshed["access_token"])) as erin:
        assert erin.superapp("PUT", "wallet/pin", {"pin": "2580"})["pin_set"] is True
        for wrong, code in ((None, "PIN_REQUIRED"), ("1357", "PIN_WRONG")):
            with pytest.raises(MatrixError) as refusal:
                erin.pay(demo.people["bob"].handle, 300, "EUR", **({} if wrong is None else {"pin": wrong}))
            assert refusal.value.errcode == f"ORG.SUPERAPP.{code}"
        paid = erin.pay(demo.people["bob"].handle, 300, "EUR", pin="2580")
        assert erin.wait_for_payment(str(paid["payment_id"]))["state"] == "completed"
        # A session that goes on by its refresh token may be anybody's who found the phone.
        with pytest.raises(MatrixError) as refusal:
            erin.superapp("DELETE", "wallet/pin")
        assert refusal.value.errcode == "ORG.SUPERAPP.SIGN_IN_AGAIN"
        with erin.signed_in(erin.login("erin", PASSWORD)) as anew:
            assert anew.superapp("DELETE", "wallet/pin")["pin_set"] is False
