"""The demo's certificates are verified like any others."""

import socket
import ssl
import threading
from pathlib import Path

import pytest

from synapse_super_app.commands.certificates import ServerCertificate, ThrowAwayCa


def shake_hands(served: ServerCertificate, trusted: Path, name: str) -> None:
    """A TLS handshake on loopback as a federating homeserver makes it."""
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(served.certificate_path, served.key_path)
    client = ssl.create_default_context(cafile=str(trusted))
    here, there = socket.socketpair()

    def serve() -> None:
        try:
            with server.wrap_socket(there, server_side=True) as stream:
                stream.recv(1)
        except (ssl.SSLError, OSError):
            there.close()

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        with client.wrap_socket(here, server_hostname=name) as stream:
            stream.send(b"!")
    finally:
        here.close()
        thread.join()


def test_a_peer_under_the_same_authority_is_trusted_by_its_address(tmp_path: Path) -> None:
    ca = ThrowAwayCa(tmp_path)
    shake_hands(ca.issue("hs1", "127.0.0.1"), ca.ca_path, "127.0.0.1")


def test_a_peer_under_another_authority_is_not(tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    other = ThrowAwayCa(tmp_path / "other")
    with pytest.raises(ssl.SSLCertVerificationError):
        shake_hands(ThrowAwayCa(tmp_path).issue("hs1", "127.0.0.1"), other.ca_path, "127.0.0.1")


def test_a_certificate_is_for_its_address_only(tmp_path: Path) -> None:
    ca = ThrowAwayCa(tmp_path)
    with pytest.raises(ssl.SSLCertVerificationError, match="IP address mismatch"):
        shake_hands(ca.issue("hs1", "127.0.0.1"), ca.ca_path, "127.0.0.2")


def test_keys_are_for_their_owner_only_and_that_of_the_authority_is_nowhere(tmp_path: Path) -> None:
    served = ThrowAwayCa(tmp_path).issue("hs1", "127.0.0.1")
    assert served.key_path.stat().st_mode & 0o077 == 0
    assert {path.name for path in tmp_path.iterdir()} == {"ca.crt", "hs1.crt", "hs1.key"}
