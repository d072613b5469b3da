"""Money put aside for people who are still to come: gifts in a room, and links that somebody claims.

It is their giver's until a claim pays it out, as a payment like any other.
"""
