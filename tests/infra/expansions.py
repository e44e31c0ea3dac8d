"""The templates of both sides, expanded with every combination of what may be chosen."""

import json
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

from infra.expansion import Expansion, Group, ImaginedCloud, Provider, expand
from infra.templates import FOLDER, SIDES, arm_path

CLOUDS = tuple(sorted(path.stem for path in (FOLDER / "parameters").glob("*.json")))
HOSTINGS = ("flex", "dedicated")
ACCESS_MODES = ("ManagedIdentity", "SasToken")
GROUP = Group(
    subscription_id="6a0f1c52-52b5-4c0e-9d6c-0f5b8f2f7c11",
    tenant_id="0d7c3a8e-9a57-4b0e-8a73-6c1d2f1b9e42",
    name="airgap",
    location="westeurope",
)


def template(side: str) -> dict[str, Any]:
    """The ARM template of a side, one's own to change."""
    found: dict[str, Any] = json.loads(arm_path(side).read_text(encoding="utf-8"))
    return found


def parameters(
    cloud: str = "public", hosting: str = "dedicated", mode: str = "ManagedIdentity", **more: Any
) -> dict[str, Any]:
    """Parameters as somebody would give them, the registry in a group of its own."""
    return {
        **parameters_of(FOLDER / "parameters" / f"{cloud}.json"),
        "prefix": "contosogap1",
        "registryName": "contoso",
        "registryResourceGroup": "registries",
        "hosting": hosting,
        "storageAccessMode": mode,
        "pipelineSasExpiry": "2027-01-31T00:00:00Z" if mode == "SasToken" else "",
        **more,
    }


def parameters_of(path: Path) -> dict[str, Any]:
    """The values of a parameter file."""
    given = json.loads(path.read_text(encoding="utf-8"))["parameters"]
    return {name: one["value"] for name, one in given.items()}


def expanded_of(
    whole: dict[str, Any], given: dict[str, Any] | None = None, provider: Provider | None = None
) -> Expansion:
    """A template expanded, in an imagined cloud if in no other."""
    given = parameters() if given is None else given
    return expand(whole, given, group=GROUP, provider=provider or ImaginedCloud())


@cache
def expanded(
    side: str, cloud: str = "public", hosting: str = "dedicated", mode: str = "ManagedIdentity"
) -> Expansion:
    """A side, expanded; not to be changed."""
    return expanded_of(template(side), parameters(cloud, hosting, mode))


def variants() -> Iterator[tuple[str, str, str, str]]:
    """Every side, cloud, hosting and access mode."""
    for side in SIDES:
        for cloud in CLOUDS:
            for hosting in HOSTINGS:
                yield from ((side, cloud, hosting, mode) for mode in ACCESS_MODES)
