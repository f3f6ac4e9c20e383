"""The crash disk, its exhaustive check of a store, and the store conformance kit."""
