"""Contacts, which exist whenever any feature is on. Clients find them mirrored in private account data.

The table is the truth: what a client writes into that account data is overwritten with the next change and never read.
"""

import logging
from collections.abc import Sequence
from functools import partial
from typing import Annotated, Any, Final

from pydantic import BaseModel, Field

from super_app.accounts import store, vcard
from super_app.accounts.model import MAX_CONTACTS, MAX_NOTE, Contact, MovedRelations
from super_app.db import Cursor
from super_app.errors import Reason, Refused
from super_app.ids import Acct, Handle, UserId
from super_app.names import AccountDataType
from super_app.wire import Text, WireModel
from synapse_super_app.directory.feature import DirectoryFeature
from synapse_super_app.follow_words import FollowWords
from synapse_super_app.http.routes import Call, Route, Sessions
from synapse_super_app.people import People, Person, UserIdsOnly
from synapse_super_app.relation_routes import RelationRoutes, full_name
from synapse_super_app.relations import Invites, Relations
from synapse_super_app.runtime import Runtime

logger = logging.getLogger(__name__)

_MAX_AGE_MS: Final = 300_000
_IMPORT_MAX: Final = 500
_IMPORT_AGE_MS: Final = 30 * 86_400_000
"""What is replicated is good enough for an address book, so that most of an import asks nobody."""
_IMPORT_TIMEOUT_MS: Final = 1_000


class ContactShown(BaseModel):
    """Somebody in your address book. ``acct`` is empty while their homeserver runs no directory."""

    handle: str
    """Their handle when you added them; their user id if they had none."""
    user_id: str
    acct: str
    since: int
    """Milliseconds since 1970."""
    favourite: bool | None = None
    note: str | None = None
    """What you wrote down about them; nobody else sees it."""


class ContactList(BaseModel):
    contacts: list[ContactShown]


class ContactDetails(WireModel):
    """What you keep about a contact. What is left out stays as it is."""

    favourite: bool | None = None
    note: Annotated[Text | None, Field(max_length=MAX_NOTE)] = None


class AddressBook(WireModel):
    vcard: Annotated[str, Field(max_length=10_000_000)]
    """The text of a vCard file. Only Matrix addresses are read out of it, and nothing else is kept or sent anywhere."""


class Imported(BaseModel):
    """What became of an address book."""

    cards: int
    added: list[ContactShown]
    known: int
    """Addresses that were contacts before."""
    not_found: int
    """Addresses that lead to nobody whom you may see."""
    later: int
    """Addresses that were not asked for this time, or whose homeserver did not answer; import the file again later."""


class ContactsFeature:
    name = "contacts"
    packages = ("super_app.accounts",)

    def __init__(self, runtime: Runtime, directory: DirectoryFeature | None) -> None:
        self._runtime = runtime
        self._people: People = UserIdsOnly(runtime.api, runtime.accounts) if directory is None else directory.people
        self.relations = Relations(runtime.api, runtime.private, runtime.accounts, runtime.database)
        self._words = FollowWords(runtime, self.relations)
        self._words.register()
        self._relation_routes = RelationRoutes(runtime, self._people, self.relations, self._words)
        Invites(runtime.api, self.relations).register()
        if directory is not None:
            directory.moves.when_moved(self._moved)

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
            Route(
                method="POST",
                path="contacts/import",
                handler=self.import_cards,
                response=Imported,
                body=AddressBook,
                summary="Add the people of a vCard file who have a Matrix address on their card",
                reasons=(Reason.INVALID_VALUE,),
            ),
            Route(
                method="POST",
                path="contacts/{handle}",
                handler=self.describe,
                response=ContactShown,
                body=ContactDetails,
                summary="Change what you keep about a contact: favourite, note",
                reasons=(Reason.UNKNOWN_CONTACT,),
            ),
            *self._relation_routes.routes(),
        )

    async def start(self) -> None:
        self._words.start()

    async def list(self, call: Call) -> ContactList:
        return ContactList(contacts=[_shown(each) for each in await self._contacts(call.user_id)])

    async def put(self, call: Call) -> ContactShown | Refused:
        person = await self._people.resolve(self._full(call.path["handle"]), asker=call.user_id, max_age_ms=_MAX_AGE_MS)
        if isinstance(person, Refused):
            return person
        if person.user_id == call.user_id:
            return Refused(reason=Reason.INVALID_VALUE, message="That is you; add somebody else to your contacts.")
        stored = await self._add(call.user_id, person)
        if isinstance(stored, Refused):
            return stored
        await self._mirror(call.user_id)
        return _shown(stored)

    async def describe(self, call: Call) -> ContactShown | Refused:
        body: ContactDetails = call.body
        typed = self._full(call.path["handle"])
        owner = await self._runtime.accounts.acct_of(call.user_id)

        def work(cur: Cursor) -> Contact | None:
            contact = store.contact_called(cur, owner, typed)
            if contact is None:
                return None
            favourite = contact.favourite if body.favourite is None else body.favourite
            note = contact.note if body.note is None else body.note
            store.describe_contact(cur, owner, contact.user_id, favourite=favourite, note=note)
            return store.contact_of(cur, owner, contact.user_id)

        changed = await self._runtime.database.run("contact_describe", work)
        if changed is None:
            return _no_contact(typed, "nothing was changed")
        await self._mirror(call.user_id)
        return _shown(changed)

    async def import_cards(self, call: Call) -> Imported | Refused:
        """Only addresses leave the file, and those of other homeservers only to the homeserver that they name."""
        body: AddressBook = call.body
        book = vcard.read(body.vcard)
        if book.cards == 0:
            return Refused(
                reason=Reason.INVALID_VALUE,
                message="vcard: there is no card in this file; export your address book as vCard (.vcf).",
            )
        known = {contact.user_id for contact in await self._contacts(call.user_id)}
        handles: set[str] = {contact.handle for contact in await self._contacts(call.user_id)}
        added: list[ContactShown] = []
        count = {"known": 0, "not_found": 0, "later": max(0, len(book.found) - _IMPORT_MAX)}
        silent: set[str] = set()
        for address in book.found[:_IMPORT_MAX]:
            if address in known or address in handles or address == call.user_id:
                count["known"] += 1
                continue
            server = address.partition(":")[2]
            if server in silent:
                count["later"] += 1
                continue
            person = await self._people.resolve(
                address, asker=call.user_id, max_age_ms=_IMPORT_AGE_MS, timeout_ms=_IMPORT_TIMEOUT_MS
            )
            if isinstance(person, Refused) and person.reason in (Reason.PEER_UNREACHABLE, Reason.TOO_MANY_REQUESTS):
                silent.add(server)
                count["later"] += 1
                continue
            if isinstance(person, Refused):
                count["not_found"] += 1
                continue
            if person.user_id in known or person.user_id == call.user_id:
                count["known"] += 1
                continue
            stored = await self._add(call.user_id, person)
            if isinstance(stored, Refused):
                count["later"] += 1
                continue
            known.add(stored.user_id)
            added.append(_shown(stored))
        if added:
            await self._mirror(call.user_id)
        return Imported(cards=book.cards, added=added, **count)

    async def _add(self, user_id: UserId, person: Person) -> Contact | Refused:
        owner = await self._runtime.accounts.acct_of(user_id)
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

        return await self._runtime.database.run("contact_put", work)

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
            return _no_contact(typed, "nothing was removed")
        await self._mirror(call.user_id)
        return _shown(removed)

    async def _moved(self, user_id: UserId, went: MovedRelations) -> None:
        """Somebody moved to ``user_id``: what clients see of our people's relations to them goes along."""
        for owner in went.contacts:
            await self._mirror(owner)
        for owner in went.blocks:
            try:
                await self.relations.ignore(owner, user_id)
            except Exception:
                # Our own table has the block, and either is enough.
                logger.exception("The ignore list of %s could not follow %s", owner, user_id)

    def _full(self, text: str) -> str:
        return full_name(text, self._runtime.server_name)

    async def _contacts(self, user_id: UserId) -> tuple[Contact, ...]:
        owner = await self._runtime.accounts.acct_of(user_id)
        return await self._runtime.database.run("contacts", partial(store.contacts, owner=owner))

    async def _mirror(self, user_id: UserId) -> None:
        """Copy the contacts into account data. What changed while it was written is written again."""
        written: tuple[Contact, ...] | None = None
        try:
            while (current := await self._contacts(user_id)) != written:
                content: dict[str, Any] = {"contacts": [_shown(each).model_dump(exclude_none=True) for each in current]}
                mirror = self._runtime.api.account_data_manager
                await mirror.put_global(user_id, AccountDataType.CONTACTS.value, content)
                written = current
        except Exception:
            # The contact is stored; clients see it with the next change.
            logger.exception("Mirroring the contacts of %s into account data failed", user_id)


def _shown(contact: Contact) -> ContactShown:
    return ContactShown(
        handle=contact.handle,
        user_id=contact.user_id,
        acct=contact.acct,
        since=contact.since_ms,
        favourite=contact.favourite or None,
        note=contact.note or None,
    )


def _no_contact(typed: str, so: str) -> Refused:
    return Refused(reason=Reason.UNKNOWN_CONTACT, message=f"{typed[:255]!a} is not among your contacts; {so}.")
