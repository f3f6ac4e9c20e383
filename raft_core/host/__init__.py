"""A running node's decisions without I/O: what both adapters would otherwise decide twice."""
