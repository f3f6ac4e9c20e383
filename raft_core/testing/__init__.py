"""Tell where this module of release 0.1 went. Goes away with the next release."""

raise ImportError(
    "raft_core.testing is now the package raft_testing; python -m raft_core.testing is python -m raft_testing"
)
