"""The roles: one class each, with only its own state.

Handlers return a transition and never change the role; the role modules never import one another.
"""
