"""The directory's service as the shell calls it, and records of another server: what tests of the directory share."""

import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any

from super_app.accounts.model import Genesis
from super_app.db import Cursor, Transaction
from super_app.directory import search, service, store
from super_app.directory.model import (
    DAY_MS,
    Discover,
    Facts,
    Name,
    NewAccount,
    Record,
    Role,
    Status,
)
from super_app.directory.naming import NamePolicy
from super_app.directory.ports import NoTakings
from super_app.directory.search_model import Hit, Question, Term
from super_app.directory.service import Issuer, Wish
from super_app.errors import Reason, Refused
from super_app.ids import Acct, Handle, ServerName, UserId
from super_app.signing import canonical, generate_key, public_b64, verify

HERE, THERE = ServerName("hs1.test"), ServerName("hs2.test")
KEY = generate_key(b"\x07" * 32)
ISSUER = Issuer(server=HERE, key=KEY, salt_seed=bytes(32))
FACTS = Facts(msk=None, services={"chat": True, "call": True, "pay": True})
POLICY = NamePolicy(min_length=5)
NOW_MS = 1_700_000_000_000


def new_account(localpart: str, discover: Discover = Discover.EXACT, created_ms: int = NOW_MS) -> NewAccount:
    genesis = Genesis(server=HERE, localpart=localpart, created_ms=created_ms, nonce="00" * 16)
    return NewAccount(
        user_id=UserId(f"@{localpart}:{HERE}"),
        acct=genesis.acct(),
        genesis=canonical(genesis.content()).decode(),
        name=Name(localpart),
        discover=discover,
        created_ms=created_ms,
    )


@dataclass
class Directory:
    """The service as the shell calls it, on one connection and at a time that the test moves."""

    run: Transaction
    now_ms: int = NOW_MS
    facts: Facts = field(default_factory=lambda: FACTS)

    def register(self, localpart: str, discover: Discover = Discover.EXACT) -> Acct:
        account = new_account(localpart, discover, self.now_ms)
        self.run(lambda cur: store.install(cur, self.now_ms))
        self.run(lambda cur: service.adopt(cur, [account], self.now_ms))
        return account.acct

    def put(
        self, acct: Acct, name: str, *, role: Role | None = None, discover: Discover | None = None
    ) -> Mapping[str, Any] | Refused:
        wish = Wish(role=role, discover=discover)
        return self.run(
            lambda cur: service.put(
                cur,
                ISSUER,
                acct,
                name,
                wish,
                facts=self.facts,
                policy=POLICY,
                localpart_of=None,
                default_discover=Discover.EXACT,
                now_ms=self.now_ms,
            )
        )

    def claim(self, acct: Acct, name: str, **wishes: Any) -> Mapping[str, Any]:
        answer = self.put(acct, name, **wishes)
        assert not isinstance(answer, Refused), answer
        assert verify(answer, public_b64(KEY))
        return answer

    def refusal(self, acct: Acct, name: str, **wishes: Any) -> Reason:
        answer = self.put(acct, name, **wishes)
        assert isinstance(answer, Refused), answer
        return answer.reason

    def release(self, acct: Acct, name: str) -> Mapping[str, Any] | Refused:
        return self.run(
            lambda cur: service.release(
                cur, ISSUER, acct, name, facts=self.facts, takings=NoTakings(), now_ms=self.now_ms
            )
        )

    def record_of(self, acct: Acct, name: str) -> Mapping[str, Any] | None:
        return self.run(
            lambda cur: service.current_record(cur, ISSUER, acct, Name(name), facts=self.facts, now_ms=self.now_ms)
        )

    def feed(self, since: int = 0, limit: int = 500) -> tuple[list[dict[str, Any]], int, int]:
        page = self.run(lambda cur: service.feed(cur, since, limit))
        return [json.loads(entry) for entry in page.entries], page.next_position, page.head

    def hits(
        self,
        asker: str,
        name: str,
        server: str | None = None,
        *,
        limit: int = 10,
        hidden: Collection[str] = (),
        mutual: Collection[str] = (),
        parts: bool = False,
    ) -> tuple[Hit, ...]:
        """What ``asker``, a localpart, finds; ``mutual`` are in a private room with them."""

        def mutual_of(_cur: Cursor, others: Collection[UserId], /) -> Collection[UserId]:
            return [other for other in others if other in mutual]

        asked = self.question(asker, name, server, limit=limit, hidden=hidden, parts=parts)
        return self.run(lambda cur: search.find(cur, asked, mutual_of, lambda _cur, hit: hit.badges))

    def question(
        self,
        asker: str,
        name: str,
        server: str | None = None,
        *,
        limit: int = 10,
        hidden: Collection[str] = (),
        whole: bool = True,
        parts: bool = False,
    ) -> Question:
        return Question(
            asker=UserId(f"@{asker}:{HERE}"),
            term=Term(name=Name(name), server=server),
            own_server=HERE,
            hidden=hidden,
            now_ms=self.now_ms,
            limit=limit,
            whole=whole,
            parts=parts,
        )


def foreign(name: str, *, server: ServerName = THERE, seq: int = 1, issued_ms: int = NOW_MS, **changes: Any) -> Record:
    """A verified record of another server."""
    user_id = changes.pop("user_id", f"@{name}:{server}")
    content: dict[str, Any] = {
        "handle": f"@{name}:{server}",
        "server": server,
        "acct": (name + "A" * 43)[:43],
        "user_id": user_id,
        "seq": seq,
        "status": "active",
        "discover": "public",
        "issued": issued_ms,
        "expires": issued_ms + 30 * DAY_MS,
        "badges": [],
        "services": {},
        **changes,
    }
    return Record(
        handle=Handle(content["handle"]),
        server=server,
        acct=Acct(content["acct"]),
        user_id=UserId(user_id),
        seq=seq,
        status=Status(content["status"]),
        frozen_for=None,
        discover=Discover(content["discover"]),
        alias_of=content.get("alias_of"),
        issued_ms=issued_ms,
        expires_ms=content["expires"],
        badges=tuple(content["badges"]),
        content=content,
        text=canonical(content).decode(),
    )
