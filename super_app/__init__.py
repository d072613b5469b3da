"""The domain of Super App for Matrix: who people are, whose money it is, how homeservers agree, who may ring.

Pure and synchronous. It imports the standard library and a few pure libraries, never Twisted, Synapse, asyncio or a
database driver; those live in ``modules/synapse_super_app``, which imports this package and never the reverse.
"""
