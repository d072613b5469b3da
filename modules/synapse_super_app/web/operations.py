"""The page for server admins at ``/superapp/admin/``: three files, served to anybody, that ask the admin routes.

It keeps no session: the token of whoever signs in is in the page's memory, and goes with it.
"""

from importlib.resources import files
from typing import Final

from synapse_super_app.web.served import File

_POLICY: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types 'none'"
)
_TYPES: Final = {"html": "text/html", "js": "text/javascript", "css": "text/css"}


def admin_files() -> dict[str, File]:
    folder = files("synapse_super_app.web").joinpath("admin")
    found: dict[str, File] = {}
    for name in ("index.html", "admin.js", "admin.css"):
        kind = f"{_TYPES[name.rpartition('.')[2]]}; charset=utf-8"
        content = folder.joinpath(name).read_bytes()
        path = "admin/" if name == "index.html" else f"admin/{name}"
        found[path] = File(content_type=kind, content=content, headers={"Content-Security-Policy": _POLICY})
    return found
