"""The tools that test this library, for your own state machine and store as well: public, documented, pure.

`sim`: the simulator of whole clusters. `disk`: the crash disk and the conformance checks of stores. `linearizability`:
histories and their checker. `trace`: traces and their pages. `model_checker`: exhaustive search of the protocol core.
Import from these modules; start with `docs/testing.md`.
"""
