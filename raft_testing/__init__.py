"""The tools that prove this library, for your own state machine and store as well: public, documented, pure.

What lives here: the simulator of whole clusters (`simulator`), the crash disk and the store conformance kit, history
and linearizability checking, traces and their drawing, and the explorer of the protocol core. Import what you need from
the modules; each tells at its top what it is for. `docs/testing.md` begins at the beginning.
"""
