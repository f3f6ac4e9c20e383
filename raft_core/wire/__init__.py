"""How bytes between nodes are framed, checked and decoded."""
