"""The faults of a Bicep file, and their places."""

from typing import NamedTuple


class Place(NamedTuple):
    """A place in a file: line and column, both counted from one; columns in code points."""

    line: int
    column: int


class BicepError(Exception):
    """The text is no Bicep, or uses what this compiler does not know; the message names place and word."""

    def __init__(self, place: Place, what: str) -> None:
        super().__init__(f"line {place.line}, column {place.column}: {what}")
        self.place = place
