"""Measurements of the mover against what operators use today; ``./dev bench`` runs them (README.md)."""
