"""Mutants that no test can notice: they refuse and accept just what the module does. Each with its reason."""

from collections.abc import Mapping

EQUIVALENT: Mapping[str, Mapping[str, str]] = {}
