"""How long a recovery takes beside a round trip between homeservers, without the hash of the PIN."""

import secrets
import statistics
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from typing import Any, Final, Self

from benchmarks.frame import Context, Row
from benchmarks.realms import Realms
from super_app.ids import ServerName, UserId
from super_app.recovery import client, group, voprf
from super_app.recovery.client import Purpose
from super_app.recovery.group import Element
from super_app.recovery.model import Version
from super_app.recovery.voprf import Evaluation, Proof
from super_app.signing import from_b64, to_b64

NAMES: Final = ("recovery.guess",)
_ROUNDS: Final = 5
_EACH: Final = 6
_WARM_UP: Final = 2
_THRESHOLD: Final = 2


def run(context: Context) -> Iterator[Row]:
    folder = context.folder / "recovery"
    folder.mkdir()
    with Realms(folder) as realms:
        context.say(f"recovery.guess: {_ROUNDS} rounds of {_EACH} recoveries and {_EACH} round trips in turns")
        recoveries: list[float] = []
        trips: list[float] = []
        for number in range(_ROUNDS):
            # A person has so many guesses in a while, right ones among them.
            with _Person(realms, f"person{number}") as person:
                taken = [person.measured() for _ in range(_WARM_UP + _EACH)][_WARM_UP:]
            recoveries.append(statistics.median(each for each, _ in taken))
            trips.append(statistics.median(each for _, each in taken))
        yield Row(
            name="recovery.guess",
            value=statistics.median(recoveries),
            unit="ms",
            yardstick="a question to another realm and its answer",
            yardstick_value=statistics.median(trips),
            goal="<= 2",
            n=_ROUNDS * _EACH,
        )


class _Person:
    """Somebody with a PIN at all three, who asks them at once as a browser does."""

    def __init__(self, realms: Realms, name: str) -> None:
        self._names = [ServerName(each) for each in realms.names]
        first = realms.account(name)
        self._clients = {each: first if each == self._names[0] else realms.as_(first) for each in self._names}
        self._threads = ThreadPoolExecutor(len(self._names))
        self._purpose = Purpose(user_id=UserId(first.user_id), version=Version(1))
        # What a PIN is stretched to is as long as this.
        self._pin = secrets.token_bytes(32)
        coefficients = [_scalar() for _ in range(_THRESHOLD - 1)]
        deals, self._publics, _ = client.deal(self._purpose, self._pin, _scalar(), coefficients, self._names)
        found = first.superapp("GET", "recovery/realms")["realms"]
        keys = {each["server"]: from_b64(each["public_key"]) for each in found}
        for realm in self._names:
            sealed = client.sealed(deals[realm], keys[realm], secrets.token_bytes(32))
            self._at(realm, "PUT", "share", {"version": 1, "sealed": sealed})
        self._unlock: list[Callable[[], object]] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._threads.shutdown()
        for each in self._clients.values():
            each.close()

    def measured(self) -> tuple[float, float]:
        """Milliseconds of a recovery and of a round trip. Nobody waits for the unlocking."""
        recovered = _ms(self._recover)
        self._unlock.pop()()
        return recovered, _ms(self._round_trip)

    def _recover(self) -> None:
        """Until two right answers are combined."""
        factor, attempt_id = _scalar(), secrets.token_hex(16)
        blinded = voprf.blind(client.oprf_input(self._purpose, self._pin), factor)
        body = {"version": 1, "attempt_id": attempt_id, "blinded": to_b64(blinded)}
        asked = {self._threads.submit(self._at, realm, "POST", "guess", body): realm for realm in self._names}
        answers: dict[int, Element] = {}
        nonces: dict[ServerName, bytes] = {}
        output = b""
        for done in as_completed(asked):
            realm, answered = asked[done], done.result()
            evaluation = Evaluation(
                element=group.read_element(from_b64(answered["element"])), proof=Proof.read(from_b64(answered["proof"]))
            )
            if not voprf.is_right(self._publics[realm], blinded, evaluation):
                raise AssertionError(f"{realm} lied")
            answers[self._names.index(realm) + 1] = evaluation.element
            nonces[realm] = from_b64(answered["nonce"])
            if len(answers) == _THRESHOLD:
                output = client.opened(self._purpose, self._pin, factor, answers)
                break
        late = [done for done in asked if asked[done] not in nonces]

        def unlock() -> None:
            for done in late:
                nonces[asked[done]] = from_b64(done.result()["nonce"])
            for realm, nonce in nonces.items():
                tag = client.tag(self._purpose, output, realm, attempt_id, nonce)
                self._at(realm, "POST", "unlock", {"version": 1, "attempt_id": attempt_id, "tag": to_b64(tag)})

        self._unlock.append(unlock)

    def _round_trip(self) -> None:
        self._at(self._names[1], "GET", "state")

    def _at(self, realm: ServerName, method: str, what: str, body: object = None) -> dict[str, Any]:
        return self._clients[realm].superapp(method, f"recovery/realms/{realm}/{what}", body)


def _scalar() -> group.Scalar:
    return group.scalar_from_wide(secrets.token_bytes(64))


def _ms(work: Callable[[], object]) -> float:
    began_s = time.perf_counter()
    work()
    return (time.perf_counter() - began_s) * 1_000
