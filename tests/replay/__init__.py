"""Histories that were recorded once, and must lead today's orchestrators to the same actions."""

import os

# The package reads its role while it is imported, as the worker does.
os.environ.setdefault("TRANSFER_ROLE", "source")
