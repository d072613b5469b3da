"""A person with a PIN for their recovery key, as the page does it, step by step, on fake homeservers.

Steps are separate, so that a test can stop between any two of them.
"""

import hashlib
import itertools
import secrets
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from fake_api import FakeHomeserver
from synapse.module_api.errors import SynapseError

from super_app.ids import ServerName, UserId
from super_app.names import ERRCODE_PREFIX, AccountDataType
from super_app.recovery import client, group, voprf
from super_app.recovery.client import Purpose
from super_app.recovery.group import Element, Scalar
from super_app.recovery.model import Deal, Version
from super_app.recovery.voprf import Evaluation, Proof
from super_app.signing import from_b64, to_b64

Json = dict[str, Any]


def stretched(purpose: Purpose, pin: str) -> bytes:
    """Stands for argon2id, which takes its time and is compared with its vectors elsewhere."""
    return hashlib.sha256(f"{purpose.user_id} {purpose.version} {pin}".encode()).digest()


def random_scalar() -> Scalar:
    return group.scalar_from_wide(secrets.token_bytes(64))


class WrongPin(Exception):
    """The ciphertext does not open."""


class TooFewRealms(Exception):
    def __init__(self, refused: dict[str, str]) -> None:
        super().__init__(str(refused))
        self.refused = refused


@dataclass(kw_only=True)
class Draft:
    """A set that is being set up."""

    purpose: Purpose
    deals: dict[ServerName, Deal]
    sealed: dict[str, str]
    content: Json


@dataclass(kw_only=True)
class Found:
    """What a recovery brought, and of whom it found out that they lied or did not answer."""

    key: bytes
    output: bytes
    attempt_id: str
    nonces: dict[str, str]
    lied: list[str] = field(default_factory=list)
    refused: dict[str, str] = field(default_factory=dict)


class Person:
    def __init__(self, home: FakeHomeserver, localpart: str = "alice") -> None:
        self.home = home
        self.user_id = home.register(localpart)

    # What the account data says.

    @property
    def stored(self) -> Json:
        found: Json = self.home.account_data.get((self.user_id, AccountDataType.RECOVERY.value)) or {}
        return found

    def at(self, realm: str, what: str, body: Json | None = None) -> Json:
        method = {"state": "GET", "share": "PUT"}.get(what, "POST")
        return self.home.call(method, f"recovery/realms/{realm}/{what}", self.user_id, body)

    def realms(self) -> list[Json]:
        found: list[Json] = self.home.call("GET", "recovery/realms", self.user_id)["realms"]
        return found

    # Setting up.

    def next_version(self, realms: Sequence[str]) -> Version:
        seen = [0, self.stored.get("set", {}).get("version", 0)]
        for realm in realms:
            seen += [share["version"] for share in self.at(realm, "state")["shares"]]
        return Version(max(seen) + 1)

    def draft(self, pin: str, key: bytes, realms: Sequence[str], threshold: int) -> Draft:
        keys = {each["server"]: each.get("public_key") for each in self.realms()}
        purpose = Purpose(user_id=UserId(self.user_id), version=self.next_version(realms))
        pin_stretched = stretched(purpose, pin)
        coefficients = [random_scalar() for _ in range(threshold - 1)]
        names = [ServerName(each) for each in realms]
        deals, publics, content_key = client.deal(purpose, pin_stretched, random_scalar(), coefficients, names)
        iv = secrets.token_bytes(12)
        header: Json = {
            "version": purpose.version,
            "threshold": threshold,
            "realms": [{"server": each, "public_key": to_b64(publics[each])} for each in names],
        }
        return Draft(
            purpose=purpose,
            deals=deals,
            sealed={
                realm: client.sealed(deals[ServerName(realm)], from_b64(str(keys[realm])), secrets.token_bytes(32))
                for realm in realms
            },
            content={
                **header,
                "iv": to_b64(iv),
                "ciphertext": to_b64(client.locked(content_key, header, iv, key)),
            },
        )

    def give(self, draft: Draft, realm: str) -> None:
        body: Json = {"version": draft.purpose.version, "sealed": draft.sealed[realm]}
        if "set" in self.stored:
            body["in_use"] = self.stored["set"]["version"]
        self.at(realm, "share", body)

    def commit(self, draft: Draft) -> None:
        self.home.account_data[(self.user_id, AccountDataType.RECOVERY.value)] = {"v": 1, "set": draft.content}

    def use(self, realm: str) -> None:
        self.at(realm, "use", {"version": self.stored["set"]["version"]})

    def set_up(self, pin: str, key: bytes, realms: Sequence[str], threshold: int) -> None:
        draft = self.draft(pin, key, realms, threshold)
        for realm in realms:
            self.give(draft, realm)
        self.commit(draft)
        for realm in realms:
            self.use(realm)

    # Recovering.

    def begin(self) -> str:
        """Have all realms count a guess whose PIN is still being stretched."""
        attempt_id = secrets.token_hex(16)
        self._order(attempt_id, "begin", self._asked_of())
        return attempt_id

    def _order(self, attempt_id: str, what: str, body: Json) -> Json:
        return self.home.call("POST", f"recovery/attempts/{attempt_id}/{what}", self.user_id, body)

    def _asked_of(self) -> Json:
        content: Json = self.stored["set"]
        return {"version": content["version"], "realms": [each["server"] for each in content["realms"]]}

    def recover_as_the_page_does(
        self,
        pin: str,
        *,
        first: Sequence[str] | None = None,
        meanwhile: Callable[[], object] = lambda: None,
        closes: bool = False,
    ) -> tuple[Found, Json]:
        """Begun while the PIN is hashed, evaluated in one question, unlocked with one order; what came of that order.

        ``first`` are those that are asked to evaluate, before the order; ``meanwhile`` happens between ``begin`` and
        that. A page that ``closes`` sends nothing after the order. Raises WrongPin.
        """
        content: Json = self.stored["set"]
        purpose = Purpose(user_id=UserId(self.user_id), version=Version(content["version"]))
        attempt_id, asked_of = secrets.token_hex(16), self._asked_of()
        nonces: dict[str, str] = self._order(attempt_id, "begin", asked_of)["nonces"]
        meanwhile()
        pin_stretched, factor = stretched(purpose, pin), random_scalar()
        blinded = voprf.blind(client.oprf_input(purpose, pin_stretched), factor)
        guess = {"version": purpose.version, "blinded": to_b64(blinded)}
        realms = asked_of["realms"] if first is None else list(first)
        said = self._order(attempt_id, "evaluate", {**guess, "realms": realms, "enough": content["threshold"]})
        evaluations: dict[str, Json] = said["evaluations"]
        elements = {
            index: group.read_element(from_b64(evaluations[realm["server"]]["element"]))
            for index, realm in enumerate(content["realms"], 1)
            if realm["server"] in evaluations
        }
        chosen = dict(itertools.islice(elements.items(), content["threshold"]))
        output = client.opened(purpose, pin_stretched, factor, chosen)
        nonces = {**nonces, **{realm: each["nonce"] for realm, each in evaluations.items()}}
        found = Found(key=self._unlocked(purpose, output), output=output, attempt_id=attempt_id, nonces=nonces)
        tags = {realm: self.tag(found, realm)["tag"] for realm in nonces}
        others = [realm for realm in asked_of["realms"] if realm not in evaluations]
        order = {**guess, "tags": tags, "others": others}
        ordered = self._order(attempt_id, "right", order)
        for realm in content["realms"]:
            name = realm["server"]
            answered = ordered["evaluations"].get(name)
            if answered is not None and not is_right(realm["public_key"], blinded, answered):
                found.lied.append(name)
            elif answered is not None and answered["nonce"] != nonces.get(name) and not closes:
                found.nonces[name] = answered["nonce"]
                self.at(name, "unlock", self.tag(found, name))
        return found, {**ordered, "order": order}

    def _unlocked(self, purpose: Purpose, output: bytes) -> bytes:
        content: Json = self.stored["set"]
        header = {name: each for name, each in content.items() if name not in ("iv", "ciphertext")}
        content_key = client.derived(purpose, output, b"key")
        key = client.unlocked(content_key, header, from_b64(content["iv"]), from_b64(content["ciphertext"]))
        if key is None:
            raise WrongPin
        return key

    def guess(
        self,
        pin: str,
        *,
        attempt_id: str | None = None,
        only: Sequence[str] | None = None,
        factor: Scalar | None = None,
    ) -> Found:
        """Raises WrongPin or TooFewRealms. With the same ``factor`` it is the same guess."""
        content: Json = self.stored["set"]
        purpose = Purpose(user_id=UserId(self.user_id), version=Version(content["version"]))
        attempt_id = attempt_id or secrets.token_hex(16)
        pin_stretched, factor = stretched(purpose, pin), factor or random_scalar()
        blinded = voprf.blind(client.oprf_input(purpose, pin_stretched), factor)
        answers: dict[int, Element] = {}
        nonces: dict[str, str] = {}
        lied: list[str] = []
        refused: dict[str, str] = {}
        for index, realm in enumerate(content["realms"], 1):
            name = realm["server"]
            if only is not None and name not in only:
                continue
            body = {"version": purpose.version, "attempt_id": attempt_id, "blinded": to_b64(blinded)}
            try:
                answered = self.at(name, "guess", body)
            except SynapseError as error:
                refused[name] = str(error.errcode).removeprefix(ERRCODE_PREFIX)
                continue
            if is_right(realm["public_key"], blinded, answered):
                answers[index] = group.read_element(from_b64(answered["element"]))
                nonces[name] = answered["nonce"]
            else:
                lied.append(name)
        if len(answers) < content["threshold"]:
            raise TooFewRealms(refused)
        chosen = dict(itertools.islice(answers.items(), content["threshold"]))
        output = client.opened(purpose, pin_stretched, factor, chosen)
        try:
            key = self._unlocked(purpose, output)
        except WrongPin:
            self._order(attempt_id, "wrong", {})
            raise
        return Found(key=key, output=output, attempt_id=attempt_id, nonces=nonces, lied=lied, refused=refused)

    def tag(self, found: Found, realm: str, user_id: str | None = None) -> Json:
        version = Version(self.stored["set"]["version"])
        purpose = Purpose(user_id=UserId(user_id or self.user_id), version=version)
        nonce = from_b64(found.nonces[realm])
        tag = client.tag(purpose, found.output, ServerName(realm), found.attempt_id, nonce)
        return {"version": version, "attempt_id": found.attempt_id, "tag": to_b64(tag)}

    def unlock(self, found: Found) -> None:
        for realm in found.nonces:
            self.at(realm, "unlock", self.tag(found, realm))

    def recover(self, pin: str) -> Found:
        found = self.guess(pin)
        self.unlock(found)
        return found


def is_right(public_key: str, blinded: Element, answered: Json) -> bool:
    try:
        evaluation = Evaluation(
            element=group.read_element(from_b64(answered["element"])),
            proof=Proof.read(from_b64(answered["proof"])),
        )
    except ValueError:
        return False
    return voprf.is_right(group.read_element(from_b64(public_key)), blinded, evaluation)
