"""All that this homeserver tells a person about themselves, in one answer (GDPR, articles 15 and 20).

It asks the routes that people read by, whichever features are on, page by page. So what a new route shows is exported
without anybody thinking of it; what takes an argument of the person's is named, and left to be asked for.
"""

from collections.abc import Sequence
from typing import Any, Final

from pydantic import ValidationError
from synapse.module_api.errors import SynapseError

from super_app.ids import UserId
from synapse_super_app.http.resource import answer
from synapse_super_app.http.routes import Auth, Call, FileAnswer, Route
from synapse_super_app.operations.bodies import ExportJson
from synapse_super_app.runtime import Runtime

_PAGES_MAX: Final = 500
_PAGE: Final = "100"


class Export:
    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime
        self._readable: list[Route] = []
        self._left_out: list[str] = []

    def connect(self, routes: Sequence[Route]) -> None:
        for route in routes:
            if route.method != "GET" or route.auth not in (Auth.USER, Auth.FRESH):
                continue
            if _asks_for_nothing(route):
                self._readable.append(route)
            else:
                self._left_out.append(route.path)

    def route(self) -> Route:
        return Route(
            method="GET",
            path="account/export",
            handler=self._export,
            response=ExportJson,
            summary="All that this homeserver tells you about yourself, in one answer",
        )

    async def _export(self, call: Call) -> ExportJson:
        parts: dict[str, list[dict[str, Any]]] = {}
        for route in self._readable:
            parts[route.path] = await self._pages(route, call)
        return ExportJson(
            user_id=call.user_id, made_ms=self._runtime.now_ms(), parts=parts, left_out=sorted(self._left_out)
        )

    async def _pages(self, route: Route, call: Call) -> list[dict[str, Any]]:
        fields = {} if route.query is None else route.query.model_fields
        query = {"limit": _PAGE} if "limit" in fields else {}
        pages: list[dict[str, Any]] = []
        while len(pages) < _PAGES_MAX:
            try:
                page = await answer(route, {}, UserId(call.user_id), query, None, call.address, call.device_id)
            except SynapseError as error:
                # What is refused to the person is no datum of theirs; why is.
                pages.append(error.error_dict(None))
                break
            pages.append(page)
            if "since" not in fields or not page.get("next"):
                break
            query = {**query, "since": str(page["next"])}
        return pages


def _asks_for_nothing(route: Route) -> bool:
    if "{" in route.path or route.response is FileAnswer or route.media_types:
        return False
    try:
        if route.query is not None:
            route.query.model_validate({})
    except ValidationError:
        return False
    return True
