"""Arrays for PostgreSQL, one for each column: the quickest way of many rows through the driver and the parser."""

from collections.abc import Sequence
from typing import cast


def array_literal(values: Sequence[str | int]) -> str:
    """An array as PostgreSQL spells it (its manual, 8.15.2); ``values`` are some, all numbers or all texts."""
    if isinstance(values[0], int):
        return "{" + ",".join(map(str, values)) + "}"
    texts = cast(Sequence[str], values)
    joined = '","'.join(texts)
    if "\\" in joined or joined.count('"') != 2 * (len(texts) - 1):
        joined = '","'.join(text.replace("\\", "\\\\").replace('"', '\\"') for text in texts)
    return '{"' + joined + '"}'
