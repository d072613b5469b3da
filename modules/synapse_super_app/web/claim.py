"""The page at ``/superapp/claim/``, where links to money lead: how to claim it, for somebody who knows nothing of us.

What claims the money stands behind the ``#`` of the address, which no browser sends. The page's one script carries it
on to the wallet, which is on the same origin; without it people copy the address themselves.
"""

from importlib.resources import files

from jinja2 import Environment, StrictUndefined

from synapse_super_app.web.served import HEADERS, File


def claim_files(*, server_name: str, homeserver_url: str) -> dict[str, File]:
    """The page by its path below the prefix."""
    page = files("synapse_super_app.web").joinpath("page", "claim.html")
    template = Environment(autoescape=True, undefined=StrictUndefined).from_string(page.read_text(encoding="utf-8"))
    html = template.render(server_name=server_name, homeserver_url=homeserver_url.rstrip("/"))
    script = files("synapse_super_app.web").joinpath("page", "claim.js").read_bytes()
    policy = HEADERS["Content-Security-Policy"].replace("style-src", "script-src 'self'; style-src", 1)
    return {
        "claim/": File(
            content_type="text/html; charset=utf-8",
            content=html.encode(),
            headers={"Content-Security-Policy": policy},
        ),
        "claim/claim.js": File(content_type="text/javascript; charset=utf-8", content=script),
    }
