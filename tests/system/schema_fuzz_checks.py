"""What ``schema_fuzz.py`` has schemathesis look at in each answer; loaded by schemathesis alone."""

import json
from typing import Any

import schemathesis  # pyright: ignore[reportMissingImports] - make fuzz-http installs it


@schemathesis.check  # type: ignore[untyped-decorator, unused-ignore]
def fails_by_name(_context: Any, response: Any, _case: Any) -> None:
    """A 5xx only where the answer says which of ours it is."""
    if response.status_code < 500:
        return
    try:
        name = str(json.loads(response.content).get("errcode"))
    except ValueError:
        name = ""
    assert name.startswith("ORG.SUPERAPP."), f"{response.status_code}: {response.content[:300]!r}"
