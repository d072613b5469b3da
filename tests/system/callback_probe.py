"""A Synapse module that says which callbacks are registered on the running homeserver, by every module in it.

It registers one of its own for each name in ``CALLBACKS_OF_THE_PROBE``, so that a test sees that it looks at the lists
which Synapse calls.
"""

from typing import Any

from synapse.module_api import DirectServeJsonResource, ModuleApi

PATH = "/_test/callbacks"
CALLBACKS_OF_THE_PROBE = ("check_event_allowed", "on_new_event")


class CallbackProbe:
    def __init__(self, config: Any, api: ModuleApi) -> None:
        api.register_third_party_rules_callbacks(
            check_event_allowed=self.check_event_allowed, on_new_event=self.on_new_event
        )
        api.register_web_resource(PATH, _Listing(api))

    async def check_event_allowed(self, *_: Any) -> tuple[bool, None]:
        return True, None

    async def on_new_event(self, *_: Any) -> None:
        return None


class _Listing(DirectServeJsonResource):
    isLeaf = True  # noqa: N815 - the name is Twisted's

    def __init__(self, api: ModuleApi) -> None:
        super().__init__()
        self._api = api

    async def _async_render_GET(self, request: Any) -> tuple[int, dict[str, list[str]]]:  # noqa: N802
        return 200, listing(self._api._callbacks)


def listing(callbacks: Any) -> dict[str, list[str]]:
    """For each callback by its public name, where the registered functions come from."""
    found: dict[str, list[str]] = {}
    for group in vars(callbacks).values():
        for attribute, registered in vars(group).items():
            if attribute.endswith("_callbacks") and isinstance(registered, list):
                name = attribute.removeprefix("_").removesuffix("_callbacks")
                found.setdefault(name, []).extend(_origin(function) for function in registered)
    return found


def _origin(function: Any) -> str:
    # Synapse wraps some callbacks, and a feature may register a partial or a bound method: look at the innermost.
    while (inner := getattr(function, "__wrapped__", None) or getattr(function, "func", None)) is not None:
        function = inner
    closed_over = [cell.cell_contents for cell in getattr(function, "__closure__", None) or ()]
    if function.__module__.startswith("synapse.") and len(closed_over) == 1 and callable(closed_over[0]):
        return _origin(closed_over[0])
    return f"{function.__module__}.{function.__qualname__}"
