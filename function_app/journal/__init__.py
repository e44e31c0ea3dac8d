"""The journal in its container, and its projection rebuilt from it: ``python -m function_app.journal``."""
