"""One class per role, holding only that role's state. Handlers return the arrow to follow; they never import one
another, and never change the role."""
