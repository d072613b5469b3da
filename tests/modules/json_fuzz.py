"""Values from a JSON schema as our OpenAPI document has them, and values that are nearly so."""

from typing import Any

from hypothesis import strategies as st

NASTY = st.one_of(
    st.text(max_size=20),
    st.sampled_from(
        [
            "",
            "\0",
            "\ud800",
            "@",
            "@:",
            "@alice:hs1.test",
            "@bob:hs2.test",
            "alice",
            "@alice",
            "!room:hs1.test",
            "$event",
            "0" * 32,
            "a" * 300,
            "..",
            "%2e%2e",
            "９",
            "İ",
            "-1",
            "1e400",
            "9" * 40,
            "EUR",
            "PTS",
            "2026",
            "payto://iban/DE75512108001245126199",
        ]
    ),
)
SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.sampled_from([0, -1, 1, 2**31, 2**53 - 1, 2**53, 2**63 - 1, 2**63, 10**30]),
    st.floats(allow_nan=False, allow_infinity=False),
    NASTY,
)
ANYTHING = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NASTY, inner, max_size=3), max_leaves=6
)


def of_schema(schema: dict[str, Any], defs: dict[str, Any]) -> st.SearchStrategy[Any]:
    """Mostly what fits; where a schema says little, anything of that type."""
    if "$ref" in schema:
        return of_schema(defs[schema["$ref"].rpartition("/")[2]], defs)
    if "const" in schema:
        return st.just(schema["const"])
    if "enum" in schema:
        return st.sampled_from(schema["enum"])
    for key in ("anyOf", "oneOf"):
        if key in schema:
            return st.one_of(*(of_schema(each, defs) for each in schema[key]))
    match schema.get("type"):
        case "object":
            known = schema.get("properties", {})
            required = set(schema.get("required", ()))
            return st.fixed_dictionaries(
                {name: of_schema(known[name], defs) for name in required},
                optional={name: of_schema(each, defs) for name, each in known.items() if name not in required},
            )
        case "array":
            return st.lists(of_schema(schema.get("items", {}), defs), max_size=3)
        case "integer":
            low, high = schema.get("minimum", -(2**53)), schema.get("maximum", 2**53)
            return st.integers(low, high) | st.sampled_from([low, min(high, low + 1), high])
        case "number":
            return st.floats(0, 1000)
        case "boolean":
            return st.booleans()
        case "null":
            return st.none()
        case "string":
            if "pattern" in schema:
                return st.from_regex(schema["pattern"]) | NASTY
            return NASTY
        case _:
            return ANYTHING


def nearly(schema: dict[str, Any]) -> st.SearchStrategy[Any]:
    """A body for a route: one that fits, or with one field of another kind, one too many, or nothing like it."""
    defs = schema.get("$defs", {})
    fits = of_schema(schema, defs)

    @st.composite
    def spoilt(draw: st.DrawFn) -> Any:
        body = draw(fits)
        if not isinstance(body, dict) or not body:
            return draw(ANYTHING)
        return {**body, draw(st.sampled_from([*body, "unheard_of"])): draw(ANYTHING)}

    return st.one_of(fits, fits, spoilt(), ANYTHING)
