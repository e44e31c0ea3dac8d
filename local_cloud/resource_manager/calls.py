"""A call of ARM: its caller, its path and api-version, and what an answer to it is."""

import re
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass

from aiohttp import web

_ASSIGNED = re.compile(r"assignedTo\('([^']*)'\)")
_EQUALS = re.compile(r"(\w+) eq '([^']*)'")


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """A request of a known caller to a known path; ``parts`` are the named parts of the path."""

    request: web.Request
    caller: str
    version: str
    parts: Mapping[str, str]

    @property
    def path(self) -> str:
        """The path that was called, without a slash at its end."""
        return self.request.path.rstrip("/")

    @property
    def filter(self) -> str:
        """The text of ``$filter``; empty if there is none."""
        return self.request.query.get("$filter", "")

    def wanted(self) -> Mapping[str, str]:
        """The values that ``$filter`` wants members to have, in lower case, by their names."""
        wanted = {name: value.lower() for name, value in _EQUALS.findall(self.filter)}
        if assigned := _ASSIGNED.search(self.filter):  # nobody is in a group here
            wanted["principalId"] = assigned[1].lower()
        return wanted

    def url(self, path: str) -> str:
        """An absolute URL on the host that was called."""
        return f"{self.request.scheme}://{self.request.host}{path}?api-version={self.version}"


Answer = Callable[[Call], Awaitable[web.StreamResponse]]

Allow = Callable[[str, str, str, frozenset[str]], None]
"""Refuses a caller an action on a scope, who has none of these roles there."""

READ = frozenset({"reader", "contributor", "owner"})
WRITE = frozenset({"contributor", "owner"})
OWN = frozenset({"owner"})
