"""People of two real homeservers: handles in profiles, blocks that hold across federation, domains that are asked."""

from urllib.parse import quote

import pytest
from running_demo import RunningDemo
from test_directory import errcode, fresh_name, handles, newcomer

from super_app.names import HANDLE_FIELD
from synapse_super_app.commands.matrix_client import MatrixError, wait_until

pytestmark = pytest.mark.on("postgresql")


def test_a_public_handle_is_in_the_profile_until_it_is_public_no_more(demo: RunningDemo) -> None:
    with newcomer(demo, 1) as person, demo.client("alice") as alice:
        record = handles(person, "PUT", fresh_name(), {"discover": "public"})
        path = f"profile/{quote(person.user_id, safe='')}"
        wait_until(
            lambda: alice.matrix("GET", path).get(HANDLE_FIELD) == record["handle"], timeout_s=60, what="the field"
        )
        handles(person, "PUT", record["handle"], {"discover": "exact"})
        wait_until(lambda: HANDLE_FIELD not in person.matrix("GET", path), timeout_s=60, what="the field to go")


def test_who_is_blocked_cannot_invite_from_another_homeserver(demo: RunningDemo) -> None:
    with newcomer(demo, 0) as pest, newcomer(demo, 1) as person:
        room = pest.create_room(preset="private_chat")
        person.superapp("PUT", f"blocks/{quote(pest.user_id, safe='')}")
        with pytest.raises(MatrixError) as refused:
            pest.invite(room, person.user_id)
        assert refused.value.errcode == "M_FORBIDDEN"
        person.superapp("DELETE", f"blocks/{quote(pest.user_id, safe='')}")
        pest.invite(room, person.user_id)


def test_a_domain_that_names_nobody_verifies_nobody(demo: RunningDemo) -> None:
    with newcomer(demo, 0) as person:
        name = person.user_id.partition(":")[0].removeprefix("@")
        # RFC 6761: no server of the DNS knows it.
        assert errcode(person, "PUT", f"handles/{name}/domains/nobody.invalid") == "NOT_ALLOWED"
