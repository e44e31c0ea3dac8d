"""The faults of a template, or of the values that it is given."""


class ExpansionError(Exception):
    """The template cannot be deployed as it is; the message says where and why."""

    def __init__(self, place: str, reason: str) -> None:
        super().__init__(f"{place}: {reason}")
        self.place = place
        self.reason = reason


class LanguageError(Exception):
    """The expression has no value; whoever evaluates it knows the place."""
