"""Following and blocking people, through the client API. Private to the person: nobody is told, unless they say so."""

from collections.abc import Collection, Sequence
from typing import Final

from pydantic import BaseModel

from super_app.accounts import follow_word_store, relation_store
from super_app.accounts.model import MAX_BLOCKS, MAX_FOLLOWS, Peer
from super_app.db import Cursor
from super_app.errors import Reason, Refused
from super_app.ids import Acct, Handle, ServerName, UserId, parse_user_id, server_of
from super_app.wire import WireModel
from synapse_super_app.follow_words import FollowWords
from synapse_super_app.http.routes import Call, Route
from synapse_super_app.people import People
from synapse_super_app.relations import Relations
from synapse_super_app.runtime import Runtime

_MAX_AGE_MS: Final = 300_000
_RESOLVING: Final = (
    Reason.UNKNOWN_HANDLE,
    Reason.AMBIGUOUS_PAYEE,
    Reason.HANDLE_FROZEN,
    Reason.PEER_UNREACHABLE,
    Reason.BAD_RECORD,
    Reason.TOO_MANY_REQUESTS,
)


class PersonShown(BaseModel):
    """Somebody whom you follow or block, or who follows you."""

    handle: str
    """Their handle when it began; their user id if they had none."""
    user_id: str
    acct: str
    since: int
    """Milliseconds since 1970."""
    mutual: bool
    """You follow each other. Known of people of this homeserver, and of those elsewhere who let you know."""


class FollowedShown(PersonShown):
    told: bool
    """Whether they may know that you follow them, if they are of another homeserver; those of yours see it."""


class FollowWish(WireModel):
    tell: bool | None = None
    """Let somebody of another homeserver know that you follow them, or no more; left out, that stays as it is."""


class FollowList(BaseModel):
    following: list[FollowedShown]
    followers: list[PersonShown]
    """The people of this homeserver who follow you, and those elsewhere who let you know."""


class BlockList(BaseModel):
    blocked: list[PersonShown]


class RelationRoutes:
    """Handlers."""

    def __init__(self, runtime: Runtime, people: People, relations: Relations, words: FollowWords) -> None:
        self._runtime = runtime
        self._words = words
        self._people = people
        self._relations = relations

    def routes(self) -> Sequence[Route]:
        return (
            Route(
                method="GET",
                path="follows",
                handler=self.follows,
                response=FollowList,
                summary="Whom you follow, and who follows you",
            ),
            Route(
                method="PUT",
                path="follows/{handle}",
                handler=self.follow,
                response=FollowedShown,
                body=FollowWish,
                summary="Follow somebody by handle or user id; with tell, they may know",
                reasons=(*_RESOLVING, Reason.INVALID_VALUE, Reason.LIMIT_EXCEEDED, Reason.NOT_ALLOWED),
            ),
            Route(
                method="DELETE",
                path="follows/{handle}",
                handler=self.unfollow,
                response=PersonShown,
                summary="Follow somebody no more",
                reasons=(Reason.UNKNOWN_CONTACT,),
            ),
            Route(
                method="GET",
                path="blocks",
                handler=self.blocks,
                response=BlockList,
                summary="Whom you block; the Matrix ignore list may hold others",
            ),
            Route(
                method="PUT",
                path="blocks/{handle}",
                handler=self.block,
                response=PersonShown,
                summary="Block somebody by handle or user id: messages, searches, calls, payments and invitations",
                reasons=(Reason.UNKNOWN_HANDLE, Reason.INVALID_VALUE, Reason.LIMIT_EXCEEDED),
            ),
            Route(
                method="DELETE",
                path="blocks/{handle}",
                handler=self.unblock,
                response=PersonShown,
                summary="Block somebody no more",
                reasons=(Reason.UNKNOWN_CONTACT,),
            ),
        )

    async def follows(self, call: Call) -> FollowList:
        owner = await self._runtime.accounts.acct_of(call.user_id)

        def work(cur: Cursor) -> tuple[Sequence[Peer], Sequence[Peer], Collection[UserId]]:
            following, followers = relation_store.following(cur, owner), relation_store.followers(cur, call.user_id)
            return following, followers, follow_word_store.told(cur, owner)

        following, followers, told = await self._runtime.database.run("follows", work)
        return FollowList(
            following=[_followed_shown(each, told) for each in following], followers=_all_shown(followers)
        )

    async def follow(self, call: Call) -> FollowedShown | Refused:
        wish: FollowWish = call.body
        peer = await self._peer(call)
        if isinstance(peer, Refused):
            return peer
        is_elsewhere = server_of(peer.user_id) != self._runtime.server_name
        if wish.tell and is_elsewhere and not peer.acct:
            return Refused(
                reason=Reason.INVALID_VALUE,
                message=f"{server_of(peer.user_id)} runs no directory, so nobody there can be told; leave tell out.",
            )
        owner = await self._runtime.accounts.acct_of(call.user_id)

        def work(cur: Cursor) -> tuple[Peer | None, Collection[UserId]] | Refused:
            if self._relations.blocks_in(cur, call.user_id, peer.user_id):
                return Refused(
                    reason=Reason.NOT_ALLOWED, message=f"You block {peer.handle}; unblock them before you follow them."
                )
            is_new = not relation_store.follows(cur, owner, peer.user_id)
            if is_new and relation_store.count_following(cur, owner) >= MAX_FOLLOWS:
                return _too_many("follow", MAX_FOLLOWS)
            relation_store.follow(cur, owner, peer)
            if wish.tell and is_elsewhere:
                follow_word_store.tell(cur, owner, peer.user_id, peer.acct, peer.since_ms)
            elif wish.tell is False:
                follow_word_store.take_back(cur, owner, peer.user_id, peer.since_ms)
            return relation_store.followed(cur, owner, peer.user_id), follow_word_store.told(cur, owner)

        done = await self._runtime.database.run("follow", work)
        if isinstance(done, Refused):
            return done
        if wish.tell is not None:
            self._words.soon()
        followed, told = done
        if followed is None:
            raise RuntimeError("a follow vanished inside its own transaction")
        return _followed_shown(followed, told)

    async def unfollow(self, call: Call) -> PersonShown | Refused:
        typed = full_name(call.path["handle"], self._runtime.server_name)
        owner = await self._runtime.accounts.acct_of(call.user_id)
        now_ms = self._runtime.now_ms()

        def work(cur: Cursor) -> Peer | None:
            peer = relation_store.followed(cur, owner, typed)
            if peer is not None:
                relation_store.unfollow(cur, owner, peer.user_id)
                follow_word_store.take_back(cur, owner, peer.user_id, now_ms)
            return peer

        found = await self._runtime.database.run("unfollow", work)
        self._words.soon()
        return _one_shown(found if found is not None else _nobody(typed, "follow"))

    async def blocks(self, call: Call) -> BlockList:
        owner = await self._runtime.accounts.acct_of(call.user_id)
        found = await self._runtime.database.run("blocking", lambda cur: relation_store.blocking(cur, owner))
        return BlockList(blocked=_all_shown(found))

    async def block(self, call: Call) -> PersonShown | Refused:
        peer = await self._peer(call)
        typed = parse_user_id(full_name(call.path["handle"], self._runtime.server_name))
        if isinstance(peer, Refused) and typed is not None and typed != call.user_id and _is_elsewhere(peer):
            # Somebody who hides, or whose server is away, can be blocked all the same, by their user id.
            peer = Peer(acct=Acct(""), user_id=typed, handle=Handle(typed), since_ms=self._runtime.now_ms())
        if isinstance(peer, Refused):
            return peer
        owner = await self._runtime.accounts.acct_of(call.user_id)
        blocked = peer

        def work(cur: Cursor) -> Peer | Refused | None:
            known = relation_store.blocked(cur, owner, blocked.user_id) is not None
            if not known and len(relation_store.blocking(cur, owner)) >= MAX_BLOCKS:
                return _too_many("block", MAX_BLOCKS)
            relation_store.block(cur, owner, blocked)
            relation_store.unfollow(cur, owner, blocked.user_id)
            follow_word_store.take_back(cur, owner, blocked.user_id, self._runtime.now_ms())
            follow_word_store.forget(cur, owner, blocked.user_id)
            if blocked.acct and self._runtime.api.is_mine(blocked.user_id):
                relation_store.unfollow(cur, blocked.acct, call.user_id)
            return relation_store.blocked(cur, owner, blocked.user_id)

        answer = _one_shown(await self._runtime.database.run("block", work))
        if not isinstance(answer, Refused):
            self._words.soon()
            await self._relations.ignore(call.user_id, blocked.user_id)
        return answer

    async def unblock(self, call: Call) -> PersonShown | Refused:
        typed = full_name(call.path["handle"], self._runtime.server_name)
        owner = await self._runtime.accounts.acct_of(call.user_id)

        def work(cur: Cursor) -> Peer | None:
            peer = relation_store.blocked(cur, owner, typed)
            if peer is not None:
                relation_store.unblock(cur, owner, peer.user_id)
            return peer

        found = await self._runtime.database.run("unblock", work)
        if found is None:
            return _nobody(typed, "block")
        await self._relations.unignore(call.user_id, found.user_id)
        return _one_shown(found)

    async def _peer(self, call: Call) -> Peer | Refused:
        typed = full_name(call.path["handle"], self._runtime.server_name)
        person = await self._people.resolve(typed, asker=call.user_id, max_age_ms=_MAX_AGE_MS)
        if isinstance(person, Refused):
            return person
        if person.user_id == call.user_id:
            return Refused(reason=Reason.INVALID_VALUE, message="That is you; name somebody else.")
        return Peer(
            acct=person.acct or Acct(""),
            user_id=person.user_id,
            handle=person.handle or Handle(person.user_id),
            since_ms=self._runtime.now_ms(),
        )


def full_name(text: str, server_name: ServerName) -> str:
    """A full handle or user id: ``bob`` and ``@bob`` mean somebody of this homeserver."""
    name = text.removeprefix("@")
    return f"@{name}" if ":" in name else f"@{name}:{server_name}"


def _is_elsewhere(refused: Refused) -> bool:
    return refused.reason in _RESOLVING


def _one_shown(peer: Peer | Refused | None) -> PersonShown | Refused:
    if isinstance(peer, Refused):
        return peer
    if peer is None:
        raise RuntimeError("a relation vanished inside its own transaction")
    return PersonShown(
        handle=peer.handle, user_id=peer.user_id, acct=peer.acct, since=peer.since_ms, mutual=peer.mutual
    )


def _followed_shown(peer: Peer, told: Collection[UserId]) -> FollowedShown:
    return FollowedShown(
        handle=peer.handle,
        user_id=peer.user_id,
        acct=peer.acct,
        since=peer.since_ms,
        mutual=peer.mutual,
        told=peer.user_id in told,
    )


def _all_shown(peers: Sequence[Peer]) -> list[PersonShown]:
    return [shown for shown in map(_one_shown, peers) if not isinstance(shown, Refused)]


def _too_many(verb: str, limit: int) -> Refused:
    return Refused(
        reason=Reason.LIMIT_EXCEEDED, message=f"You {verb} {limit} people, which is the limit; take one back first."
    )


def _nobody(typed: str, verb: str) -> Refused:
    return Refused(reason=Reason.UNKNOWN_CONTACT, message=f"You do not {verb} {typed[:255]!a}; nothing was changed.")
