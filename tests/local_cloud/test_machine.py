"""What Azure's resource providers answer, and the local cloud as they do."""

import asyncio
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

import pytest

from local_cloud.acr_transfer import Behaviour
from local_cloud.acr_transfer.errors import ArmError
from local_cloud.machine import Machine
from local_cloud.pki import CertificateAuthority

GROUP = "/subscriptions/s/resourceGroups/airgap"
ASKED = {
    "canonicalizedResource": "/blob/gaptransfer/transfer",
    "signedResource": "c",
    "signedProtocol": "https",
    "signedPermission": "rawl",
    "signedExpiry": "2099-01-31T00:00:00Z",
}


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(
        registry_id=f"{GROUP}/providers/Microsoft.ContainerRegistry/registries/contoso",
        group_id=GROUP,
        folder=tmp_path / "cloud",
        ca=CertificateAuthority.create(tmp_path / "ca"),
        behaviour=Behaviour(),
    )


def sas(machine: Machine, **changed: Any) -> dict[str, list[str]]:
    token = machine.service_sas("gaptransfer", ASKED | changed)["serviceSasToken"]
    return parse_qs(token)


def test_sas_is_good_for_what_was_asked(machine: Machine) -> None:
    made = sas(machine)
    assert (made["sr"], made["spr"], made["sp"], made["se"]) == (
        *(["c"], ["https"], ["rawl"]),
        ["2099-01-31T00:00:00Z"],
    )


@pytest.mark.parametrize(
    "changed",
    [
        {"signedPermission": "alrw"},  # not in the order of racwdxltmeop
        {"canonicalizedResource": "/blob/another/transfer"},
        {"canonicalizedResource": "/file/gaptransfer/transfer"},
        {"signedResource": "b"},
    ],
    ids=str,
)
def test_sas_that_azure_would_not_make_is_not_made(machine: Machine, changed: dict[str, str]) -> None:
    with pytest.raises(ArmError):
        sas(machine, **changed)


def test_registry_spelled_with_capitals_has_its_content_after_a_restart(machine: Machine) -> None:
    registry_id = f"{GROUP}/providers/Microsoft.ContainerRegistry/registries/ContosoStaging"

    def places() -> tuple[set[str], str]:
        folders = {path.name for path in machine._folder.iterdir()}
        return folders, machine.registries[registry_id.lower()].login_server

    async def restart() -> None:
        await machine.start()
        await machine._start_registry(registry_id)
        before = places()
        await machine.stop()
        await machine.start()
        assert places() == before
        await machine.close()

    asyncio.run(restart())
