"""What every suite may use: one private PostgreSQL server for the whole run."""

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from synapse_super_app.commands.postgres import PrivatePostgres


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[PrivatePostgres]:
    """A PostgreSQL server that ends with the run. It loses data when the machine stops, which buys the tests speed."""
    folder = Path(tempfile.mkdtemp(prefix="superapp-tests-"))
    folder.chmod(0o711)  # root's tests start it as another account, which must pass through
    server = PrivatePostgres(
        folder,
        settings={"fsync": "off", "synchronous_commit": "off", "full_page_writes": "off", "max_connections": "200"},
    )
    try:
        with server:
            yield server
    finally:
        shutil.rmtree(folder)
