"""What reviews need of the homeserver."""

from collections.abc import Sequence
from typing import Protocol

from super_app.db import Cursor
from super_app.ids import UserId


class ShownNames(Protocol):
    def display_names(self, cur: Cursor, user_id: UserId) -> Sequence[str]:
        """The names that somebody shows, as far as this homeserver has them: in their profile and in rooms."""
        ...
