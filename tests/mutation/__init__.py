"""Real mistakes, planted one by one: each must turn the tests red. `python -m tests.mutation` runs them."""
