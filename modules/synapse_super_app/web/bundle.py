"""The web app as files: what ``make web`` has made of ``web/``, by the path below the prefix, with its headers.

Nothing here runs on the server. The app by itself and the page of
the recovery PIN may not be framed. The widget may, by anybody, and therefore never
sees the session that the app keeps in the browser: it signs in with what the client around it gives (sessions.py).
"""

import mimetypes
from collections.abc import Iterator, Mapping, Sequence
from importlib.resources import files
from importlib.resources.abc import Traversable
from types import MappingProxyType
from typing import Final

from synapse_super_app.web.served import File

_FOREVER: Final = "public, max-age=31536000, immutable"
_WORKER_POLICY: Final = "superapp-worker"
"""The one policy of Trusted Types: it lets through the address of the service worker and nothing else (worker.ts)."""
_TYPES: Final = {".js": "text/javascript; charset=utf-8", ".webmanifest": "application/manifest+json"}


def app_files(others: Sequence[str] = ()) -> dict[str, File]:
    """``others`` are origins that the app may talk to besides this one."""
    found: dict[str, File] = {}
    for path, file in _walk(files("synapse_super_app.web").joinpath("built"), ""):
        kind = _TYPES.get("." + path.rpartition(".")[2]) or mimetypes.guess_type(path)[0] or "application/octet-stream"
        match path.split("/"):
            case ["app", "index.html"]:
                headers = _document("frame-ancestors 'none'", others, has_worker=True)
                found["app/"] = File(content_type="text/html; charset=utf-8", content=file, headers=headers)
            case ["recover", "index.html"]:
                headers = _document("frame-ancestors 'none'", others)
                found["recover/"] = File(content_type="text/html; charset=utf-8", content=file, headers=headers)
            case ["widget", "index.html"]:
                headers = {**_document("frame-ancestors *"), "Cross-Origin-Resource-Policy": "cross-origin"}
                found["widget/"] = File(content_type="text/html; charset=utf-8", content=file, headers=headers)
            case ["sw.js"]:
                # What a worker may ask is said by its own answer. It is asked for anew whenever the app opens.
                policy = "default-src 'none'; connect-src 'self'"
                found[path] = File(content_type=kind, content=file, headers={"Content-Security-Policy": policy})
            case ["assets", _]:
                # Their names hold the hash of their content.
                found[path] = File(content_type=kind, content=file, headers={"Cache-Control": _FOREVER})
            case _:
                found[path] = File(content_type=kind, content=file)
    return found


def _document(framing: str, others: Sequence[str] = (), *, has_worker: bool = False) -> Mapping[str, str]:
    policies = _WORKER_POLICY if has_worker else "'none'"
    connect = " ".join(["'self'", *others])
    policy = (
        f"default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob:; media-src 'self' blob:; "
        f"connect-src {connect}; manifest-src 'self'; base-uri 'none'; form-action 'none'; {framing}; "
        f"require-trusted-types-for 'script'; trusted-types {policies}"
    )
    return MappingProxyType(
        {
            "Content-Security-Policy": policy,
            "Permissions-Policy": "camera=(self), microphone=(self), geolocation=(), payment=(), usb=()",
        }
    )


def _walk(folder: Traversable, prefix: str) -> Iterator[tuple[str, bytes]]:
    for each in sorted(folder.iterdir(), key=lambda found: found.name):
        if each.is_dir():
            yield from _walk(each, f"{prefix}{each.name}/")
        else:
            yield prefix + each.name, each.read_bytes()
