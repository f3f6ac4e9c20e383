"""Load clients for `compare`: sources, compiled at run time where a compiler is found."""
