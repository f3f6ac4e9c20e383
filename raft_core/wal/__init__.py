"""The write-ahead log as bytes: its format, its incremental reader and the plan by which a disk is recovered."""
