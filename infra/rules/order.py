"""The order of resources: whether one waits for another, by ``dependsOn`` alone.

The order that happens to come out does not count: ARM deploys side by side what need not wait.
``reference()`` of an id, as Bicep writes it, makes nothing wait:
https://learn.microsoft.com/azure/azure-resource-manager/templates/resource-dependency
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from typing import Any

from infra.expansion import Resource

Raw = Mapping[str, Any]
_SEGMENTS = re.compile(r"\[format\('(?:\{\d\}/)+\{\d\}', (.*)\)\]")


def waits(template: Raw, resource: Resource, other: Resource) -> bool:
    """Whether ``resource`` waits for ``other``, or for a module that deploys it."""
    own, others = resource.place.split("/")[1:], other.place.split("/")[1:]
    while own and others and own[0] == others[0]:
        template = _module(template["resources"], own[0])["properties"]["template"]
        own, others = own[1:], others[1:]
    resources = template["resources"]
    waiting = _module(resources, own[0]) if own else _resource(resources, resource)
    awaited = _module(resources, others[0]) if others else _resource(resources, other)
    return awaited is waiting or any(one is awaited for one in _awaited(resources, waiting))


def references(resources: Sequence[Raw], resource: Raw, text: str) -> Iterator[str]:
    """The resources that a resource is a part of, or names in its ``text``, and does not wait for."""
    awaited = set(resource.get("dependsOn", []))
    part_of = _parent_text(resource)
    for other in resources:
        words = id_text(other)
        is_named = words == part_of or words in text
        if is_named and other is not resource and "copy" not in other and f"[{words}]" not in awaited:
            yield words


def id_text(resource: Raw) -> str:
    """The expression for the id of a resource, as Bicep writes it."""
    return _id_text(resource["type"], resource["name"], resource.get("resourceGroup"))


@cache
def _id_text(kind: str, name: str, group: str | None) -> str:
    words = f"'{kind}', {', '.join(_names(name))})"
    if group is None:
        return f"resourceId({words}"
    scope = "format('/subscriptions/{0}/resourceGroups/{1}', subscription().subscriptionId, "
    return f"extensionResourceId({scope}{group[1:-1]}), {words}"


def _parent_text(resource: Raw) -> str | None:
    """The same for what a resource is a part of; ``None`` if it stands by itself."""
    kind, names = resource["type"], _names(resource["name"])
    if len(names) == 1:
        return None
    return f"resourceId('{kind.rpartition('/')[0]}', {', '.join(names[:-1])})"


@cache
def _names(name: str) -> list[str]:
    """The expressions for the names in a name: of a resource, behind those of what it is a part of."""
    segments = _SEGMENTS.fullmatch(name)
    if segments is None:
        return [name[1:-1] if name.startswith("[") else f"'{name}'"]
    found, depth = [""], 0
    for letter in segments[1]:
        depth += {"(": 1, "[": 1, ")": -1, "]": -1}.get(letter, 0)
        if letter == "," and depth == 0:
            found.append("")
        else:
            found[-1] += letter
    return [one.strip() for one in found]


def _awaited(resources: Sequence[Raw], waiting: Raw) -> Iterator[Raw]:
    """Each resource once for which another one waits, or for which one of those waits."""
    seen, ahead = set(), list(waiting.get("dependsOn", []))
    while ahead:
        words = ahead.pop()
        if words in seen:
            continue
        seen.add(words)
        for other in resources:
            if words == f"[{id_text(other)}]" or words == other.get("copy", {}).get("name"):
                yield other
                ahead += other.get("dependsOn", [])


def _module(resources: Sequence[Raw], name: str) -> Raw:
    """The module that was deployed under a name: one that is called so, or in whose pattern it fits best."""
    modules = [one for one in resources if one["type"] == "Microsoft.Resources/deployments"]
    return max(
        (one for one in modules if _pattern(one["name"]).fullmatch(name)), key=lambda one: _fixed(one["name"])
    )


def _resource(resources: Sequence[Raw], resource: Resource) -> Raw:
    """The raw resource of a type and name."""
    found = [
        one
        for one in resources
        if one["type"] == resource.type and _pattern(one["name"]).fullmatch(resource.name)
    ]
    return max(found, key=lambda one: _fixed(one["name"]))


def _fixed(name: str) -> int:
    """How much of a name is always the same."""
    return len(_pattern(name).pattern.replace(".*", ""))


@cache
def _pattern(name: str) -> re.Pattern[str]:
    """What a name can come out as."""
    text = re.match(r"\[format\('([^']*)'", name)
    if text is None:
        return re.compile(".*" if name.startswith("[") else re.escape(name))
    return re.compile(".*".join(re.escape(one) for one in re.split(r"\{\d\}", text[1])))
