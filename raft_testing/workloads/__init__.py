"""Workloads: simulated clients and the state machines they use."""
