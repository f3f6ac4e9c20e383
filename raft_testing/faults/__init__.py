"""Faults that the simulator injects: network, disk, clients, operators, peers."""
