"""What the directory asks payments: whether people were paid under a handle, so that nobody else ever gets it."""

from super_app.db import Cursor, migrations
from super_app.ids import Acct, Handle
from super_app.payments import store


class PaymentTakings:
    """``super_app.directory.ports.Takings``, also while the payments feature is off: what was paid stays paid."""

    def has_received(self, cur: Cursor, acct: Acct, handle: Handle) -> bool:
        # Where payments were never on, their tables do not exist.
        return migrations.applied(cur, "super_app.payments") > 0 and store.has_received(cur, acct, handle)
