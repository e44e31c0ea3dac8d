"""What can be wrong with a template or with the values it is given."""


class ExpansionError(Exception):
    """A template that cannot be deployed as it is; the message says where and why."""

    def __init__(self, place: str, reason: str) -> None:
        super().__init__(f"{place}: {reason}")
        self.place = place
        self.reason = reason


class LanguageError(Exception):
    """An expression that has no value; whoever evaluates it knows the place."""
