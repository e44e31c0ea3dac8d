"""The attack corpus: named attacks on the trust path, each with the state that it leaves behind."""

import os

# The package reads its role while it is imported, as the worker does.
os.environ.setdefault("TRANSFER_ROLE", "source")
