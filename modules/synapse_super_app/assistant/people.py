"""Whom somebody means, and how the assistant names them. Asks the client API, as the person would."""

from dataclasses import dataclass
from functools import partial
from typing import Any, Final

from super_app.assistant.speech import Person
from super_app.errors import Reason, Refused
from super_app.ids import UserId, localpart_of, parse_user_id
from synapse_super_app.http.inside import Inside, Json, NotOffered, part
from synapse_super_app.runtime import Runtime

_RESULTS: Final = 8
_LATEST: Final = "100"


@dataclass(frozen=True, slots=True, kw_only=True)
class Somebody:
    """A person who was found. ``address`` is what payments and contacts take: a full handle or a user id."""

    address: str
    user_id: str
    name: str | None = None
    badges: tuple[str, ...] = ()

    def said(self) -> Person:
        return Person(handle=self.address, name=self.name, badges=self.badges)

    def as_json(self) -> Json:
        return {"address": self.address, "user_id": self.user_id, "name": self.name, "badges": list(self.badges)}

    @classmethod
    def of(cls, found: Json) -> "Somebody":
        return cls(
            address=found["address"], user_id=found["user_id"], name=found.get("name"), badges=tuple(found["badges"])
        )


class Whom:
    """Looks people up for ``asker``."""

    def __init__(self, runtime: Runtime, inside: Inside) -> None:
        self._runtime = runtime
        self._inside = inside

    async def meant(self, asker: UserId, typed: str) -> list[Somebody] | Refused:
        """The people that ``typed`` may mean: one of a full handle or user id, several of a name. Empty if none."""
        name = typed.removeprefix("@")
        if ":" in name:
            return await self._full(asker, f"@{name}")
        try:
            results = await self.search(asker, name)
        except NotOffered:
            return await self._full(asker, f"@{name}:{self._runtime.server_name}")
        if isinstance(results, Refused):
            return results
        results = [each for each in results if each.user_id != asker]
        exact = [each for each in results if localpart_of(UserId(each.address)).casefold() == name.casefold()]
        return exact or results

    async def search(self, asker: UserId, term: str) -> list[Somebody] | Refused:
        """People whom a name finds, best first.

        Raises:
            NotOffered: the directory is off.
        """
        found = await self._inside.ask(asker, "POST", "search", {"term": term[:300], "limit": _RESULTS})
        if isinstance(found, Refused):
            return found
        return [
            Somebody(
                address=each["handle"],
                user_id=each["user_id"],
                name=_name(each["display_name"], each["handle"]),
                badges=_badges(each["badges"]),
            )
            for each in found["results"]
        ]

    async def is_known(self, asker: UserId, person: Somebody) -> bool:
        """Whether ``asker`` has paid them before, or has them among their contacts."""
        contacts = await self._inside.ask(asker, "GET", "contacts")
        if not isinstance(contacts, Refused) and any(
            each["user_id"] == person.user_id for each in contacts["contacts"]
        ):
            return True
        paid = await self._inside.ask(asker, "GET", "payments", query={"limit": _LATEST})
        return not isinstance(paid, Refused) and any(
            each["payee"] == person.user_id and each["state"] == "completed" and each["direction"] == "outgoing"
            for each in paid["payments"]
        )

    async def named(self, asker: UserId, user_id: str) -> Somebody:
        """Somebody of whom a user id is known, as far as they can be named."""
        found = await self._full(asker, user_id)
        return found[0] if isinstance(found, list) and found else Somebody(address=user_id, user_id=user_id)

    async def _full(self, asker: UserId, full: str) -> list[Somebody] | Refused:
        if parse_user_id(full) is None:
            return Refused(reason=Reason.HANDLE_INVALID, message=f"{full[:255]!a} is no handle.")
        try:
            record = await self._inside.ask(asker, "GET", f"handles/{part(full)}")
        except NotOffered:
            return [Somebody(address=full, user_id=full)]
        if isinstance(record, Refused):
            if record.reason in (Reason.UNKNOWN_HANDLE, Reason.HANDLE_INVALID):
                # Hidden people can be paid and rung by who shares a room with them; the payment says whether so.
                return [Somebody(address=full, user_id=full)]
            return record
        user_id = UserId(record["user_id"])
        seen = await self._runtime.database.run(
            "assistant_profile", partial(self._runtime.private.seen, asker=user_id, others=[user_id])
        )
        name = seen[user_id].profile.display_name if user_id in seen else None
        return [
            Somebody(
                address=record["handle"],
                user_id=user_id,
                name=_name(name, record["handle"]),
                badges=_badges(record["badges"]),
            )
        ]


def _name(name: str | None, handle: str) -> str | None:
    """A display name that says more than the handle does."""
    if name is None:
        return None
    bare = name.removesuffix(f" ({handle})").strip()
    return None if bare.casefold() in ("", handle.casefold(), localpart_of(UserId(handle)).casefold()) else bare


def _badges(badges: list[dict[str, Any]]) -> tuple[str, ...]:
    return tuple(str(badge.get("issuer", "")) for badge in badges if badge.get("issuer"))
