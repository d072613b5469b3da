"""Calls by the minute over a database without a homeserver: the books of pots, and calls as their records say."""

from payment_books import HERE, SALTS, payment_id
from pot_books import POT_PACKAGES, PotBooks

from super_app.accounts import store as accounts
from super_app.calls import store as calls
from super_app.calls.model import CallId, Direction, Media, Protocol, Record, Session, SessionId, State
from super_app.conferences.model import Stay
from super_app.db import Cursor, Transaction
from super_app.errors import Refused
from super_app.fares import rules
from super_app.fares.model import Fare, FareId, FareKey, FareState, Stepped, Terms, TermsState
from super_app.fares.service import Fares
from super_app.ids import Acct, RoomId, UserId, server_of
from super_app.money import AssetCode, Money
from super_app.safeguards.model import Settings

FARE_PACKAGES = (*POT_PACKAGES, "super_app.calls", "super_app.fares")
EUR = AssetCode("EUR")


class FareBooks(PotBooks):
    def __init__(self, transaction: Transaction, settings: Settings | None = None) -> None:
        super().__init__(transaction, settings)
        self.fares = Fares(
            server_name=HERE,
            payments=self.payments,
            guards=self.safeguards,
            is_halted=self.homeserver.payments_are_halted,
        )
        self.payments.pay_out_of(self.fares)
        self.safeguards.count_aside(self.fares.aside_minor)
        self.pots.lies_beside(self.fares.beside)

    def agree(
        self,
        number: int,
        caller: str,
        callee: str,
        price: int,
        minutes: int = 30,
        *,
        proven: bool = False,
        link_id: str | None = None,
    ) -> Fare | Refused:
        money = Money(amount_minor=price, currency=EUR)
        most = rules.ceiling_minor(money, minutes)
        assert isinstance(most, int), most
        callee_id = self.user(callee)
        fare = Fare(
            owner=Acct(self.account(self.user(caller))),
            fare_id=self.fare_id(number),
            caller=self.user(caller),
            callee=callee_id,
            callee_acct=self.account(callee_id),
            price=money,
            ceiling_minor=most,
            aside_minor=rules.first_minor(money, most),
            paid_minor=0,
            state=FareState.AGREED,
            session_id=None,
            answer_ms=None,
            end_ms=None,
            talked_ms=None,
            parts=0,
            moves=0,
            failures=0,
            retry_ms=None,
            warned=False,
            reason=None,
            agreed_ms=self.now_ms,
            link_id=link_id,
        )
        return self.transaction(lambda cur: self.fares.agree(cur, fare, self.now_ms, proven=proven))

    @staticmethod
    def fare_id(number: int) -> FareId:
        # The last digits are the parts'.
        return FareId(f"{number:024x}{0:08x}")

    def key(self, number: int, caller: str) -> FareKey:
        return FareKey(owner=Acct(self.account(self.user(caller))), fare_id=self.fare_id(number))

    def step(
        self,
        number: int,
        caller: str,
        *,
        stay: Stay | None = None,
        theirs_ms: int | None = None,
        told: bool = False,
    ) -> Stepped | None:
        key = self.key(number, caller)
        return self.transaction(
            lambda cur: self.fares.step(cur, key, SALTS, self.now_ms, stay=stay, theirs_ms=theirs_ms, told=told)
        )

    def fare(self, number: int, caller: str) -> Fare:
        found = self.transaction(lambda cur: self.fares.find(cur, self.key(number, caller)))
        assert not isinstance(found, Refused), found
        return found[0]

    def terms(self, number: int, caller: str, callee: str, price: int, link_id: str | None = None) -> Terms:
        terms = Terms(
            callee_acct=Acct(self.account(self.user(callee))),
            callee=self.user(callee),
            caller=self.user(caller),
            fare_id=self.fare_id(number),
            price=Money(amount_minor=price, currency=EUR),
            state=TermsState.OPEN,
            session_id=None,
            agreed_ms=self.now_ms,
            link_id=link_id,
        )
        return self.transaction(lambda cur: self.accepted(cur, terms))

    def accepted(self, cur: Cursor, terms: Terms) -> Terms:
        accepted = self.fares.accept(cur, terms)
        assert not isinstance(accepted, Refused), accepted
        return accepted

    # What calls write.

    def ring(self, caller: str, callee: str, number: int = 1) -> SessionId:
        """A ring as the gate and the follower of this homeserver write it down, for whoever of the two is here."""
        session_id = SessionId(f"session {number}")
        caller_id, callee_id = self.user(caller), self.user(callee)

        def work(cur: Cursor) -> None:
            calls.add_session(
                cur,
                Session(
                    session_id=session_id,
                    room_id=RoomId("!direct:hs1.test"),
                    call_id=CallId(f"call-{number}"),
                    caller=caller_id,
                    callee=callee_id,
                    protocol=Protocol.SUPERAPP,
                    media=Media.AUDIO,
                    ring_ms=self.now_ms,
                    ring_until_ms=self.now_ms + 60_000,
                    due_ms=None,
                    rtc_event_id=None,
                    superapp_event_id=None,
                ),
            )
            for owner, peer, direction in (
                (caller_id, callee_id, Direction.OUTGOING),
                (callee_id, caller_id, Direction.INCOMING),
            ):
                if server_of(owner) == HERE:
                    account = accounts.by_user_id(cur, owner)
                    assert account is not None
                    calls.put_record(
                        cur,
                        Record(
                            session_id=session_id,
                            owner=account.acct,
                            user_id=owner,
                            direction=direction,
                            peer=peer,
                            peer_server=server_of(peer),
                            state=State.RINGING,
                            ring_ms=self.now_ms,
                        ),
                    )

        self.transaction(work)
        return session_id

    def move_call(self, session_id: SessionId, state: State) -> None:
        """All records of a call go on to a state, now."""

        def work(cur: Cursor) -> None:
            for record in calls.records(cur, session_id):
                answer_ms = self.now_ms if state is State.ANSWERED else record.answer_ms
                if state in (State.MISSED, State.DECLINED):
                    answer_ms = None
                calls.put_record(
                    cur,
                    Record(
                        session_id=record.session_id,
                        owner=record.owner,
                        user_id=record.user_id,
                        direction=record.direction,
                        peer=record.peer,
                        peer_server=record.peer_server,
                        state=state,
                        ring_ms=record.ring_ms,
                        answer_ms=answer_ms,
                        end_ms=None if state.is_open else self.now_ms,
                    ),
                )

        self.transaction(work)

    def pass_time(self, seconds: float) -> None:
        self.now_ms += int(seconds * 1_000)

    def violations(self) -> tuple[object, ...]:
        return (*super().violations(), *self.transaction(self.fares.violations))


__all__ = ["FARE_PACKAGES", "FareBooks", "UserId", "payment_id"]
