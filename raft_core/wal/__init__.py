"""The write-ahead log as bytes: its format, its incremental reader and the recovery plan."""
