"""The whole chain from a handle down to the Matrix key of its server, checked link by link, each told in a sentence.

Pure, so that whoever doubts a homeserver can check what it shows: the command ``super-app directory verify`` does.
"""

import datetime as dt
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, cast

from super_app.directory import heads, keys, records
from super_app.directory.heads import Growth, SeenHead
from super_app.directory.log import origin_of
from super_app.directory.model import DirectoryKey, Record
from super_app.errors import Refused
from super_app.ids import ServerName
from super_app.signing import from_b64
from super_app.transparency import checkpoint

_NO_RECORD: Final = "There is no record to check."


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One link of the chain. ``holds`` is None where there was nothing to compare with."""

    name: str
    holds: bool | None
    says: str


def holds(steps: tuple[Step, ...]) -> bool:
    """Whether nothing of the chain is broken."""
    return all(step.holds is not False for step in steps)


def check(shown: Mapping[str, Any], now_ms: int) -> tuple[Step, ...]:
    """The links of a chain as a homeserver shows it (``GET directory/verify/{handle}``)."""
    server = ServerName(str(shown.get("server")))
    key = records.read_certificate(shown.get("certificate"), server)
    if isinstance(key, Refused):
        return (Step(name="directory key", holds=False, says=key.message),)
    found = records.read_record(shown.get("record"), server, key.public_key, now_ms)
    if isinstance(found, Refused):
        return (Step(name="record", holds=False, says=found.message), *_key_steps(shown, key, server))
    steps = [_record(found), _signature(key), *_key_steps(shown, key, server)]
    proof = heads.read_log_proof(shown.get("log"), server)
    if isinstance(proof, Refused):
        return (*steps, Step(name="log", holds=False, says=proof.message))
    head = heads.read_head(proof.checkpoint, key, now_ms)
    if isinstance(head, Refused):
        return (*steps, Step(name="checkpoint", holds=False, says=head.message))
    steps.append(
        Step(
            name="checkpoint",
            holds=True,
            says=f"{server} signed that its log had {head.size} records at {_time(head.time_s * 1000)}.",
        )
    )
    outside = heads.check_inclusion(found.content, proof, head)
    steps.append(
        Step(
            name="inclusion",
            holds=outside is None,
            says=f"The record is number {proof.index + 1} of them." if outside is None else outside.message,
        )
    )
    return (*steps, _consistency(shown, head, proof), *_witnesses(shown, head, key), _standing(shown, server))


def _record(found: Record) -> Step:
    return Step(
        name="record",
        holds=True,
        says=(
            f"{found.handle} is {found.user_id} ({found.status}), record {found.seq} of that name, issued "
            f"{_time(found.issued_ms)}, good until {_time(found.expires_ms)}."
        ),
    )


def _signature(key: DirectoryKey) -> Step:
    return Step(name="signature", holds=True, says=f"It is signed with the directory key {key.key_id} of {key.server}.")


def _key_steps(shown: Mapping[str, Any], key: DirectoryKey, server: ServerName) -> tuple[Step, ...]:
    signed = shown.get("matrix_key_signed") is True
    matrix = Step(
        name="matrix key",
        holds=signed,
        says=(
            f"That key is certified by the Matrix key of {server}, which your homeserver has checked."
            if signed
            else f"That key is not certified by a Matrix key that {server} has now."
        ),
    )
    first = shown.get("pinned_before")
    if not isinstance(first, str):
        return (matrix, Step(name="pin", holds=None, says="Your homeserver had not seen a directory key of it before."))
    followed = keys.leads_to(first, shown.get("rotations"), key)
    if first == key.public_key:
        says, good = "It is the key that your homeserver has known since it first dealt with that server.", True
    elif followed:
        says, good = "Your homeserver knew another key before, and that one signed that this one follows it.", True
    else:
        says, good = "Your homeserver knew another key before, and nothing leads from that one to this.", False
    return (matrix, Step(name="pin", holds=good, says=says))


def _consistency(shown: Mapping[str, Any], head: SeenHead, growth: Growth) -> Step:
    seen = shown.get("seen_before")
    if not isinstance(seen, str):
        return Step(name="consistency", holds=None, says="Your homeserver had not seen that log before.")
    certificate = records.read_certificate(shown.get("seen_certificate"), head.server)
    known = None if isinstance(certificate, Refused) else heads.read_old_head(seen, certificate)
    if known is None:
        return Step(name="consistency", holds=False, says="What your homeserver says to have seen is not signed.")
    verdict = heads.judge(known, head, growth)
    if isinstance(verdict, SeenHead):
        return Step(
            name="consistency",
            holds=True,
            says=f"It has grown out of the {known.size} that your homeserver saw at {_time(known.time_s * 1000)}.",
        )
    says = (
        verdict.message
        if isinstance(verdict, Refused)
        else f"It contradicts what your homeserver saw ({verdict.kind})."
    )
    return Step(name="consistency", holds=False, says=says)


def _witnesses(shown: Mapping[str, Any], head: SeenHead, key: DirectoryKey) -> tuple[Step, ...]:
    """Cosignatures on this checkpoint by servers whose keys the homeserver knows."""
    told = shown.get("witnesses")
    steps: list[Step] = []
    for each in cast(list[object], told) if isinstance(told, list) else []:
        if not isinstance(each, dict):
            continue
        entry = cast(Mapping[str, Any], each)
        name = ServerName(str(entry.get("server")))
        certificate = records.read_certificate(entry.get("certificate"), name)
        note = checkpoint.read_note(str(entry.get("checkpoint")))
        if isinstance(certificate, Refused) or note is None or note.text != head.text or name == key.server:
            continue
        cosigned = checkpoint.cosignature_of(note, origin_of(name), from_b64(certificate.public_key))
        if cosigned is not None:
            says = f"{name} saw the same log, and that it only grew, at {_time(cosigned.time_s * 1000)}."
            steps.append(Step(name="witness", holds=True, says=says))
    if not steps:
        return (Step(name="witness", holds=None, says="No other homeserver that yours knows has cosigned it yet."),)
    return tuple(steps)


def _standing(shown: Mapping[str, Any], server: ServerName) -> Step:
    if shown.get("frozen") is True:
        says = f"There is evidence that {server} contradicted itself; it is frozen here (super-app directory evidence)."
        return Step(name="evidence", holds=False, says=says)
    return Step(name="evidence", holds=True, says=f"Nothing is known that {server} signed and that contradicts itself.")


def _time(time_ms: int) -> str:
    return dt.datetime.fromtimestamp(time_ms / 1000, dt.UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
