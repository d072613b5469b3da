"""Requests of one homeserver that are answered at a time."""

import pytest
from synapse.module_api.errors import SynapseError

from super_app.ids import ServerName
from synapse_super_app.http.at_once import AtOnce

ONE, OTHER = ServerName("hs1.test"), ServerName("hs2.test")


def test_as_many_as_may_be_and_those_of_others_all_the_same() -> None:
    at_once = AtOnce(2)
    with at_once.one_of(ONE), at_once.one_of(ONE):
        with pytest.raises(SynapseError) as refused, at_once.one_of(ONE):
            pytest.fail("a third one")
        assert (refused.value.code, refused.value.errcode) == (429, "ORG.SUPERAPP.TOO_MANY_REQUESTS")
        with at_once.one_of(OTHER):
            pass
    with at_once.one_of(ONE):
        pass


def test_one_that_fails_is_over_as_well() -> None:
    at_once = AtOnce(1)
    for _ in range(2):
        with pytest.raises(ZeroDivisionError), at_once.one_of(ONE):
            raise ZeroDivisionError
