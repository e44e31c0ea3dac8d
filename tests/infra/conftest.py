"""The app package reads ``TRANSFER_ROLE`` when it is imported, as the Functions worker does it."""

import os

os.environ.setdefault("TRANSFER_ROLE", "source")
