"""What payments ask of the homeserver inside a transaction, read from Synapse's own tables."""

from pathlib import Path

from super_app.db import Cursor
from super_app.directory import move_store
from super_app.ids import RoomId, UserId
from super_app.names import AccountDataType
from super_app.payments.ports import Resident
from synapse_super_app.private_api import PrivateApi
from synapse_super_app.relations import blocks_in
from synapse_super_app.rollout import Rollout


class Residents:
    """``super_app.payments.ports.Homeserver``."""

    def __init__(self, private: PrivateApi, halt_file: str | None, rollout: Rollout, *, directory: bool) -> None:
        """``directory`` says whether that feature is on, and with it, who moved to another homeserver."""
        self._private = private
        self._rollout = rollout
        self._directory = directory
        self._halt_file = None if halt_file is None else Path(halt_file)
        self._halted = False
        self.halted_by_operator = False
        """As ``halting`` says, where payments are decided."""

    def resident(self, cur: Cursor, user_id: UserId) -> Resident | None:
        if not self._rollout.includes(user_id):
            # Nobody is paid who cannot see it yet.
            return None
        found = self._private.resident(cur, user_id, AccountDataType.PAYMENT_POLICY)
        if found is None:
            return None
        gone = move_store.departure_of(cur, user_id) if self._directory else None
        return Resident(
            user_id=user_id,
            deactivated=found[0],
            policy=found[1],
            moved_to=None if gone is None else gone.to_handle,
        )

    def share_a_room(self, cur: Cursor, resident: UserId, other: UserId) -> bool:
        return self._private.share_a_room(cur, resident, other)

    def blocks(self, cur: Cursor, resident: UserId, other: UserId) -> bool:
        return blocks_in(self._private, cur, resident, other)

    def is_joined(self, cur: Cursor, resident: UserId, room_id: RoomId) -> bool:
        return self._private.is_joined(cur, resident, room_id)

    def halt(self) -> None:
        """Payments cannot be kept safe here; nothing new starts while this process runs."""
        self._halted = True

    def payments_are_halted(self) -> bool:
        return self.halted_by_operator or self.is_halted_otherwise()

    def is_halted_otherwise(self) -> bool:
        """By the halt file, or because payments cannot be kept safe here."""
        if self._halted:
            return True
        # One stat() for an order. An unreadable path counts as halted: the switch fails to the safe side.
        if self._halt_file is None:
            return False
        try:
            self._halt_file.stat()
        except FileNotFoundError:
            return False
        except OSError:
            return True
        return True
