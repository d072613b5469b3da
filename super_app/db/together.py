"""Statements for PostgreSQL that wait for the next one, so that one exchange with the server carries several.

Whoever waits for the server lets the interpreter go and has to get it back from a reactor that holds it for
milliseconds at a time, so exchanges cost more than statements do. A statement whose outcome nobody asks for can wait
for the next one. The server runs them in order, each on a snapshot of its own, as if they had come alone.

It only spells them; running them is its owner's part.
"""

from collections.abc import Sequence

from super_app.db import SqlValue


class Together:
    """The statements that wait, in order. Placeholders are ``?``."""

    def __init__(self) -> None:
        self._statements: list[str] = []
        self._parameters: list[SqlValue] = []

    def add(self, sql: str, parameters: Sequence[SqlValue]) -> None:
        # The driver looks for placeholders where there are parameters, and takes a % for the beginning of one.
        self._statements.append(sql if parameters else sql.replace("%", "%%"))
        self._parameters.extend(parameters)

    def take(self) -> tuple[str, tuple[SqlValue, ...]] | None:
        """All of them as one text to run, whose outcome is that of the last one; None if there are none."""
        if not self._statements:
            return None
        statements, parameters = self._statements, self._parameters
        self._statements, self._parameters = [], []
        if not parameters:
            # Then the driver takes a % for itself.
            statements = [statement.replace("%%", "%") for statement in statements]
        return ";\n".join(statements), tuple(parameters)
