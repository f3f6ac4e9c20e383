"""Raft as a value-in, value-out machine: events in, effects out, and no I/O of any kind."""
