"""Whatever is taken out of a template, a rule says so: one thing at a time, everything in turn."""

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

import pytest

from infra.expansion import ExpansionError, Memory
from infra.rules import Choice, broken_by, deploy
from infra.rules.language import faults_of_one
from infra.templates import SIDES, arm_path
from tests.infra.template_mutants import Mutant, Path, mutants, paths, without

pytestmark = pytest.mark.timeout(600)  # ten seconds on a core that has nothing else to do
MUTANTS = list(mutants())
LEAST = 1500
"""So many there are at least: fewer would mean that something is not taken out any more."""

CHOICES = (
    *(
        choice
        for side in SIDES
        for choice in (
            Choice(side=side, has_defaults=False),
            Choice(side=side, hosting="flex", access="SasToken", app_roles="builtIn"),
            Choice(side=side),
            Choice(side=side, events="eventGrid", pipeline_identity="UserAssigned"),
        )
    ),
    Choice(side="source", access="SasToken"),
    Choice(side="target", import_way="staged", has_defaults=False),
    Choice(side="target", malware_scanning="defender", has_defaults=False),
    Choice(side="source", told="webhook", has_defaults=False),
    Choice(side="target", told="webhook", hosting="flex"),
    Choice(side="target", malware_scanning="defender", app_roles="builtIn"),
    Choice(side="target", import_way="staged", access="SasToken", app_roles="builtIn"),
)
"""Together they deploy every resource, and pass every parameter."""

ACCEPTED: Mapping[str, str] = {
    r".*: parameters\.\w+\.metadata(\.description)?": "words for whoever fills in the form",
    r".*: outputs\.\w+\.metadata(\.description)?": "words for whoever reads the template",
    r".*/transfer-storage: resources\.3\.dependsOn\.0": "it waits for the containers, and they for that",
    r".*/vault: .*\.contentType": "words for whoever lists the secrets",
}
"""What nobody notices, each with the reason why that does no harm."""


class Notice:
    """Looks for what is wrong with the templates of the sides, and remembers what was in order."""

    def __init__(self) -> None:
        self._in_order: dict[int, Any] = {}
        self._memory: Memory = {}

    def faults(self, mutant: Mutant) -> Iterator[str]:
        """What is wrong, the cheapest to find first."""
        sides = mutant.sides
        for whole in sides.values():
            for template in templates(whole):
                if id(template) not in self._in_order:
                    yield from faults_of_one(template)
                    self._in_order[id(template)] = template
        for choice in CHOICES:
            if choice.side in sides and not is_of_words(mutant.path):
                yield from self._faults_of(sides[choice.side], choice)

    def _faults_of(self, whole: Any, choice: Choice) -> Iterator[str]:
        try:
            deployed = deploy(whole, choice, memory=self._memory)
            yield from broken_by(deployed)
        except (ExpansionError, LookupError) as error:
            yield f"{type(error).__name__}: {error}"


def templates(template: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """A template and those of its modules."""
    yield template
    for resource in template.get("resources", ()):
        properties = resource.get("properties")
        if isinstance(properties, dict) and "template" in properties:
            yield from templates(properties["template"])


def is_of_words(path: Path) -> bool:
    """Whether a mutant lacks words for people only: they are known to change nothing that is deployed."""
    match path:
        case ("parameters" | "outputs", _, "metadata", *_):
            return True
    return False


def without_words(template: dict[str, Any]) -> dict[str, Any]:
    """A copy of a template and of those of its modules, without any words for people."""
    for path in [one for one in paths(template) if is_of_words(one) and one[-1] == "metadata"]:
        template = without(template, path)
    resources = []
    for resource in template["resources"]:
        properties = resource.get("properties")
        if isinstance(properties, dict) and "template" in properties:
            inner = without_words(properties["template"])
            resource = {**resource, "properties": {**properties, "template": inner}}  # noqa: PLW2901
        resources.append(resource)
    return {**template, "resources": resources}


def is_accepted(mutant: Mutant) -> bool:
    """Whether it is known that nobody notices, and why."""
    return any(re.fullmatch(pattern, mutant.name) for pattern in ACCEPTED)


@pytest.fixture(scope="module")
def survivors() -> list[Mutant]:
    """The mutants with which nothing is wrong."""
    notice = Notice()
    return [mutant for mutant in MUTANTS if next(notice.faults(mutant), None) is None]


def test_whatever_is_taken_out_of_a_template_a_rule_says_so(survivors: list[Mutant]) -> None:
    assert [mutant.name for mutant in survivors if not is_accepted(mutant)] == []


@pytest.mark.parametrize("choice", CHOICES, ids=str)
def test_words_for_people_change_nothing_that_is_deployed(choice: Choice) -> None:
    whole = json.loads(arm_path(choice.side).read_text(encoding="utf-8"))
    wordless = without_words(whole)
    assert "metadata" in json.dumps(whole)
    assert "metadata" not in json.dumps(wordless)
    assert deploy(wordless, choice).expansion == deploy(whole, choice).expansion


def test_everything_is_taken_out_in_turn() -> None:
    assert len(MUTANTS) > LEAST
    assert len({(mutant.place, mutant.path) for mutant in MUTANTS}) == len(MUTANTS)


@pytest.mark.parametrize("pattern", ACCEPTED)
def test_what_is_accepted_is_there_and_goes_unnoticed(pattern: str, survivors: list[Mutant]) -> None:
    matching = [mutant for mutant in MUTANTS if re.fullmatch(pattern, mutant.name)]
    assert matching != []
    assert [mutant for mutant in matching if mutant not in survivors] == []
