"""The rules for ARM JSON: both sides keep them in every way to deploy them, and what breaks one is told."""

import copy
import itertools
import json
import re
from collections.abc import Callable
from typing import Any

import pytest

from infra.rules import CHOICES, RELATIONS, VALUES, Choice, broken_by, deploy, faults
from infra.rules.language import API_VERSIONS
from infra.templates import FOLDER, SIDES, arm_path

CLOUDS = sorted(path.stem for path in (FOLDER / "parameters").glob("*.json"))


def template(side: str) -> dict[str, Any]:
    """The ARM template of a side."""
    found: dict[str, Any] = json.loads(arm_path(side).read_text(encoding="utf-8"))
    return found


@pytest.mark.parametrize("side", SIDES)
def test_template_keeps_the_rules_of_the_language(side: str) -> None:
    assert list(faults(template(side))) == []


def test_choices_are_all_that_can_be_combined() -> None:
    ways = {
        "source": [("direct", "none")],
        "target": [("direct", "none"), ("staged", "none"), ("direct", "defender")],
    }
    chosen = {
        (one.side, one.import_way, one.malware_scanning, one.hosting, one.access, one.app_roles)
        for one in CHOICES
    }
    assert {
        (side, *way, hosting, access, app_roles)
        for side, hosting, access, app_roles in itertools.product(
            SIDES, ("dedicated", "flex"), ("ManagedIdentity", "SasToken"), ("custom", "builtIn")
        )
        for way in ways[side]
        if way[1] == "none" or (hosting, access) == ("dedicated", "ManagedIdentity")
    } <= chosen
    assert {(one.side, one.access) for one in CHOICES if one.pipeline_identity == "UserAssigned"} == {
        *itertools.product(SIDES, ("ManagedIdentity", "SasToken"))
    }
    assert {(one.side, one.hosting) for one in CHOICES if one.events} == {
        *itertools.product(SIDES, ("dedicated", "flex"))
    }
    assert {(one.side, one.has_defaults) for one in CHOICES} == {*itertools.product(SIDES, (False, True))}


@pytest.mark.parametrize("choice", CHOICES, ids=str)
def test_what_is_deployed_keeps_the_rules(choice: Choice) -> None:
    assert list(broken_by(deploy(template(choice.side), choice))) == []


@pytest.mark.parametrize("access", ["ManagedIdentity", "SasToken"])
@pytest.mark.parametrize("hosting", ["dedicated", "flex"])
@pytest.mark.parametrize("cloud", CLOUDS)
@pytest.mark.parametrize("side", SIDES)
def test_rules_hold_in_every_cloud(side: str, cloud: str, hosting: str, access: str) -> None:
    choice = Choice(side=side, hosting=hosting, access=access)
    assert list(broken_by(deploy(template(side), choice, cloud=cloud))) == []


def test_every_rule_has_a_reason_and_a_source() -> None:
    assert [value.path for value in VALUES if not (value.why and value.source)] == []
    assert [relation for relation in RELATIONS if not (relation.why and relation.source)] == []


def test_every_value_is_of_something_that_is_deployed() -> None:
    deployed = [deploy(template(choice.side), choice) for choice in CHOICES]
    kinds = {resource.type for one in deployed for resource in one.expansion.resources}
    assert {value.kind for value in VALUES} - kinds == set()


def test_every_version_that_is_listed_is_used() -> None:
    text = "".join(arm_path(side).read_text(encoding="utf-8") for side in SIDES)
    used = set(re.findall(r'"type": "(Microsoft\.[^"]+)",\s+"apiVersion": "([^"]+)"', text))
    assert used == {(kind, version) for kind, versions in API_VERSIONS.items() for version in versions}


BREAKS: dict[str, Callable[[dict[str, Any]], object]] = {
    "parameters prefix is not declared": lambda it: it["parameters"].pop("prefix"),
    "parameters more is not used": lambda it: it["parameters"].update(more={"type": "string"}),
    "variables pipelineName is not declared": lambda it: it["variables"].pop("pipelineName"),
    "is there twice": lambda it: it["resources"].append(it["resources"][0]),
    "userAssignedIdentities@2025-04-02 is not known": lambda it: it["resources"][0].update(
        apiVersion="2025-04-02"
    ),
    "has no member propertes": lambda it: it["resources"][0].update(propertes={}),
    "is named [parameters('prefix')]": lambda it: foundation(it)[1].update(
        type="Microsoft.Storage/storageAccounts/blobServices", name="[parameters('prefix')]"
    ),
    "is named by what is not known": lambda it: foundation(it)[0].update(condition="[reference('x').y]"),
}


def foundation(template: dict[str, Any]) -> list[dict[str, Any]]:
    """The resources of the module that both sides have."""
    module = next(one for one in template["resources"] if one["name"] == "foundation")
    found: list[dict[str, Any]] = module["properties"]["template"]["resources"]
    return found


@pytest.mark.parametrize("fault", BREAKS)
def test_broken_rule_is_told(fault: str) -> None:
    broken = copy.deepcopy(template("source"))
    BREAKS[fault](broken)
    assert [one for one in faults(broken) if fault in one] != []
