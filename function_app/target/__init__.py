"""The target: an uploaded bundle manifest is judged; what it speaks of is verified, imported and proven."""
