"""What the directory asks of others, inside its own transactions."""

from typing import Protocol

from super_app.db import Cursor
from super_app.ids import Acct, Handle


class Takings(Protocol):
    def has_received(self, cur: Cursor, acct: Acct, handle: Handle) -> bool:
        """Whether an account of this homeserver was ever paid under a handle."""
        ...


class NoTakings:
    """For a homeserver on which nobody was ever paid."""

    def has_received(self, cur: Cursor, acct: Acct, handle: Handle) -> bool:
        return False
