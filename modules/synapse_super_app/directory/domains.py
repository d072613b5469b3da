"""Asks a domain whom it names: a file on its web server, or a TXT record in the DNS. Either is enough.

https://example.org/.well-known/superapp/handles.json    {"handles": ["@alice:hs.example"]}
_superapp.example.org.  TXT  "handle=@alice:hs.example"
"""

import json
import logging
import re
from collections.abc import Mapping
from enum import Enum
from typing import Any, Final, cast

from twisted.internet.defer import Deferred
from twisted.internet.error import DNSLookupError
from twisted.internet.error import TimeoutError as TwistedTimeout
from twisted.names import client, dns
from twisted.names.error import DomainError, ResolverError

from super_app.ids import Handle
from synapse_super_app.private_api import PrivateApi, yieldable

logger = logging.getLogger(__name__)

WELL_KNOWN: Final = "/.well-known/superapp/handles.json"
TXT_NAME: Final = "_superapp"
_TXT_PREFIX: Final = "handle="
_MAX_BYTES: Final = 65_536
_WEB_TIMEOUT_MS: Final = 10_000
_DNS_TIMEOUTS_S: Final = (2, 4)
_LABEL: Final = "[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?"
_DOMAIN: Final = re.compile(rf"(?=.{{1,243}}$){_LABEL}(\.{_LABEL})+")
"""With room for ``_superapp.`` before it (RFC 1035, section 2.3.4)."""


class Word(Enum):
    """What a domain says about a handle."""

    NAMES_IT = "names it"
    NAMES_OTHERS = "names others"  # it has a list, and the handle is not in it
    SILENT = "silent"  # nothing was found; it may be away


def is_domain(text: str) -> bool:
    """Whether a text has the form of a public domain, in lower case."""
    return _DOMAIN.fullmatch(text) is not None


class Domains:
    """``scheme`` is https but in tests."""

    def __init__(self, private: PrivateApi, dns_servers: tuple[str, ...], scheme: str = "https") -> None:
        self._private = private
        self._dns_servers = dns_servers
        self._scheme = scheme

    async def ask(self, domain: str, handle: Handle) -> Word:
        """Whether a domain names a handle."""
        web, txt = await self._web(domain), await self._txt(domain)
        if handle in web or handle in txt:
            return Word.NAMES_IT
        return Word.NAMES_OTHERS if web or txt else Word.SILENT

    async def _web(self, domain: str) -> frozenset[str]:
        found = await self._private.fetch(f"{self._scheme}://{domain}{WELL_KNOWN}", _MAX_BYTES, _WEB_TIMEOUT_MS)
        try:
            content: object = None if found is None else json.loads(found)
        except (ValueError, RecursionError):
            return frozenset()
        handles = cast(Mapping[str, Any], content).get("handles") if isinstance(content, dict) else None
        return (
            frozenset(str(each) for each in cast(list[object], handles)) if isinstance(handles, list) else frozenset()
        )

    async def _txt(self, domain: str) -> frozenset[str]:
        # The DNS has no ports.
        name = f"{TXT_NAME}.{domain.partition(':')[0]}"
        asked = cast("Deferred[Any]", self._resolver().lookupText(name, timeout=list(_DNS_TIMEOUTS_S)))
        try:
            answers, _, _ = await yieldable(asked)
        except (DomainError, ResolverError, DNSLookupError, TwistedTimeout, OSError, ValueError):
            return frozenset()
        texts = [
            b"".join(answer.payload.data).decode("utf-8", "replace")
            for answer in answers
            if answer.type == dns.TXT and isinstance(answer.payload, dns.Record_TXT)
        ]
        return frozenset(text.removeprefix(_TXT_PREFIX).strip() for text in texts if text.startswith(_TXT_PREFIX))

    def _resolver(self) -> Any:
        # twisted.names has no types.
        names: Any = client
        if not self._dns_servers:
            return names.createResolver()
        return names.Resolver(servers=[_address(each) for each in self._dns_servers])


def _address(text: str) -> tuple[str, int]:
    """``192.0.2.1``, ``192.0.2.1:5353``, ``2001:db8::1`` or ``[2001:db8::1]:5353``."""
    if text.startswith("["):
        host, _, port = text.removeprefix("[").partition("]")
        return host, int(port.removeprefix(":") or 53)
    host, _, port = text.partition(":")
    return (text, 53) if ":" in port else (host, int(port or 53))
