"""Before an account is first used its owner may set a recovery key, and with it change what its acct is the hash of."""

from super_app.accounts import store as accounts
from super_app.accounts.model import Account, Genesis
from super_app.db import Cursor
from super_app.directory import store
from super_app.errors import Reason, Refused
from super_app.ids import UserId


def set_recovery_key(cur: Cursor, user_id: UserId, genesis: Genesis) -> Account | Refused:
    """Give an account that nobody has used another genesis; the account, with its new acct.

    The same key again changes nothing, also later.
    """
    account = accounts.by_user_id(cur, user_id)
    if account is None:
        raise RuntimeError(f"{user_id} has to have an account before it sets a recovery key")
    if accounts.genesis_of(cur, user_id).get("recovery_key") == genesis.recovery_key:
        return account
    if not accounts.lock_unused(cur, account.acct):
        return Refused(
            reason=Reason.CONFLICT,
            message=(
                "Your account has been used, so its id is fixed and a recovery key cannot become part of it any more; "
                "it can be set only before your first claim, contact, call or payment."
            ),
        )
    accounts.add_in_place_of(cur, account, genesis)
    store.hand_over(cur, account.acct, genesis.acct())
    return accounts.remove_replaced(cur, account, genesis)
