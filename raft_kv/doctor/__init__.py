"""`raft-kv doctor`: says what is not right with a cluster, a node's data or its configuration, and what to do.

Each check is a function from what was looked at to `Finding`s; `command` looks, prints, and returns the exit status.
"""
