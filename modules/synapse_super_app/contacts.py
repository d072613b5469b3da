"""Contacts, which exist whenever any feature is on. Clients find them mirrored in private account data.

The table is the truth: what a client writes into that account data is overwritten with the next change and never read.
"""

import logging
from collections.abc import Sequence
from functools import partial
from typing import Any, Final

from pydantic import BaseModel

from super_app.accounts import store
from super_app.accounts.model import MAX_CONTACTS, Contact
from super_app.db import Cursor
from super_app.errors import Reason, Refused
from super_app.ids import Acct, Handle, UserId
from super_app.names import AccountDataType
from synapse_super_app.directory.feature import DirectoryFeature
from synapse_super_app.http.routes import Call, Route, Sessions
from synapse_super_app.people import People, UserIdsOnly
from synapse_super_app.runtime import Runtime

logger = logging.getLogger(__name__)

_MAX_AGE_MS: Final = 300_000


class ContactShown(BaseModel):
    """Somebody in your address book. ``acct`` is empty while their homeserver runs no directory."""

    handle: str
    """Their handle when you added them; their user id if they had none."""
    user_id: str
    acct: str
    since: int
    """Milliseconds since 1970."""


class ContactList(BaseModel):
    contacts: list[ContactShown]


class ContactsFeature:
    name = "contacts"
    packages = ("super_app.accounts",)

    def __init__(self, runtime: Runtime, directory: DirectoryFeature | None) -> None:
        self._runtime = runtime
        self._people: People = UserIdsOnly(runtime.api, runtime.accounts) if directory is None else directory.people

    def routes(self) -> Sequence[Route]:
        return (
            Route(
                method="GET",
                path="contacts",
                sessions=Sessions.READ,
                handler=self.list,
                response=ContactList,
                summary="Your contacts, oldest first",
            ),
            Route(
                method="PUT",
                path="contacts/{handle}",
                handler=self.put,
                response=ContactShown,
                summary="Add a contact by handle or user id; again, to refresh it",
                reasons=(
                    Reason.UNKNOWN_HANDLE,
                    Reason.AMBIGUOUS_PAYEE,
                    Reason.HANDLE_FROZEN,
                    Reason.PEER_UNREACHABLE,
                    Reason.BAD_RECORD,
                    Reason.INVALID_VALUE,
                    Reason.LIMIT_EXCEEDED,
                    Reason.TOO_MANY_REQUESTS,
                ),
            ),
            Route(
                method="DELETE",
                path="contacts/{handle}",
                handler=self.delete,
                response=ContactShown,
                summary="Remove a contact by handle or user id",
                reasons=(Reason.UNKNOWN_CONTACT,),
            ),
        )

    async def start(self) -> None:
        return None

    async def list(self, call: Call) -> ContactList:
        return ContactList(contacts=[_shown(each) for each in await self._contacts(call.user_id)])

    async def put(self, call: Call) -> ContactShown | Refused:
        person = await self._people.resolve(self._full(call.path["handle"]), asker=call.user_id, max_age_ms=_MAX_AGE_MS)
        if isinstance(person, Refused):
            return person
        if person.user_id == call.user_id:
            return Refused(reason=Reason.INVALID_VALUE, message="That is you; add somebody else to your contacts.")
        owner = await self._runtime.accounts.acct_of(call.user_id)
        contact = Contact(
            acct=person.acct or Acct(""),
            user_id=person.user_id,
            handle=person.handle or Handle(person.user_id),
            since_ms=self._runtime.now_ms(),
        )

        def work(cur: Cursor) -> Contact | Refused:
            if (
                store.contact_of(cur, owner, contact.user_id) is None
                and store.count_contacts(cur, owner) >= MAX_CONTACTS
            ):
                return Refused(
                    reason=Reason.LIMIT_EXCEEDED,
                    message=f"You have {MAX_CONTACTS} contacts, which is the limit; remove one first.",
                )
            return store.put_contact(cur, owner, contact)

        stored = await self._runtime.database.run("contact_put", work)
        if isinstance(stored, Refused):
            return stored
        await self._mirror(call.user_id)
        return _shown(stored)

    async def delete(self, call: Call) -> ContactShown | Refused:
        typed = self._full(call.path["handle"])
        owner = await self._runtime.accounts.acct_of(call.user_id)

        def work(cur: Cursor) -> Contact | None:
            contact = store.contact_called(cur, owner, typed)
            if contact is not None:
                store.delete_contact(cur, owner, contact.user_id)
            return contact

        removed = await self._runtime.database.run("contact_delete", work)
        if removed is None:
            return Refused(
                reason=Reason.UNKNOWN_CONTACT,
                message=f"{typed[:255]!a} is not among your contacts; nothing was removed.",
            )
        await self._mirror(call.user_id)
        return _shown(removed)

    def _full(self, text: str) -> str:
        """``bob`` and ``@bob`` mean somebody of this homeserver."""
        name = text.removeprefix("@")
        return f"@{name}" if ":" in name else f"@{name}:{self._runtime.server_name}"

    async def _contacts(self, user_id: UserId) -> tuple[Contact, ...]:
        owner = await self._runtime.accounts.acct_of(user_id)
        return await self._runtime.database.run("contacts", partial(store.contacts, owner=owner))

    async def _mirror(self, user_id: UserId) -> None:
        """Copy the contacts into account data. What changed while it was written is written again."""
        written: tuple[Contact, ...] | None = None
        try:
            while (current := await self._contacts(user_id)) != written:
                content: dict[str, Any] = {"contacts": [_shown(each).model_dump() for each in current]}
                mirror = self._runtime.api.account_data_manager
                await mirror.put_global(user_id, AccountDataType.CONTACTS.value, content)
                written = current
        except Exception:
            # The contact is stored; clients see it with the next change.
            logger.exception("Mirroring the contacts of %s into account data failed", user_id)


def _shown(contact: Contact) -> ContactShown:
    return ContactShown(handle=contact.handle, user_id=contact.user_id, acct=contact.acct, since=contact.since_ms)
