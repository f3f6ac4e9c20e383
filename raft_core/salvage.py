"""Tell where this module of release 0.1 went. Goes away with the next release."""

raise ImportError("raft_core.salvage is now raft_core.quorum_loss")
