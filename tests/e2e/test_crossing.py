"""The whole path on both clouds: real servers, the real app, events that come twice, a killed host."""

import asyncio
import base64
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import requests
from azure.storage.blob import BlobBlock, BlobServiceClient, ContentSettings

from airgap.envelope import MAX_ENVELOPE_BYTES, Envelope
from airgap.errors import Code
from airgap.manifest import ENVELOPE_NAME, BundleManifest
from airgap.receipt import Receipt, ReceiptVerdict
from airgap.ticket import Ticket
from local_cloud.cloud import SIGNING_KEY
from local_cloud.demo.clouds import Demo
from local_cloud.demo.mover import offline_mover
from local_cloud.demo.screen import until
from local_cloud.demo.story import push
from local_cloud.registry.client import RegistryClient
from tests.bundles import SigningKey, key_from_private
from tests.e2e.conftest import Crossing, by_ticket

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(300)]


@pytest.fixture(scope="module")
def crossing(make_crossing: Callable[[], Crossing]) -> Crossing:
    """Small samples in the source registry; every activity and blob event comes twice, as Azure may do."""
    made = make_crossing()
    demo = made.demo
    demo.target.behaviour.run_delay_s = 2.0
    # What Azure's documents leave open about a run that goes on: a state of success already, or none at all.
    demo.source.behaviour.run_delay_s = 1.0
    demo.source.behaviour.running_state = "succeeded"
    demo.target.behaviour.running_state = "empty"
    demo.target.behaviour.run_put_status = 200
    made.run(demo.start(is_delivering_twice=True))
    demo.medium.mkdir()
    return made


def import_runs(demo: Demo) -> list[dict[str, Any]]:
    """The pipeline runs of the target, as ARM lists them."""
    target = demo.target
    answer = requests.get(
        f"{target.url('arm')}{target.registry_id}/pipelineRuns",
        params={"api-version": "2025-06-01-preview"},
        headers={
            "Authorization": f"Bearer {target.tokens.mint(target.owner_principal, 'https://management.azure.com/')}"
        },
        verify=str(demo.ca.ca_file),
        timeout=10,
    )
    runs: list[dict[str, Any]] = answer.json()["value"]
    return [
        r
        for r in runs
        if r["properties"]["request"]["pipelineResourceId"].endswith("importPipelines/airgap01")
    ]


def upload(demo: Demo, name: str, raw: bytes) -> None:
    with uploader(demo) as service:
        service.get_blob_client("incoming", name).upload_blob(raw)


def uploader(demo: Demo) -> BlobServiceClient:
    """The target's storage, as whoever holds the upload SAS has it."""
    return BlobServiceClient(
        demo.target.blob_url,
        credential=demo.sas_file(demo.target).read_text(),
        connection_verify=str(demo.ca.ca_file),
    )


async def export(demo: Demo, references: list[str], **said: Any) -> dict[str, Any]:
    """Order a transfer and wait until it is sealed."""
    transfer_id = await asyncio.to_thread(demo.post_transfer, references, **said)
    sealed: dict[str, Any] = await until("sealing", lambda: demo.sealed_transfer(transfer_id))
    return sealed


async def dry_run(demo: Demo, select: list[dict[str, Any]]) -> dict[str, Any]:
    """The plan of a transfer that is not made."""
    transfer_id = await asyncio.to_thread(demo.post_transfer, [], select=select, dryRun=True)
    await until("the plan", lambda: transfer_state(demo, transfer_id) == "previewed")
    url = f"{demo.source.api_url}/api/transfers/{transfer_id}/plan"
    plan: dict[str, Any] = (await asyncio.to_thread(requests.get, url, timeout=30)).json()
    return plan


async def pull(demo: Demo, transfer_id: str, medium: Path | None = None) -> None:
    await offline_mover(
        *("pull", f"{demo.source.container_url}/{transfer_id}", str(medium or demo.medium)),
        *(
            "--allow-system-disk",
            "--trust",
            str(demo.policy_file),
            "--sas-file",
            str(demo.sas_file(demo.source)),
        ),
        ca=demo.ca,
    )


class Thief:
    """Whoever has a copy of a drop ticket, and tries what else it is good for."""

    def __init__(self, demo: Demo, file: Path) -> None:
        self._ca = str(demo.ca.ca_file)
        self.ticket = Ticket.from_bytes(file.read_bytes())
        self._account = self.ticket.container_url.rpartition("/")[0]

    def send(
        self, method: str, name: str, query: str = "", *, container: str = "incoming", of: str = "001"
    ) -> tuple[int, str | None]:
        """A request with the SAS of one of the ticket's blobs; the storage's status and word for it."""
        answer = requests.request(
            method,
            f"{self._account}/{container}/{name}?{query}&{self.ticket.sas[of]}",
            headers={"x-ms-version": "2026-10-06", "x-ms-blob-type": "BlockBlob"},
            data=b"" if method == "PUT" else None,
            verify=self._ca,
            timeout=30,
        )
        return answer.status_code, answer.headers.get("x-ms-error-code")

    def assert_reaches_nothing_else(self) -> None:
        """Neither other names nor other containers, and nothing is listed or deleted."""
        folder = self.ticket.transfer_id
        not_good = (403, "AuthenticationFailed")
        for method in ("GET", "PUT"):
            for name in (
                f"{folder}/999",
                f"{folder}/{ENVELOPE_NAME}",
                "another0transfer/001",
                "custody/x/a.jsonl",
            ):
                assert self.send(method, name) == not_good, (method, name)
            for container in ("staging", "transfer", "ledger", "receipts", "policy", "quarantine"):
                assert self.send(method, f"{folder}/001", container=container)[0] == 403, container
        assert self.send("GET", "", "restype=container&comp=list")[0] == 403
        assert self.send("DELETE", f"{folder}/001") == (403, "AuthorizationPermissionMismatch")

    def assert_overwrites_nothing(self) -> None:
        """What was put together stays as it is, the bundle manifest as well."""
        folder, block = self.ticket.transfer_id, base64.b64encode(b"00000001").decode()
        for query in ("", f"comp=block&blockid={block}", "comp=blocklist"):
            assert self.send("PUT", f"{folder}/001", query) == (403, "UnauthorizedBlobOverwrite"), query
        assert self.send("PUT", f"{folder}/{ENVELOPE_NAME}", of=ENVELOPE_NAME)[0] == 403


async def killed_during_the_import(demo: Demo) -> Receipt:
    """Cut the power of the target's host while its import run is under way, then start it again."""
    known = set(await asyncio.to_thread(demo.receipts))
    await push(demo)
    await until("an import run", lambda: import_runs(demo))
    await asyncio.to_thread(demo.target.stop_app, kill=True)
    await demo.target.start_app(is_delivering_twice=True)
    _, receipt = await demo.next_receipt(known)
    return receipt


def test_events_come_twice_and_the_host_is_killed_yet_there_is_one_import_and_one_receipt(
    crossing: Crossing,
) -> None:
    demo = crossing.demo
    references = demo.push_samples(layer_bytes_total=6_000_000)
    before = demo.digests(demo.source, references)
    sealed = crossing.run(export(demo, references))
    crossing.run(pull(demo, sealed["transferId"]))
    receipt = crossing.run(killed_during_the_import(demo), timeout_s=200)
    assert receipt.is_imported, receipt
    assert receipt.transfer_id == sealed["transferId"]
    assert all(proof.is_proven for proof in receipt.artifacts)
    assert demo.digests(demo.target, references) == before
    assert len(import_runs(demo)) == 1
    assert len(demo.receipts()) == 1
    crossing.run(until("clean-up", lambda: not demo.blobs("incoming", f"{receipt.transfer_id}/")))
    carry_receipts_back(demo)
    crossing.run(until("delivery", lambda: transfer_state(demo, sealed["transferId"]) == "delivered"))


def carry_receipts_back(demo: Demo) -> None:
    with BlobServiceClient.from_connection_string(
        demo.source.azurite.connection_string, connection_verify=str(demo.ca.ca_file)
    ) as service:
        for name, raw in demo.blobs("receipts").items():
            service.get_blob_client("receipts", name).upload_blob(raw)


def transfer_state(demo: Demo, transfer_id: str) -> str:
    answer = requests.get(f"{demo.source.api_url}/api/transfers/{transfer_id}", timeout=10)
    return str(answer.json()["state"])


def test_ticket_brings_its_bundle_and_reaches_nothing_else(crossing: Crossing) -> None:
    """The roles and the identity are those of the templates; a thief has a copy all along."""
    demo = crossing.demo
    known, medium = set(demo.receipts()), demo.folder / "medium-ticket"
    medium.mkdir()
    sealed = crossing.run(export(demo, demo.push_samples(layer_bytes_total=10_000_000)))
    pickup = demo.pickup_ticket(sealed["transferId"])
    crossing.run(by_ticket(demo, "pull", medium, pickup, "--allow-system-disk"))
    drop = demo.drop_ticket(medium)
    thief = Thief(demo, drop)
    thief.assert_reaches_nothing_else()
    demo.target.stop_app()
    crossing.run(by_ticket(demo, "push", medium, drop))
    thief.assert_reaches_nothing_else()
    thief.assert_overwrites_nothing()
    again = crossing.run(by_ticket(demo, "push", medium, drop))
    assert "0 parts sent" in again.output
    crossing.run(demo.target.start_app(is_delivering_twice=True))
    _, receipt = crossing.run(demo.next_receipt(known))
    assert receipt.is_imported, receipt
    refused = requests.post(
        f"{demo.target.api_url}/api/tickets", data=next(medium.rglob(ENVELOPE_NAME)).read_bytes(), timeout=30
    )
    assert (refused.status_code, refused.json()["code"]) == (409, "REPLAYED")
    for log in (demo.target.host_log, demo.source.host_log):
        assert not [sas for sas in thief.ticket.sas.values() if sas in log.read_text(errors="replace")]


def test_fifty_one_selected_artifacts_are_planned_and_split_over_two_runs(crossing: Crossing) -> None:
    demo = crossing.demo
    tags = [f"0.2.{n}" for n in range(51)]
    tag_the_chart(demo, tags)
    select = [{"repositories": ["charts/*"], "versions": ">=0.2.0 <0.3.0"}]
    planned = crossing.run(dry_run(demo, select))
    chosen = [one["reference"] for blob in planned["blobs"] for one in blob["artifacts"]]
    assert sorted(chosen) == sorted(f"charts/hello:{tag}" for tag in tags)
    assert len(planned["blobs"]) == 2
    assert source_blobs(demo, planned["transferId"]) == []
    sealed = crossing.run(export(demo, [], select=select))
    names = {
        name for name in source_blobs(demo, sealed["transferId"]) if name.rsplit("/", 1)[1] != ENVELOPE_NAME
    }
    assert names == {f"{sealed['transferId']}/001", f"{sealed['transferId']}/002"}


def tag_the_chart(demo: Demo, tags: list[str]) -> None:
    """Give the sample chart more tags."""
    registry = demo.source.registry
    with RegistryClient(
        registry.login_server,
        username=registry.admin_username,
        password=registry.admin_password,
        ca_file=demo.ca.ca_file,
    ) as client:
        _, manifest = client.manifest("charts/hello", "0.1.0")
        for tag in tags:
            client.push_manifest("charts/hello", json.loads(manifest), tag)


def source_blobs(demo: Demo, prefix: str) -> list[str]:
    with BlobServiceClient.from_connection_string(
        demo.source.azurite.connection_string, connection_verify=str(demo.ca.ca_file)
    ) as service:
        return list(service.get_container_client("transfer").list_blob_names(name_starts_with=prefix))


def test_artifact_that_does_not_exist_ends_before_anything_is_exported(crossing: Crossing) -> None:
    demo = crossing.demo
    transfer_id = demo.post_transfer(["samples/app:1.0", "nowhere/nothing:1"])

    def ended() -> dict[str, Any] | None:
        state: dict[str, Any] = requests.get(
            f"{demo.source.api_url}/api/transfers/{transfer_id}", timeout=10
        ).json()
        return state if state["state"] in {"failed", "refused", "sealed"} else None

    state = crossing.run(until("the refusal", ended))
    assert state["error"]["code"] == Code.ARTIFACT_NOT_FOUND.name
    assert "nowhere/nothing:1" in state["error"]["detail"]
    assert source_blobs(demo, transfer_id) == []


@pytest.mark.parametrize(
    ("raw", "code"),
    [
        (b"<html>not json</html>", Code.ENVELOPE_MALFORMED),
        (b'{"payloadType":"x","payload":NaN}', Code.ENVELOPE_MALFORMED),
        (b" " * (MAX_ENVELOPE_BYTES + 1), Code.TOO_LARGE),
    ],
    ids=["html", "nan", "too large by a byte"],
)
def test_what_is_no_manifest_is_quarantined_and_answered(crossing: Crossing, raw: bytes, code: Code) -> None:
    demo, folder = crossing.demo, f"hostile{len(raw)}"
    known = set(demo.receipts())
    upload(demo, f"{folder}/{ENVELOPE_NAME}", raw)
    _, receipt = crossing.run(demo.next_receipt(known))
    assert (receipt.code, receipt.incoming) == (code, f"{folder}/{ENVELOPE_NAME}")
    assert receipt.transfer_id is None
    crossing.run(until("quarantine", lambda: not demo.blobs("incoming", f"{folder}/")))
    assert list(demo.blobs("quarantine", f"{folder}/").values()) == [raw]


def test_manifest_of_a_tebibyte_is_refused_by_its_size_and_no_content_is_sent(crossing: Crossing) -> None:
    """A page blob costs its uploader nothing but a number: the worker is not sent what it claims to hold."""
    demo, name = crossing.demo, f"tebibyte/{ENVELOPE_NAME}"
    known = set(demo.receipts())
    with uploader(demo) as service:
        service.get_blob_client("incoming", name).create_page_blob(1 << 40)
    _, receipt = crossing.run(demo.next_receipt(known))
    assert (receipt.code, receipt.incoming, receipt.transfer_id) == (Code.TOO_LARGE, name, None)


def flip_stored_part(demo: Demo, transfer_id: str, number: int) -> None:
    """The storage at the target gets a part wrong, under the very name of the right one."""
    with BlobServiceClient.from_connection_string(
        demo.target.azurite.connection_string, connection_verify=str(demo.ca.ca_file)
    ) as service:
        blob = service.get_blob_client("incoming", f"{transfer_id}/001")
        properties = blob.get_blob_properties()
        blocks, _ = blob.get_block_list("committed")
        offset = sum(block.size for block in blocks[: number - 1])
        content = blob.download_blob(offset=offset, length=blocks[number - 1].size).readall()
        blob.stage_block(blocks[number - 1].id, bytes([content[0] ^ 1]) + content[1:])
        blob.commit_block_list(
            [BlobBlock(block.id) for block in blocks],
            metadata=properties.metadata,
            content_settings=ContentSettings(content_md5=properties.content_settings.content_md5),
        )


async def damaged_at_the_target(demo: Demo, transfer_id: str, medium: Path) -> Receipt:
    """Push, damage one part before the target looks, and wait for what it says."""
    known = set(await asyncio.to_thread(demo.receipts))
    await asyncio.to_thread(demo.target.stop_app)
    await push(demo, medium)
    await asyncio.to_thread(flip_stored_part, demo, transfer_id, 2)
    await demo.target.start_app(is_delivering_twice=True)
    _, receipt = await demo.next_receipt(known)
    return receipt


async def carried_again(demo: Demo, transfer_id: str, medium: Path, patch: Path) -> Receipt:
    """As the operator does it: fetch the receipt, bring what it asks for from the source, push only that."""
    known = set(await asyncio.to_thread(demo.receipts))
    trust = ("--trust", str(demo.policy_file))
    receipts_sas = demo.folder / "receipts.sas"
    receipts_sas.touch(mode=0o600)
    receipts_sas.write_text(await asyncio.to_thread(demo.target.sas, "receipts", "rl"))
    url = f"{demo.target.blob_url}/receipts"
    await offline_mover(
        "receipts", "pull", url, str(medium), *trust, "--sas-file", str(receipts_sas), ca=demo.ca
    )
    request = medium / "receipts" / transfer_id / "recarry.json"
    pickup = await asyncio.to_thread(demo.pickup_ticket, transfer_id, request.read_bytes())
    await by_ticket(demo, "pull", patch, pickup, "--recarry", str(request), "--allow-system-disk")
    drop = await asyncio.to_thread(demo.drop_ticket, patch)
    assert Ticket.from_bytes(drop.read_bytes()).allows(
        "001", "w"
    )  # of a held blob that is damaged, and no other
    pushed = await by_ticket(demo, "push", patch, drop)
    assert "1 part in the storage was not what was signed, and was replaced" in pushed.output
    _, receipt = await demo.next_receipt(known)
    return receipt


def test_part_that_is_damaged_at_the_target_is_carried_again_and_nothing_else(crossing: Crossing) -> None:
    # Before the bundle of the stowaway: that one is signed past the source, whose history it forks.
    demo = crossing.demo
    medium, patch = demo.folder / "medium-held", demo.folder / "medium-patch"
    for folder in (medium, patch):
        folder.mkdir()
    sealed = crossing.run(export(demo, demo.push_samples(layer_bytes_total=10_000_000)))
    transfer_id = sealed["transferId"]
    crossing.run(pull(demo, transfer_id, medium))
    receipt = crossing.run(damaged_at_the_target(demo, transfer_id, medium), timeout_s=200)
    assert (receipt.verdict, receipt.code) == (ReceiptVerdict.DAMAGED, Code.PART_CORRUPT)
    assert [damage.name for damage in receipt.damages] == ["001/00000002.part"]
    crossing.run(
        until("holding", lambda: sorted(demo.blobs("incoming", f"{transfer_id}/")) == [f"{transfer_id}/001"])
    )
    again = crossing.run(carried_again(demo, transfer_id, medium, patch), timeout_s=200)
    assert len(list(patch.rglob("*.part"))) == 1
    assert again.is_imported, again
    assert again.manifest_sha256 == receipt.manifest_sha256


def test_image_that_rides_along_undeclared_is_imported_by_the_run_and_named_by_the_receipt(
    crossing: Crossing,
) -> None:
    """Whoever has the source's key signs a blob for one image that holds two."""
    demo = crossing.demo
    demo.push_samples(layer_bytes_total=6_000_000)
    tag_the_chart(demo, ["evil"])
    sealed = crossing.run(export(demo, ["samples/app:1.0", "charts/hello:evil"]))
    transfer_id = sealed["transferId"]
    content = source_content(demo, f"{transfer_id}/001")
    stolen = Envelope.from_bytes(source_content(demo, f"{transfer_id}/{ENVELOPE_NAME}")).payload
    manifest = BundleManifest.from_bytes(stolen)
    (blob,) = manifest.blobs
    declared = tuple(one for one in blob.artifacts if one.reference == "samples/app:1.0")
    less = replace(manifest, blobs=(replace(blob, artifacts=declared),)).to_bytes()
    known = set(demo.receipts())
    upload(demo, f"{transfer_id}/001", content)
    upload(demo, f"{transfer_id}/{ENVELOPE_NAME}", Envelope.sign(less, [stolen_key(demo).signer]).to_bytes())
    _, receipt = crossing.run(demo.next_receipt(known))
    assert (receipt.verdict, receipt.code) == (ReceiptVerdict.PARTIAL, Code.UNDECLARED_ARTIFACTS)
    assert receipt.undeclared == ("charts/hello:evil",)
    assert [(proof.reference, proof.is_proven) for proof in receipt.artifacts] == [("samples/app:1.0", True)]
    assert "UNDECLARED_ARTIFACTS" in demo.target.host_log.read_text()
    assert demo.digests(demo.target, ["charts/hello:evil"])  # that is why it is an alarm


def source_content(demo: Demo, name: str) -> bytes:
    with BlobServiceClient.from_connection_string(
        demo.source.azurite.connection_string, connection_verify=str(demo.ca.ca_file)
    ) as service:
        return service.get_blob_client("transfer", name).download_blob().readall()


def stolen_key(demo: Demo) -> SigningKey:
    """The key that signs in the source's vault."""
    newest = demo.source.vault._keys[SIGNING_KEY][-1]
    return key_from_private(newest.value.private)
