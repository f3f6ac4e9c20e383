"""What this library costs, in figures that anybody can take again: `python -m benchmarks`."""
