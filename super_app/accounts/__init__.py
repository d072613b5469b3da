"""Accounts and contacts: the core that every feature stands on.

``acct`` names an account for ever; the Matrix id and the handle are attributes of it (design.md, principle 3).
"""
