"""The building blocks in which the orchestrations of both sides are written."""
