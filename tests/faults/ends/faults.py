"""What goes wrong between the app and its services, by class, and with which requests."""

from __future__ import annotations

import json
import threading
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from tests.faults import proxy
from tests.faults.proxy import Act, Answer, Asked, HungUpError, Rule

When = Callable[[Asked], bool]

REGISTRIES = frozenset({"registry", "staging registry"})


def kind_of(asked: Asked) -> str:
    """What kind of request it is, whatever it is about: ``storage PUT journal``, ``arm GET pipelineRuns``."""
    path = asked.target.partition("?")[0].strip("/").split("/")
    match asked.service:
        case "storage":
            is_copy = any(name.lower() == "x-ms-copy-source" for name in asked.headers)
            place = f"{asked.container} {asked.comp or ('copy' if is_copy else '')}".strip()
        case "table":
            place = "entity" if "(" in asked.target else "entities"
        case "arm":
            place = path[-1] if path[-1] in {"importImage", "pipelineRuns"} else path[-2]
        case "vault":
            place = "sign" if path[-1] == "sign" else path[0]
        case _:
            place = next(
                (word for word in ("oauth2", "manifests", "_catalog", "tags", "_tags") if word in path),
                "repository",
            )
    return f"{asked.service} {asked.method} {place}"


def is_read(asked: Asked) -> bool:
    """Whether the request changes nothing."""
    return asked.method in {"GET", "HEAD"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """A class of faults, and whom it may befall."""

    name: str
    act: Act
    when: When = lambda _: True
    passing: int = 2
    """So many requests pass before a service is away; an import asks a vault but twice."""


def _of(*services: str) -> When:
    return lambda asked: asked.service in services


def _answered_in_half(asked: Asked, forward: proxy.Forward) -> Answer:
    answer = forward(asked)
    if asked.method == "HEAD" or len(answer.body) < 2:
        raise HungUpError
    raise HungUpError(answer, len(answer.body) // 2)


FAULTS = (
    Fault(name="503", act=proxy.status(503)),
    Fault(name="500", act=proxy.status(500)),
    Fault(name="429", act=proxy.status(429, {"Retry-After": "1"})),
    Fault(name="dropped", act=proxy.drop),
    Fault(name="answer lost", act=proxy.lose_answer),
    Fault(name="half an answer", act=_answered_in_half),
    Fault(name="401 of a registry", act=proxy.status(401), when=lambda asked: asked.service in REGISTRIES),
    Fault(
        name="409 of ARM",
        act=proxy.status(409),
        when=lambda asked: asked.service == "arm" and asked.method == "PUT",
    ),
)
"""Each befalls every request of an import once, then each kind of request so often that SDKs give up."""

AWAY = (
    Fault(name="storage is away", act=proxy.status(503), when=_of("storage")),
    Fault(name="storage drops", act=proxy.drop, when=_of("storage")),
    Fault(name="table is away", act=proxy.status(503), when=_of("table")),
    Fault(name="registry is away", act=proxy.status(503), when=_of(*REGISTRIES)),
    Fault(name="ARM is away", act=proxy.status(500), when=_of("arm")),
    Fault(name="ARM throttles", act=proxy.status(429, {"Retry-After": "1"}), when=_of("arm")),
    Fault(name="vault is away", act=proxy.drop, when=_of("vault"), passing=0),
    Fault(name="vault throttles", act=proxy.status(429), when=_of("vault"), passing=0),
)
"""A service that is away for longer than one step is tried: for many requests in a row."""


@dataclass(slots=True)
class Each:
    """Matches each request, or each kind, for its first ``times`` times, and counts them."""

    fault: Fault
    key: Callable[[Asked], str]
    times: int
    skip: int = 0
    """So many pass first."""
    hits: Counter[str] = field(default_factory=Counter)
    _seen: Counter[str] = field(default_factory=Counter)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def __call__(self, asked: Asked) -> bool:
        if not self.fault.when(asked):
            return False
        key = self.key(asked)
        with self._lock:
            self._seen[key] += 1
            if not self.skip < self._seen[key] <= self.skip + self.times:
                return False
            self.hits[kind_of(asked)] += 1
        return True

    @property
    def rule(self) -> Rule:
        """For the proxy's script."""
        return Rule(when=self, act=self.fault.act, times=1_000_000)


def each_request(fault: Fault) -> Each:
    """Every request once, going by service, method and target: two registries have the same paths."""
    return Each(fault, lambda asked: f"{asked.service} {asked.method} {asked.target}", times=1)


def each_kind(fault: Fault, times: int) -> Each:
    """Every kind of request, so often in a row."""
    return Each(fault, kind_of, times=times)


def in_a_row(fault: Fault, times: int) -> Each:
    """All requests but the first few, so often."""
    return Each(fault, lambda _: "", times=times, skip=fault.passing)


def reported(**properties: Any) -> Act:
    """A pipeline run's answer, with other properties; those of ``response`` are merged into its own."""

    def change(answer: Answer) -> Answer:
        if answer.status != 200:
            return answer
        body: dict[str, Any] = json.loads(answer.body)
        merged = _merged(body["properties"], properties)
        return replace(answer, body=json.dumps({**body, "properties": merged}).encode())

    return proxy.changed(change)


def _merged(old: Mapping[str, Any], new: Mapping[str, Any]) -> dict[str, Any]:
    merged = dict(old)
    for name, value in new.items():
        merged[name] = _merged(merged.get(name) or {}, value) if isinstance(value, dict) else value
    return {name: value for name, value in merged.items() if value is not None}


def is_run(asked: Asked) -> bool:
    """Whether a pipeline run is asked after."""
    return kind_of(asked) == "arm GET pipelineRuns"
