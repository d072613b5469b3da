"""The page at ``/superapp/claim/``, where links to money lead: how to claim it, for somebody who knows nothing of us.

It is static and runs no script. What claims the money stands behind the ``#`` of the address, which no browser sends.
"""

from importlib.resources import files

from jinja2 import Environment, StrictUndefined

from synapse_super_app.web.served import File


def claim_files(*, server_name: str, homeserver_url: str) -> dict[str, File]:
    """The page by its path below the prefix."""
    page = files("synapse_super_app.web").joinpath("page", "claim.html")
    template = Environment(autoescape=True, undefined=StrictUndefined).from_string(page.read_text(encoding="utf-8"))
    html = template.render(server_name=server_name, homeserver_url=homeserver_url.rstrip("/"))
    return {"claim/": File(content_type="text/html; charset=utf-8", content=html.encode())}
