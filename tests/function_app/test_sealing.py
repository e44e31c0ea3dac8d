"""Numbers of a channel: one for each transfer, no gaps, whatever comes twice or at once."""

from typing import Any

from airgap.envelope import Envelope
from airgap.ledger import LedgerEntry, entry_name
from airgap.manifest import BundleManifest
from function_app.messages import dump, read
from function_app.ports import SourceSide
from function_app.source.sealing import seal_bundle
from function_app.source.wire import Sealed, Sealing
from function_app.storage.paths import LEDGER
from tests.bundles import CHANNEL
from tests.function_app.memory import START, Host, MemoryBlobs, make_source
from tests.function_app.test_export import run


def entries(blobs: MemoryBlobs) -> list[LedgerEntry]:
    return [
        LedgerEntry.from_bytes(blob.content)
        for name, blob in sorted(blobs.containers[LEDGER].items())
        if name.startswith(f"{CHANNEL}/")
    ]


def manifests(blobs: MemoryBlobs) -> list[BundleManifest]:
    found = [
        BundleManifest.from_bytes(Envelope.from_bytes(blob.content).payload)
        for name, blob in blobs.containers["transfer"].items()
        if name.endswith(".json")
    ]
    return sorted(found, key=lambda manifest: manifest.sequence)


def transfer(side: SourceSide, number: int, host: Host | None = None) -> dict[str, Any]:
    return run(host or Host(side), "team/app:v1", transfer_id=f"{number:032d}")


def ready_source() -> tuple[SourceSide, MemoryBlobs]:
    side, blobs, registry = make_source()
    registry.push_image("team/app", "v1")
    return side, blobs


def test_numbers_follow_each_other_and_each_manifest_names_the_one_before() -> None:
    side, blobs = ready_source()
    for number in range(3):
        assert transfer(side, number)["bundle"]["sequence"] == number + 1
    chain = [entry.manifest_sha256 for entry in entries(blobs)]
    assert [manifest.previous_sha256 for manifest in manifests(blobs)] == [None, *chain[:2]]


def test_two_transfers_that_seal_at_once_get_different_numbers() -> None:
    side, blobs = ready_source()
    host = Host(side)
    create = blobs.create
    interferences = iter([7])

    def slower_than_another(container: str, name: str, content: bytes) -> bool:
        if name == entry_name(CHANNEL, 1):
            for number in interferences:
                transfer(side, number)
        return create(container, name, content)

    blobs.create = slower_than_another  # type: ignore[method-assign]  # to interfere
    assert transfer(side, 0, host)["bundle"]["sequence"] == 2
    assert [entry.transfer_id[-1] for entry in entries(blobs)] == ["7", "0"]
    assert manifests(blobs)[1].previous_sha256 == entries(blobs)[0].manifest_sha256


def sealing_order(side: SourceSide) -> Sealing:
    """The order of the last step of a transfer that got as far as that."""
    host = Host(side)
    caught: list[Sealing] = []
    original = host.activity

    def catching(name: str, attempts: int, order: Any) -> Any:
        if name == "seal_bundle":
            caught.append(read(order, Sealing))
            return dump(Sealed(bundle={}))
        return original(name, attempts, order)

    host.activity = catching  # type: ignore[method-assign]  # a probe
    transfer(side, 0, host)
    return caught[0]


def test_killed_after_taking_its_number_it_publishes_the_stored_envelope() -> None:
    side, blobs = ready_source()
    last = sealing_order(side)
    seal_bundle(side, last)
    first = dict(blobs.containers["transfer"])
    path = next(name for name in first if name.endswith(".json"))
    blobs.delete("transfer", path)  # as if it had been killed just before it wrote the manifest
    transfer(side, 5)
    again = seal_bundle(side, last)
    assert again.bundle["sequence"] == 1
    assert blobs.containers["transfer"][path].content == first[path].content
    assert [entry.sequence for entry in entries(blobs)] == [1, 2]


def test_bundle_says_when_it_was_made_by_the_orchestrators_clock() -> None:
    side, blobs = ready_source()
    host = Host(side)
    transfer(side, 0, host)
    assert START <= manifests(blobs)[0].created_at <= host.now
    assert (manifests(blobs)[0].expires_at - manifests(blobs)[0].created_at).total_seconds() == 3600


def test_two_executions_of_one_sealing_take_one_number_however_they_interleave() -> None:
    side, blobs = ready_source()
    last = sealing_order(side)
    blobs.put("work", f"sealing/{last.transfer_id}/first.json", b"1")  # the faster one has begun
    list_names, faster = blobs.list_names, iter([last])

    def overtaken_while_listing(container: str, prefix: str) -> Any:
        names = list(list_names(container, prefix))
        for order_ in faster if container == LEDGER else ():
            seal_bundle(side, order_)
        return iter(names)

    blobs.list_names = overtaken_while_listing  # type: ignore[method-assign]  # to interfere
    assert seal_bundle(side, last).bundle["sequence"] == 1
    assert [entry.sequence for entry in entries(blobs)] == [1]
