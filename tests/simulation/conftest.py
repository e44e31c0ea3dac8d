import os

# The package reads its role while it is imported, as the worker does.
os.environ.setdefault("TRANSFER_ROLE", "source")
