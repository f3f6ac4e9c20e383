"""The recipes' workloads for the simulator, and what each recipe promises."""
