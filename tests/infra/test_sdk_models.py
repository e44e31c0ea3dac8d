"""What the templates deploy is what Azure's management SDK knows, in every way to deploy them."""

import json
from collections.abc import Iterator, Mapping
from copy import deepcopy
from functools import cache
from typing import Any

import pytest

from infra.expansion import Resource
from infra.rules import CHOICES, deploy
from infra.templates import SIDES, arm_path
from tests.infra.sdk_models import MODELS, WITHOUT, faults, model_of


@cache
def deployed() -> dict[str, list[Resource]]:
    """Everything that is deployed in any way, by its type."""
    found: dict[str, list[Resource]] = {}
    wholes = {side: json.loads(arm_path(side).read_text(encoding="utf-8")) for side in SIDES}
    for choice in CHOICES:
        for resource in deploy(wholes[choice.side], choice).expansion.resources:
            found.setdefault(resource.type, []).append(resource)
    return found


def faults_of(kind: str, body: Any) -> list[str]:
    """What is wrong with what is sent for a resource of a type."""
    return list(faults(model_of(kind), body, kind.rpartition("/")[2]))


@pytest.mark.parametrize("kind", MODELS)
def test_whatever_is_sent_is_known_to_the_sdk(kind: str) -> None:
    judged = [(resource.name, faults_of(kind, resource.body)) for resource in deployed()[kind]]
    assert judged != []
    assert [(name, told) for name, told in judged if told] == []


def test_every_type_has_a_model_or_is_known_to_have_none() -> None:
    assert deployed().keys() == MODELS.keys() | WITHOUT


def bodies(kind: str, path: str) -> Iterator[Any]:
    """Copies of what is sent for a type, where there is something at that path."""
    for resource in deployed()[kind]:
        found: Any = resource.body
        for name in path.split("."):
            found = found.get(name) if isinstance(found, dict) else None
        if found is not None:
            yield deepcopy(resource.body)


EXPORT = "Microsoft.ContainerRegistry/registries/exportPipelines"
IMPORT = "Microsoft.ContainerRegistry/registries/importPipelines"
EVENTS = "Microsoft.EventGrid/systemTopics/eventSubscriptions"
MUTANTS: Mapping[str, tuple[str, str, dict[str, Any], str]] = {
    "misspelt": (EXPORT, "properties.target", {"Uri": "https://x/transfer"}, "Uri is not known"),
    "misplaced": (EXPORT, "properties", {"uri": "https://x/transfer"}, "uri is not known"),
    "read-only": (EXPORT, "properties", {"provisioningState": "Succeeded"}, "provisioningState is read-only"),
    "of another type": (EXPORT, "properties.target", {"uri": 7}, "uri is 7, no str"),
    "no list": (EXPORT, "properties", {"options": "OverwriteBlobs"}, "no list"),
    "no object": (IMPORT, "properties", {"source": "https://x/transfer"}, "source is no object"),
    "no such value": (IMPORT, "properties.trigger.sourceTrigger", {"status": "Off"}, "status is 'Off', none"),
    "no such value in a list": (IMPORT, "properties", {"options": ["Overwrite"]}, "none of"),
    "misspelt in one of several forms": (
        EVENTS,
        "properties.destination.properties",
        {"url": "https://x"},
        "url is not known",
    ),
    "missing": (IMPORT, "properties.trigger.sourceTrigger", {"status": None}, "status is missing"),
}


@pytest.mark.parametrize("mutant", MUTANTS)
def test_each_kind_of_fault_is_seen(mutant: str) -> None:
    kind, path, changed, said = MUTANTS[mutant]
    body = next(bodies(kind, path))
    found = body
    for name in path.split("."):
        found = found[name]
    found |= changed
    for name in [name for name, value in changed.items() if value is None]:
        del found[name]
    (fault,) = faults_of(kind, body)
    assert said in fault
