"""Every template with one thing less: a member or an element, wherever it stands, one at a time."""

import json
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from infra.templates import SIDES, arm_path

Path = tuple[str | int, ...]


class Mutant(NamedTuple):
    """What was taken out of which template, and the sides' templates without it."""

    place: str
    path: Path
    sides: Mapping[str, Any]

    @property
    def name(self) -> str:
        """Template and path, as one text."""
        return f"{self.place}: {'.'.join(map(str, self.path))}"


def mutants() -> Iterator[Mutant]:
    """All of both sides; a module that is used several times is changed everywhere, as its file would be."""
    known: dict[str, Any] = {}
    places: dict[str, str] = {}
    roots = {}
    for side in SIDES:
        whole = json.loads(arm_path(side).read_text(encoding="utf-8"))
        roots[side] = _shared(whole, side, known, places)
    for text, template in known.items():
        for path in paths(template):
            changed = without(template, path)
            sides = {side: _replaced(root, template, changed) for side, root in roots.items()}
            yield Mutant(
                places[text], path, {side: one for side, one in sides.items() if one is not roots[side]}
            )


def paths(template: Any, above: Path = ()) -> Iterator[Path]:
    """What there is to take out, but for what is in the templates of modules."""
    items = enumerate(template) if isinstance(template, list) else template.items()
    for key, value in items:
        path = (*above, key)
        if key != "template":
            yield path
            if isinstance(value, list | dict):
                yield from paths(value, path)


def without(template: Any, path: Path) -> Any:
    """A copy without what stands there; what was not touched is the same."""
    key, *rest = path
    if isinstance(template, list):
        new = list(template)
        new[int(key) : int(key) + 1] = [without(template[int(key)], tuple(rest))] if rest else []
        return new
    kept = {**template, key: without(template[key], tuple(rest))} if rest else dict(template)
    if not rest:
        del kept[key]
    return kept


def _shared(
    template: dict[str, Any], place: str, known: dict[str, Any], places: dict[str, str]
) -> dict[str, Any]:
    """The same with each module's template one object, however often it stands there."""
    text = json.dumps(template)
    if text not in known:
        places[text] = place
        resources = [
            {**one, "properties": {**one["properties"], "template": inner}}
            if (inner := _inner(one, place, known, places)) is not None
            else one
            for one in template["resources"]
        ]
        known[text] = {**template, "resources": resources}
    found: dict[str, Any] = known[text]
    return found


def _inner(
    resource: dict[str, Any], place: str, known: dict[str, Any], places: dict[str, str]
) -> dict[str, Any] | None:
    properties = resource.get("properties")
    if not isinstance(properties, dict) or "template" not in properties:
        return None
    return _shared(properties["template"], f"{place}/{resource['name']}", known, places)


def _replaced(template: dict[str, Any], old: Any, new: Any) -> Any:
    """The template with one of those in it exchanged; the same object if it is not in it."""
    if template is old:
        return new
    resources = [_replaced_in(one, old, new) for one in template["resources"]]
    if all(one is other for one, other in zip(resources, template["resources"], strict=True)):
        return template
    return {**template, "resources": resources}


def _replaced_in(resource: dict[str, Any], old: Any, new: Any) -> dict[str, Any]:
    properties = resource.get("properties")
    if not isinstance(properties, dict) or "template" not in properties:
        return resource
    inner = _replaced(properties["template"], old, new)
    if inner is properties["template"]:
        return resource
    return {**resource, "properties": {**properties, "template": inner}}
