"""Old copies of a node's database, and the way back from one."""

import sqlite3

from nodes import EUR, Node
from world import Disk

from super_app.clearing import recovery_store
from super_app.clearing.recovery_model import RestoreId
from super_app.ledger import service as ledger
from super_app.ledger.model import AccountKind, house


def backup(node: Node) -> sqlite3.Connection:
    """A copy of its database as it is now."""
    disk = node.tx
    assert isinstance(disk, Disk)
    return disk.copy()


def restore(node: Node, copy: sqlite3.Connection, *, boot: str, marked: bool = True) -> None:
    """Start it on a copy; marked is what ``super-app restore`` does."""
    node.tx = Disk(Disk(copy).copy())
    if marked:
        node.tx(lambda cur: recovery_store.mark(cur, RestoreId(f"restore {boot}"), node.now_ms))
    node.start(boot)
    node.tx(lambda cur: node.clearing.started(cur, node.now_ms))


def suspense(node: Node) -> int:
    return node.tx(lambda cur: ledger.balance(cur, house(AccountKind.SUSPENSE, EUR.code)))
