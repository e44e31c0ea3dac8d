"""The source: an HTTP call orders a transfer; it is planned, exported, hashed and sealed."""
