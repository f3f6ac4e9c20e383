"""Stories of a cluster as readable scripts, each with its recorded outcome in the same file."""
