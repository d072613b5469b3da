"""Payments that wait for the operator, because a name on a list is in them."""
