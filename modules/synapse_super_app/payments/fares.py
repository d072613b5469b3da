"""What calls ask of payments: whether a caller has paid to ring."""

from super_app.ids import Acct, UserId
from super_app.payments import store
from synapse_super_app.database import Database


class PaidFares:
    def __init__(self, database: Database) -> None:
        self._database = database

    async def paid_minor(self, payee: Acct, payer: UserId, currency: str, since_ms: int) -> int:
        """What a payer has paid an account of this homeserver since a time, refunds taken off."""
        return await self._database.run(
            "paid_fares", lambda cur: store.paid_minor(cur, payee, payer, currency, since_ms)
        )
