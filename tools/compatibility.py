"""What `tools/compatibility` runs in an environment with one version of Synapse: the probe, and a pair that pays.

It prints one line for each feature that would go off, and one for how the pair did; the exit code is 1 if a feature
would go off or the pair did not do what the demo promises.
"""

import argparse
import sys
import tempfile
from importlib.metadata import version
from pathlib import Path

from super_app.names import EventType
from synapse_super_app import private_api
from synapse_super_app.commands import loopback
from synapse_super_app.commands.demo_pair import CURRENCY, PORTS, DemoPair


def lost_features() -> list[str]:
    """A line for each feature that this Synapse cannot carry, as the homeserver itself would say it at its start."""
    return [
        f"{feature.value} would go off: {use.symbol} is not there ({use.reason})"
        for feature, use in private_api.missing(private_api.USES).items()
    ]


def pair_works() -> None:
    """Two homeservers federate, find each other's handles, chat, ring, pay and balance."""
    with tempfile.TemporaryDirectory(prefix="superapp-compat-") as folder:
        Path(folder).chmod(0o711)
        with DemoPair(data=Path(folder) / "demo", port_base=loopback.free_ports(PORTS)) as pair:
            with pair.client("alice") as alice, pair.client("bob") as bob:
                alice.send_text(pair.room_id, "hello")
                bob.wait_for_event(pair.room_id, lambda event: event["content"].get("body") == "hello")
                ring = {"call_id": "compat", "media": "audio", "callee": bob.user_id, "lifetime": 5000}
                alice.send(pair.room_id, EventType.CALL_RING, ring)
                bob.wait_for_event(pair.room_id, lambda event: event["type"] == EventType.CALL_RING)
                before = bob.available(CURRENCY)
                payment = alice.pay(pair.people["bob"].handle, 500, CURRENCY)
                alice.wait_for_payment(payment["payment_id"], timeout_s=120)
                gained = bob.available(CURRENCY) - before
            if gained != 500:
                raise RuntimeError(f"bob was paid 500 and has {gained} more")
            for admin in pair.admins:
                checked = admin.invariants()
                if not checked["ok"]:
                    raise RuntimeError(f"an invariant does not hold: {checked}")


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n\n")[0])
    parser.add_argument("--probe-only", action="store_true", help="start nothing")
    given = parser.parse_args(arguments)
    name = f"Synapse {version('matrix-synapse')}"
    lost = lost_features()
    for line in lost:
        print(f"{name}: {line}", flush=True)
    if not lost:
        print(f"{name}: it has all that each feature needs", flush=True)
    if given.probe_only or lost:
        return int(bool(lost))
    try:
        pair_works()
    except Exception as error:  # noqa: BLE001 - whatever went wrong, it does not work with this version
        print(f"{name}: two homeservers did not do what the demo promises: {error}", flush=True)
        return 1
    print(f"{name}: two homeservers federate, find handles, chat, ring, pay and balance", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
