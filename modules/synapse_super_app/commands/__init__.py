"""The ``super-app`` command: start a homeserver, show two of them, and ask a running one through its HTTP API.

Owns processes, files and sentences for people. It reaches a homeserver's database only through a running homeserver.
"""
