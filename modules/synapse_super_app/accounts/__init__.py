"""Accounts and contacts in the homeserver: ``AccountBook`` and the contact routes."""

from synapse_super_app.accounts.book import AccountBook

__all__ = ["AccountBook"]
