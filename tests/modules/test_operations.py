"""Halting, four eyes, the audit log and limits of requests, on every route that there is."""

from typing import Any

import pytest
from fake_api import FakeHomeserver
from synapse.module_api.errors import SynapseError

from super_app.ids import UserId
from synapse_super_app.http.guards import kind_of
from synapse_super_app.http.resource import ApiResource
from synapse_super_app.http.routes import Auth, Call, Route

EVERYTHING = {"features": {"assistant": True, "cards": True}}


def homeserver(**config: Any) -> FakeHomeserver:
    made = FakeHomeserver(config=config)
    made.start()
    for name in ("operator", "second"):
        made.register(name, admin=True)
    for name in ("alice", "bob"):
        made.register(name)
    return made


ALICE, BOB = UserId("@alice:hs1.test"), UserId("@bob:hs1.test")
OPERATOR, SECOND = UserId("@operator:hs1.test"), UserId("@second:hs1.test")
ISSUE = {"user_id": ALICE, "amount": 100, "currency": "PTS", "reference": "a start"}


def refused(hs: FakeHomeserver, method: str, path: str, by: UserId, body: Any = None) -> str:
    with pytest.raises(SynapseError) as refusal:
        hs.call(method, path, by, body)
    return refusal.value.errcode.removeprefix("ORG.SUPERAPP.")


def order(number: int) -> dict[str, Any]:
    return {"payment_id": f"{number:032x}", "payee": BOB, "amount": 1, "currency": "PTS"}


def routes(hs: FakeHomeserver) -> list[Route]:
    resource = next(each for each in hs.api.web_resources.values() if isinstance(each, ApiResource))
    return [route for _, route in resource._routes]


class TestHalting:
    def test_nothing_new_starts_until_an_admin_ends_it_and_a_restart_forgets_nothing(self) -> None:
        hs = homeserver()
        hs.call("POST", "admin/issue", OPERATOR, ISSUE)
        assert hs.call("POST", "payments", ALICE, order(1))["state"] == "completed"
        assert hs.call("GET", "admin/payments/halt", OPERATOR) == {"halted": False, "file": False}
        halted = hs.call("PUT", "admin/payments/halt", OPERATOR, {"reason": "the books"})
        assert (halted["halted"], halted["operator"], halted["reason"]) == (True, OPERATOR, "the books")
        assert refused(hs, "POST", "payments", ALICE, order(2)) == "PAYMENTS_HALTED"
        hs.restart()
        assert refused(hs, "POST", "payments", ALICE, order(2)) == "PAYMENTS_HALTED"
        hs.call("DELETE", "admin/payments/halt", SECOND)
        assert hs.call("POST", "payments", ALICE, order(2))["state"] == "completed"

    def test_the_halt_file_halts_beside_it(self, tmp_path: Any) -> None:
        file = tmp_path / "halted"
        hs = homeserver(payments={"halt_file": str(file)})
        hs.call("POST", "admin/issue", OPERATOR, ISSUE)
        file.touch()
        assert hs.call("DELETE", "admin/payments/halt", OPERATOR) == {"halted": True, "file": True}
        assert refused(hs, "POST", "payments", ALICE, order(1)) == "PAYMENTS_HALTED"


class TestFourEyes:
    BODY = {**ISSUE, "proposal_id": "p1", "kind": "issue"}

    def test_one_admin_alone_brings_no_money_into_the_world(self) -> None:
        hs = homeserver(payments={"four_eyes": True})
        for path in ("admin/issue", "admin/burn", "admin/fees/pay"):
            assert refused(hs, "POST", path, OPERATOR, ISSUE) == "FOUR_EYES"
        hs.call("POST", "admin/proposals", OPERATOR, self.BODY)
        assert refused(hs, "POST", "admin/proposals/p1/approve", OPERATOR) == "FOUR_EYES"
        assert hs.call("GET", "wallet", ALICE)["accounts"][0]["available"] == 0
        for _ in range(2):
            assert hs.call("POST", "admin/proposals/p1/approve", SECOND)["state"] == "approved"
        assert hs.call("GET", "wallet", ALICE)["accounts"][0]["available"] == 100
        burn = {**self.BODY, "proposal_id": "p2", "kind": "burn", "amount": 40}
        hs.call("POST", "admin/proposals", SECOND, burn)
        hs.call("POST", "admin/proposals/p2/approve", OPERATOR)
        assert hs.call("GET", "wallet", ALICE)["accounts"][0]["available"] == 60
        assert [each["state"] for each in hs.call("GET", "admin/proposals", OPERATOR)["proposals"]] == ["approved"] * 2

    def test_what_cannot_be_done_when_it_is_approved_can_be_approved_again(self) -> None:
        hs = homeserver(payments={"four_eyes": True})
        hs.call("POST", "admin/proposals", OPERATOR, {**self.BODY, "kind": "burn"})
        assert refused(hs, "POST", "admin/proposals/p1/approve", SECOND) == "INSUFFICIENT_FUNDS"
        hs.call("POST", "admin/proposals", OPERATOR, {**self.BODY, "proposal_id": "p2"})
        hs.call("POST", "admin/proposals/p2/approve", SECOND)
        assert hs.call("POST", "admin/proposals/p1/approve", SECOND)["state"] == "approved"
        assert hs.call("GET", "wallet", ALICE)["accounts"][0]["available"] == 0

    def test_fees_are_paid_out_by_the_consent_of_two(self) -> None:
        fee = {"currency": "PTS", "reach": "here", "fixed": 3}
        hs = homeserver(payments={"four_eyes": True, "fees": [fee]})
        hs.call("POST", "admin/proposals", OPERATOR, self.BODY)
        hs.call("POST", "admin/proposals/p1/approve", SECOND)
        hs.call("POST", "payments", ALICE, {**order(1), "fee": 3})
        assert hs.call("GET", "admin/fees", OPERATOR)["fees"] == [{"currency": "PTS", "scale": 0, "amount": 3}]
        before = hs.call("GET", "wallet", ALICE)["accounts"][0]["available"]
        hs.call(
            "POST", "admin/proposals", OPERATOR, {**self.BODY, "proposal_id": "p2", "kind": "pay_fees", "amount": 3}
        )
        hs.call("POST", "admin/proposals/p2/approve", SECOND)
        assert hs.call("GET", "wallet", ALICE)["accounts"][0]["available"] == before + 3
        assert hs.call("GET", "admin/fees", OPERATOR)["fees"] == [{"currency": "PTS", "scale": 0, "amount": 0}]
        newest = hs.call("GET", "admin/acts", OPERATOR)["acts"][0]
        assert newest["deed"] == "pay_fees"

    def test_a_rejected_one_stays_so_and_one_that_nobody_made_is_unknown(self) -> None:
        hs = homeserver(payments={"four_eyes": True})
        hs.call("POST", "admin/proposals", OPERATOR, self.BODY)
        hs.call("POST", "admin/proposals/p1/reject", OPERATOR)
        assert refused(hs, "POST", "admin/proposals/p1/approve", SECOND) == "ALREADY_DECIDED"
        assert refused(hs, "POST", "admin/proposals/none/approve", SECOND) == "UNKNOWN_PROPOSAL"

    def test_without_four_eyes_one_admin_issues_as_before(self) -> None:
        assert homeserver().call("POST", "admin/issue", OPERATOR, ISSUE)["amount"] == 100


class TestAuditLog:
    def test_what_an_admin_asks_for_has_a_line_before_and_one_after(self) -> None:
        hs = homeserver()
        hs.call("POST", "admin/issue", OPERATOR, ISSUE)
        refused(hs, "POST", "admin/issue", SECOND, {**ISSUE, "user_id": "@nobody:hs1.test", "reference": "none"})
        lines = hs.call("GET", "admin/audit", OPERATOR)["lines"]
        assert [(line["seq"], line["operator"], line["outcome"], line.get("asked_seq")) for line in lines] == [
            (4, SECOND, "refused: unknown_payee", 3),
            (3, SECOND, "asked", None),
            (2, OPERATOR, "done", 1),
            (1, OPERATOR, "asked", None),
        ]
        assert '"amount":100' in lines[-1]["what"]
        assert hs.call("GET", "admin/audit/verify", OPERATOR)["ok"]

    def test_a_line_that_was_changed_is_found(self) -> None:
        hs = homeserver()
        hs.call("POST", "admin/issue", OPERATOR, ISSUE)
        hs.query("UPDATE superapp_audit SET operator = '@second:hs1.test' WHERE seq = 1")
        found = hs.call("GET", "admin/audit/verify", OPERATOR)
        assert (found["ok"], found["broken_at"]) == (False, 1)

    def test_every_route_of_operators_that_changes_something_is_written_down(self) -> None:
        """Whatever it answers, and though most of these requests are refused: the line is there before."""
        hs = homeserver(**EVERYTHING)
        acts = [route for route in routes(hs) if route.auth is Auth.ADMIN and route.method != "GET"]
        assert len(acts) > 20
        for route in acts:
            before = hs.query("SELECT count(*) FROM superapp_audit WHERE outcome = 'asked'")
            path = route.path.replace("{", "").replace("}", "")
            body = _some_body(route)
            try:
                hs.call(route.method, path, OPERATOR, body)
            except SynapseError as error:
                if error.errcode in ("ORG.SUPERAPP.INVALID_VALUE", "ORG.SUPERAPP.UNKNOWN_FIELD"):
                    continue  # it was no request yet
            after = hs.query("SELECT count(*) FROM superapp_audit WHERE outcome = 'asked'")
            assert after[0][0] == before[0][0] + 1, route.path


def _some_body(route: Route) -> Any:
    if route.body is None:
        return None
    values = {"string": "EUR", "integer": 1, "array": [], "boolean": True, "object": {}}
    schema = route.body.model_json_schema()
    return {
        name: values.get(schema["properties"][name].get("type", "string"), "EUR") for name in schema.get("required", [])
    }


class TestLimits:
    FEW = {"reads": 2, "writes": 2, "public": 2, "admin": 2}

    def test_every_route_refuses_who_asks_too_often(self) -> None:
        """The whole table: nobody's third request in a moment comes through, whatever it is."""
        hs = homeserver(requests=self.FEW, **EVERYTHING)
        for number, route in enumerate(routes(hs)):
            caller = UserId("" if route.auth is Auth.PUBLIC else f"@person{number}:hs1.test")
            if route.auth is Auth.ADMIN:
                hs.admins.add(caller)
            hs.clock.advance(120)
            codes = [_code_of(hs, route, caller) for _ in range(3)]
            assert codes[-1] == "TOO_MANY_REQUESTS", f"{route.method} {route.path} has no limit: {codes}"
            assert "TOO_MANY_REQUESTS" not in codes[:2] or route.auth is Auth.PUBLIC, (route.path, codes)

    def test_it_says_when_to_come_back_and_then_it_answers(self) -> None:
        hs = homeserver(requests=self.FEW)
        for _ in range(2):
            hs.call("GET", "wallet", ALICE)
        with pytest.raises(SynapseError) as refusal:
            hs.call("GET", "wallet", ALICE)
        wait_ms = refusal.value.error_dict(None)["retry_after_ms"]
        assert refusal.value.code == 429
        assert 0 < wait_ms <= 30_000
        assert hs.call("GET", "wallet", BOB), "others are not concerned"
        hs.clock.advance(wait_ms / 1000)
        assert hs.call("GET", "wallet", ALICE)

    def test_reading_writing_the_public_and_operators_are_counted_apart(self) -> None:
        kinds = {kind_of(route) for route in routes(homeserver(**EVERYTHING))}
        assert kinds == {"reads", "writes", "public", "admin"}


def _code_of(hs: FakeHomeserver, route: Route, caller: UserId) -> str:
    path = route.path.replace("{", "").replace("}", "")
    resource = next(each for each in hs.api.web_resources.values() if isinstance(each, ApiResource))
    found, _ = resource.match(route.method, path)
    call = Call(user_id=caller, path=dict.fromkeys(_names(route), "x"), query=None, body=None, address="192.0.2.1")
    try:
        answer = hs.result(found.handler(call))
    except SynapseError as error:
        return str(error.errcode)
    except Exception as error:
        return type(error).__name__
    reason = getattr(answer, "reason", None)
    return "" if reason is None else str(getattr(reason, "name", reason))


def _names(route: Route) -> list[str]:
    return [part[1:-1] for part in route.path.split("/") if part.startswith("{")]


class TestMigrations:
    def test_nothing_waits_on_a_homeserver_of_one_process(self) -> None:
        hs = homeserver()
        assert hs.call("GET", "admin/overview", OPERATOR)["waiting_migrations"] == []
        assert hs.call("POST", "admin/migrate", OPERATOR) == {"waiting": []}


class TestExport:
    def test_a_person_gets_all_that_the_homeserver_tells_them_page_by_page(self) -> None:
        hs = homeserver(**EVERYTHING)
        hs.call("POST", "admin/issue", OPERATOR, {**ISSUE, "amount": 500})
        for number in range(120):
            hs.call("POST", "payments", ALICE, order(number))
        exported = hs.call("GET", "account/export", ALICE)
        assert exported["user_id"] == ALICE
        paid = [each["payment_id"] for page in exported["parts"]["payments"] for each in page["payments"]]
        assert sorted(paid) == sorted(order(number)["payment_id"] for number in range(120))
        assert exported["parts"]["wallet"][0]["accounts"][0]["available"] == 380
        assert not any("admin" in path for path in exported["parts"])

    def test_every_route_that_a_person_reads_by_is_in_it_or_named(self) -> None:
        hs = homeserver(**EVERYTHING)
        exported = hs.call("GET", "account/export", ALICE)
        own = {route.path for route in routes(hs) if route.method == "GET" and route.auth in (Auth.USER, Auth.FRESH)}
        assert own - {"account/export", *exported["parts"], *exported["left_out"]} == set()
