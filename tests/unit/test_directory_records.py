"""Signed objects of the directory: what a reader accepts and what it refuses."""

from typing import Any

import pytest

from super_app.directory import records
from super_app.directory.model import (
    DAY_MS,
    Absent,
    AskedBy,
    Discover,
    Facts,
    Holding,
    Name,
    Origin,
    Record,
    ServicesPart,
    State,
    Withdrawal,
)
from super_app.errors import Reason, Refused
from super_app.ids import Acct, Handle, ServerName, UserId
from super_app.signing import digest, generate_key, key_id_of, public_b64, signed

SERVER = ServerName("hs1.test")
KEY = generate_key(bytes(range(32)))
PUBLIC = public_b64(KEY)
NOW_MS = 1_700_000_000_000
ACCT = Acct("A" * 43)
FACTS = Facts(msk=None, services={"chat": True, "call": True, "pay": True})


def holding(**changes: Any) -> Holding:
    fields: dict[str, Any] = {
        "name": Name("alice"),
        "acct": ACCT,
        "user_id": UserId("@alice:hs1.test"),
        "origin": Origin.LOCALPART,
        "state": State.ACTIVE,
        "frozen_for": None,
        "contested_by": None,
        "discover": Discover.PUBLIC,
        "chosen": True,
        "primary": True,
        "since_ms": NOW_MS,
        "released_ms": None,
        "seq": 0,
        "digest": None,
        "record": None,
        "renew_ms": 0,
    }
    return Holding(**{**fields, **changes})


def record(**changes: Any) -> dict[str, Any]:
    made = records.record(holding(), SERVER, FACTS, KEY, seq=1, prev=None, alias_of=None, issued_ms=NOW_MS)
    return signed({**{name: value for name, value in made.items() if name != "signature"}, **changes}, KEY)


def read(content: object, *, now_ms: int = NOW_MS) -> Record | Refused:
    return records.read_record(content, SERVER, PUBLIC, now_ms)


def is_bad(answer: object, part: str) -> None:
    assert isinstance(answer, Refused), answer
    assert answer.reason is Reason.BAD_RECORD
    assert part in answer.message


def test_a_record_of_the_server_is_read_and_keeps_fields_that_the_reader_does_not_know() -> None:
    content = record(later_field={"x": [1, 2]})
    found = read(content)
    assert isinstance(found, Record)
    assert (found.handle, found.user_id, found.acct) == ("@alice:hs1.test", "@alice:hs1.test", ACCT)
    assert found.content == content


def test_a_record_without_the_optional_fields_has_none_of_them_as_null() -> None:
    assert None not in record().values()
    assert {"msk", "prev", "alias_of", "moved_to", "frozen_for"}.isdisjoint(record())


def test_a_record_names_the_hash_of_the_one_before_it() -> None:
    first = record()
    second = records.record(
        holding(), SERVER, FACTS, KEY, seq=2, prev=digest(first), alias_of=Name("ally"), issued_ms=NOW_MS
    )
    assert second["prev"] == digest(first)
    assert second["alias_of"] == "@ally:hs1.test"


@pytest.mark.parametrize(
    ("changes", "part"),
    [
        ({"server": "hs2.test"}, "names another server"),
        ({"handle": "@alice:hs2.test"}, "handle is not of that server"),
        ({"handle": "alice"}, "handle is not of that server"),
        ({"user_id": "@alice:hs2.test"}, "account is not of that server"),
        ({"acct": "short"}, "account is not of that server"),
        ({"v": 2}, "malformed"),
        ({"seq": 0}, "malformed"),
        ({"seq": True}, "malformed"),
        ({"status": "great"}, "malformed"),
        ({"services": {"chat": "yes"}}, "malformed"),
        ({"expires": NOW_MS}, "expired"),
        ({"expires": NOW_MS + 31 * DAY_MS}, "expired"),
        ({"issued": NOW_MS + DAY_MS, "expires": NOW_MS + 2 * DAY_MS}, "from the future"),
        ({"badges": [{"x": "y" * 9_000}]}, "larger"),
    ],
)
def test_a_signed_record_that_says_what_it_must_not_is_refused(changes: dict[str, Any], part: str) -> None:
    is_bad(read(record(**changes)), part)


def test_a_record_of_another_key_or_changed_afterwards_is_refused() -> None:
    is_bad(read(signed(record(), generate_key(b"\x01" * 32))), "signature does not verify")
    is_bad(read({**record(), "discover": "exact"}), "signature does not verify")
    is_bad(read({name: value for name, value in record().items() if name != "signature"}), "malformed")
    is_bad(read(["no", "object"]), "no object")
    is_bad(read({**record(), "seq": 1.5}), "malformed")


def test_a_record_is_good_until_it_expires() -> None:
    assert isinstance(read(record(), now_ms=NOW_MS + 30 * DAY_MS - 1), Record)
    is_bad(read(record(), now_ms=NOW_MS + 30 * DAY_MS), "expired")


class TestAnswers:
    def answer(self, content: object, asked: str = "@alice:hs1.test", by: AskedBy = AskedBy.HANDLE) -> object:
        return records.read_answer(content, SERVER, PUBLIC, asked=asked, by=by, now_ms=NOW_MS)

    def test_a_record_answers_for_its_handle_in_any_case_and_for_its_account(self) -> None:
        assert isinstance(self.answer(record()), Record)
        assert isinstance(self.answer(record(), "@Alice:hs1.test"), Record)
        assert isinstance(self.answer(record(handle="@ally:hs1.test"), by=AskedBy.USER_ID), Record)

    def test_a_record_of_somebody_else_is_no_answer(self) -> None:
        is_bad(self.answer(record(), "@bob:hs1.test"), "another question")
        is_bad(self.answer(record(), "@bob:hs1.test", AskedBy.USER_ID), "another question")

    def test_nobody_is_signed_and_only_for_what_was_asked(self) -> None:
        nobody = records.absent(SERVER, "@alice:hs1.test", AskedBy.HANDLE, KEY, issued_ms=NOW_MS)
        assert self.answer(nobody) == Absent(server=SERVER, issued_ms=NOW_MS)
        is_bad(self.answer(nobody, "@bob:hs1.test"), "another question")
        is_bad(self.answer(nobody, by=AskedBy.USER_ID), "another question")
        is_bad(self.answer({**nobody, "issued": NOW_MS + 1}), "signature")

    @pytest.mark.parametrize(
        ("age_ms", "good"), [(359_999, True), (360_000, False), (-300_000, True), (-300_001, False)]
    )
    def test_nobody_is_believed_for_a_minute_and_what_clocks_may_differ_by(self, age_ms: int, good: bool) -> None:
        nobody = records.absent(SERVER, "@alice:hs1.test", AskedBy.HANDLE, KEY, issued_ms=NOW_MS - age_ms)
        assert isinstance(self.answer(nobody), Absent if good else Refused)

    def test_the_services_of_a_hidden_person_answer_a_question_by_user_id_only(self) -> None:
        part = records.services_part(holding(), SERVER, FACTS, KEY, issued_ms=NOW_MS)
        assert isinstance(self.answer(part, by=AskedBy.USER_ID), ServicesPart)
        assert "handle" not in part
        is_bad(self.answer(part), "another question")
        is_bad(self.answer(part, "@bob:hs1.test", AskedBy.USER_ID), "another question")


class TestFeedEntries:
    def entry(self, content: object) -> object:
        return records.read_feed_entry(content, SERVER, PUBLIC, NOW_MS)

    def test_public_records_and_withdrawals_are_entries(self) -> None:
        gone = records.withdrawal(Handle("@alice:hs1.test"), 3, KEY, issued_ms=NOW_MS)
        assert isinstance(self.entry(record()), Record)
        read = self.entry(gone)
        assert isinstance(read, Withdrawal)
        assert (read.handle, read.seq) == ("@alice:hs1.test", 3)

    def test_a_withdrawal_does_not_say_what_the_person_chose(self) -> None:
        gone = records.withdrawal(Handle("@alice:hs1.test"), 3, KEY, issued_ms=NOW_MS)
        assert set(gone) == {"type", "v", "handle", "server", "seq", "issued", "key_id", "signature"}

    def test_hidden_records_and_those_of_other_servers_are_refused(self) -> None:
        is_bad(self.entry(record(discover="exact")), "not public")
        is_bad(self.entry(record(server="hs2.test")), "another server")
        gone = records.withdrawal(Handle("@alice:hs2.test"), 3, KEY, issued_ms=NOW_MS)
        is_bad(self.entry(gone), "another server")
        is_bad(self.entry(signed({**gone, "server": "hs1.test"}, KEY)), "not of that server")


class TestCertificates:
    def certificate(self, **changes: Any) -> dict[str, Any]:
        content = records.certificate(SERVER, KEY, issued_ms=NOW_MS)
        return {**content, "signatures": {SERVER: {"ed25519:a_x": "sig"}}, **changes}

    def test_a_certificate_names_the_key_of_its_server(self) -> None:
        key = records.read_certificate(self.certificate(), SERVER)
        assert not isinstance(key, Refused)
        assert (key.public_key, key.key_id) == (PUBLIC, key_id_of(KEY))

    @pytest.mark.parametrize(
        ("changes", "part"),
        [
            ({"server": "hs2.test"}, "not that server's"),
            ({"signatures": {"hs2.test": {"ed25519:a_x": "sig"}}}, "not that server's"),
            ({"public_key": "AAAA"}, "not that server's"),
            ({"public_key": "not base64!"}, "malformed"),
            ({"type": "m.room.message"}, "malformed"),
        ],
    )
    def test_a_certificate_of_another_shape_is_refused(self, changes: dict[str, Any], part: str) -> None:
        is_bad(records.read_certificate(self.certificate(**changes), SERVER), part)
        is_bad(records.read_certificate(None, SERVER), "no object")
