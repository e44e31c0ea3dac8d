"""Asks an HTTP API whatever its OpenAPI document allows and does not; each answer is held against that."""

import json
from collections.abc import Callable, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any

import jsonschema_rs
import requests
import schemathesis
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st
from schemathesis import Case, GenerationMode, Response
from schemathesis.checks import CHECKS

from tests.function_app.api_bodies import spoiled
from tests.function_app.api_double import URL

_SEED = 20261130
_NONE: st.SearchStrategy[None] = st.none()
"""The strategy of a call whose body, if it has one, schemathesis makes."""

_LEFT_OUT = frozenset(
    {
        "positive_data_acceptance",  # what the document allows, the trust policy may refuse
        "ignored_auth",  # the host asks for keys, not the app
    }
)


@dataclass(kw_only=True)
class Sweep:
    """Asks one side.

    Args:
        document: of the side, as it is served.
        send: gives the answer to a request.
        ids: of what is there, so that not everything is unknown.
        examples: how often each call is asked as the document allows, and how often as it does not.
        bodies: by the name of a call, what it is asked with, ``None`` for nothing: what schemathesis makes of
            large models takes minutes.
        once: calls that are asked once.
    """

    document: Mapping[str, Any]
    send: Callable[[requests.PreparedRequest], Response]
    examples: int
    ids: Sequence[str] = ()
    bodies: Mapping[str, st.SearchStrategy[Any]] = field(default_factory=dict)
    once: frozenset[str] = frozenset()
    statuses: dict[str, dict[int, int]] = field(default_factory=dict)
    """By call, how often each status was answered."""

    def run(self) -> int:
        """Ask all calls; how many requests that were.

        Raises:
            schemathesis.errors.FailureGroup: an answer is none that the document describes, a fault of the
                app, or what the document forbids was accepted.
        """
        document, asked = deepcopy(dict(self.document)), {}
        for call in (one for methods in document["paths"].values() for one in methods.values()):
            if call["operationId"] in self.bodies:
                asked[call["operationId"]] = call.pop("requestBody")
        for result in schemathesis.openapi.from_dict(document).get_all_operations():
            operation: Any = result.ok()  # type: ignore[union-attr]  # the document is a valid one
            name = operation.definition.raw["operationId"]
            bodies = self.bodies.get(name, _NONE)
            for mode in (GenerationMode.POSITIVE, GenerationMode.NEGATIVE):
                self._ask(name, operation, mode, bodies)
            if name in asked:
                wanted = asked[name]["content"]["application/json"]["schema"]
                wrong = spoiled(bodies, self._judge(wanted) if wanted else lambda _: False)
                self._ask(name, operation, GenerationMode.POSITIVE, wrong, is_refused=bool(wanted))
        return sum(count for told in self.statuses.values() for count in told.values())

    def _judge(self, wanted: Mapping[str, Any]) -> Callable[[Any], bool]:
        """Whether a body is one that the document allows."""
        schema = {**wanted, "components": self.document["components"]}
        is_allowed: Callable[[Any], bool] = jsonschema_rs.Draft202012Validator(schema).is_valid
        return is_allowed

    def _ask(
        self,
        name: str,
        operation: Any,
        mode: GenerationMode,
        bodies: st.SearchStrategy[Any],
        *,
        is_refused: bool = False,
    ) -> None:
        told = self.statuses.setdefault(name, {})
        checks: list[Any] = [check for check in CHECKS.get_all() if check.__name__ not in _LEFT_OUT]

        @seed(_SEED)
        @settings(
            max_examples=1 if name in self.once else self.examples,
            deadline=None,
            database=None,
            phases=[Phase.generate],
            suppress_health_check=list(HealthCheck),
        )
        @given(
            case=operation.as_strategy(generation_mode=mode),
            known=st.sampled_from([None, *self.ids]),
            body=bodies,
        )
        def ask(case: Case[Any], known: str | None, body: Any) -> None:
            if known is not None and mode is GenerationMode.POSITIVE:
                case.path_parameters.update(dict.fromkeys(case.path_parameters, known))
            said = case.as_transport_kwargs(base_url=f"{URL}/api")
            if bodies is not _NONE:
                said["data"] = b"" if body is None else json.dumps(body).encode()
            answer = self.send(requests.Request(**said).prepare())
            told[answer.status_code] = told.get(answer.status_code, 0) + 1
            case.validate_response(answer, checks=checks)
            is_fault_of_caller = (
                HTTPStatus.BAD_REQUEST <= answer.status_code < HTTPStatus.INTERNAL_SERVER_ERROR
            )
            assert is_fault_of_caller or not is_refused, body

        ask()
