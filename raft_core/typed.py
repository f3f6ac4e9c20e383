"""Tell where this module of release 0.1 went. Goes away with the next release."""

raise ImportError("raft_core.typed is now raft_core.typed_state_machine; Vocabulary is Schema")
