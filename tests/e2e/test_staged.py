"""Both ways to import, on both clouds: what was signed comes into the registry; and what rides along?"""

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
import requests

from airgap.errors import Code
from airgap.receipt import Receipt, ReceiptVerdict
from local_cloud.cloud import ImportWay
from local_cloud.demo.clouds import CHANNEL, Demo
from local_cloud.demo.mover import offline_mover
from local_cloud.demo.screen import until
from local_cloud.registry import Registry
from local_cloud.registry.manifests import MANIFEST_TYPES
from tests.e2e.conftest import Crossing, by_ticket
from tests.e2e.old_import import remove_old_import

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(400)]

SIGNED = "samples/signed:1.0"
"""What the samples have a signature of."""

_NOT_ASKED_FOR = "webjobs-blobtrigger-poison"
"""Nothing is poison here; where something is: test_roles.py."""


class Crossed:
    """An honest bundle, and then one whose blob the service has laden with what nobody ordered."""

    def __init__(self, demo: Demo) -> None:
        self.demo = demo
        self.receipts: list[Receipt] = []
        self.contents: list[dict[str, set[str]]] = []
        """Of the real registry, after each of them."""

    async def carry(self) -> None:
        references = await asyncio.to_thread(self.demo.push_samples, 2_000_000)
        await self._cross([one for one in references if one != SIGNED][:2], "all")
        self.demo.source.behaviour.carries_referrers = True
        await self._cross([SIGNED], "none")

    async def _cross(self, references: list[str], referrers: str) -> None:
        demo = self.demo
        known = set(await asyncio.to_thread(demo.receipts))
        transfer_id = await asyncio.to_thread(self._order, references, referrers)
        await until("sealing", lambda: demo.sealed_transfer(transfer_id))
        medium = demo.folder / transfer_id
        medium.mkdir()
        await offline_mover(
            *("pull", f"{demo.source.container_url}/{transfer_id}", str(medium), "--allow-system-disk"),
            *("--trust", str(demo.policy_file), "--sas-file", str(demo.sas_file(demo.source))),
            ca=demo.ca,
        )
        await by_ticket(demo, "push", medium, await asyncio.to_thread(demo.drop_ticket, medium))
        _, receipt = await demo.next_receipt(known)
        self.receipts.append(receipt)
        self.contents.append(await asyncio.to_thread(self.content, demo.target.registry))

    def _order(self, references: list[str], referrers: str) -> str:
        answer = requests.post(
            f"{self.demo.source.api_url}/api/transfers",
            json={
                "artifacts": references,
                "channel": CHANNEL,
                "audience": self.demo.target.registry.login_server,
                "referrers": referrers,
            },
            timeout=30,
        )
        assert answer.status_code == 202, answer.text
        return str(answer.json()["transferId"])

    def content(self, registry: Registry) -> dict[str, set[str]]:
        """Every digest and tag of a registry, by repository."""

        def ask(path: str) -> dict[str, list[Any]]:
            answer = requests.get(
                f"https://{registry.login_server}{path}",
                auth=(registry.admin_username, registry.admin_password),
                headers={"Accept": ", ".join(MANIFEST_TYPES)},
                verify=str(self.demo.ca.ca_file),
                timeout=30,
            )
            found: dict[str, list[Any]] = answer.json()
            return found

        return {
            name: {
                *(str(one["digest"]) for one in ask(f"/acr/v1/{name}/_manifests")["manifests"]),
                *(ask(f"/v2/{name}/tags/list")["tags"] or []),
            }
            for name in ask("/v2/_catalog")["repositories"]
        }


@pytest.fixture(scope="module")
def cross(make_crossing: Callable[[], Crossing]) -> Callable[[ImportWay], Crossed]:
    """Both bundles carried across to a target that is deployed in one of the ways, once for each."""
    made: dict[ImportWay, Crossed] = {}

    def crossed(way: ImportWay) -> Crossed:
        if way not in made:
            crossing = make_crossing()
            crossing.demo.target.import_way = way
            crossing.run(crossing.demo.start())
            made[way] = Crossed(crossing.demo)
            crossing.run(made[way].carry(), timeout_s=350)
        return made[way]

    return crossed


@pytest.mark.parametrize("way", ["staged", "direct"])
def test_what_was_signed_is_in_the_registry(cross: Callable[[ImportWay], Crossed], way: ImportWay) -> None:
    crossed = cross(way)
    receipt, content = crossed.receipts[0], crossed.contents[0]
    assert receipt.is_imported, (receipt.code, receipt.detail)
    assert receipt.artifacts
    for proof in receipt.artifacts:
        repository, _, tag = proof.reference.partition("@")[0].partition(":")
        assert {proof.digest, *([tag] if tag else [])} <= content[repository]


def test_staged_artifact_that_rides_along_never_reaches_the_registry(
    cross: Callable[[ImportWay], Crossed],
) -> None:
    crossed = cross("staged")
    receipt = crossed.receipts[1]
    assert (receipt.code, receipt.verdict) == (Code.UNDECLARED_ARTIFACTS, ReceiptVerdict.PARTIAL)
    assert all(one.startswith("samples/signed@sha256:") for one in receipt.undeclared)
    assert [proof.found for proof in receipt.artifacts] == [None]
    assert crossed.contents[1] == crossed.contents[0]


def test_direct_artifact_that_rides_along_is_in_the_registry_and_told(
    cross: Callable[[ImportWay], Crossed],
) -> None:
    """What only the staged way prevents."""
    crossed = cross("direct")
    receipt = crossed.receipts[1]
    assert (receipt.code, receipt.verdict) == (Code.UNDECLARED_ARTIFACTS, ReceiptVerdict.PARTIAL)
    (rider,) = receipt.undeclared
    assert rider.partition("@")[2] in crossed.contents[1]["samples/signed"]


def test_staging_registry_is_empty_afterwards_and_the_app_is_ready(
    cross: Callable[[ImportWay], Crossed],
) -> None:
    crossed = cross("staged")
    target = crossed.demo.target
    assert target.staging_registry is not None
    assert crossed.content(target.staging_registry) == {}
    answer = requests.get(f"{target.api_url}/api/preflight", timeout=60).json()
    assert [check for check in answer["checks"] if not check["ok"]] == []
    assert {"staging-registry", "image-import"} <= {check["id"] for check in answer["checks"]}


def test_every_role_of_the_staged_way_was_needed(cross: Callable[[ImportWay], Crossed]) -> None:
    target = cross("staged").demo.target
    assignments = target.machine.assignments
    asyncio.run(remove_old_import(target))
    asked = {each for each in assignments if not each.scope.endswith(_NOT_ASKED_FOR)}
    assert len([each for each in asked if "/registries/" in each.scope]) == 7
    assert asked - assignments.needed() == set()


@pytest.mark.parametrize(
    ("where", "role", "check"),
    [
        ("acrtarget", "imageImporter", "image-import"),
        ("gaptargetstaging", "importSource", "image-import"),
        ("gaptargetstaging", "pipelineRunner", "pipeline"),
    ],
)
def test_role_that_is_taken_away_is_missed(
    cross: Callable[[ImportWay], Crossed], where: str, role: str, check: str
) -> None:
    """Those that ARM asks for; the registry's own tokens go on for ten minutes after a role is taken away."""
    target = cross("staged").demo.target
    assignments = target.machine.assignments
    (assigned,) = (
        each
        for each in assignments
        if each.scope.endswith(f"/registries/{where}") and assignments.name_of(each).endswith(role)
    )
    assignments.remove(assigned)
    try:
        answer = requests.get(f"{target.api_url}/api/preflight", timeout=60).json()
    finally:
        assignments.assign(assigned)
    assert check in [each["id"] for each in answer["checks"] if not each["ok"]]
