"""The target: an uploaded bundle manifest is judged, and its bundle is verified, imported and proven."""
