"""Histories of the real orchestrators on the local Functions host's engine: how large they get."""

import os

# The package reads its role while it is imported, as the worker does.
os.environ.setdefault("TRANSFER_ROLE", "source")
