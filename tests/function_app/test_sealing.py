"""Numbers of a channel: one for each transfer, no gaps, whatever comes twice or at once."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest

from airgap.envelope import Envelope
from airgap.errors import Code, ServiceError
from airgap.ledger import Floor, LedgerEntry, entry_name
from airgap.manifest import BundleManifest
from airgap.states import Kind, State
from function_app.journal.store import JournalStore
from function_app.messages import dump, read
from function_app.ports import SourceSide
from function_app.settings import SourceSettings
from function_app.source.sealing import publish, seal_bundle
from function_app.source.wire import Sealed, Sealing
from function_app.storage.paths import LEDGER
from tests.bundles import CHANNEL, Bundle, SigningKey, default_key, make_bundle, make_policy, new_key
from tests.function_app.memory import ENVIRONMENT, START, Host, MemoryBlobs, make_source
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


# --- whoever writes the source's storage -------------------------------------------------------------------


def plant(blobs: MemoryBlobs, sequence: int, *, key: SigningKey, transfer_id: str = "planted0001") -> Bundle:
    """Somebody writes an entry and the envelope behind it into the ledger."""
    bundle = make_bundle(transfer_id=transfer_id, sequence=sequence, created_at=START, keys=[key])
    entry = LedgerEntry(
        channel=CHANNEL,
        sequence=sequence,
        manifest_sha256=bundle.manifest_sha256,
        transfer_id=transfer_id,
        owner=transfer_id,
        taken_at=START,
    )
    blobs.put(LEDGER, entry.name, entry.to_bytes())
    blobs.put(LEDGER, f"envelopes/{bundle.manifest_sha256}.dsse.json", bundle.envelope)
    return bundle


def published(blobs: MemoryBlobs, number: int) -> bool:
    return f"{number:032d}/bundle-manifest.dsse.json" in blobs.names("transfer")


@pytest.mark.parametrize("key", [new_key(), default_key()], ids=["a stranger's", "the source's own"])
def test_number_that_ran_away_closes_no_channel_whoever_signed_it(key: SigningKey) -> None:
    """V8: neither a planted entry with the highest number there is, nor one that a stolen key has signed."""
    side, blobs = ready_source()
    transfer(side, 0)
    plant(blobs, 2**53 - 1, key=key)
    assert transfer(side, 1)["bundle"]["sequence"] == 2


def test_entry_that_was_planted_where_the_next_number_belongs_is_an_alarm() -> None:
    side, blobs = ready_source()
    transfer(side, 0)
    plant(blobs, 2, key=new_key())
    outcome = transfer(side, 1)
    assert (outcome["outcome"], outcome["code"]) == ("failed", "LEDGER_UNPROVEN")
    assert not published(blobs, 1)


@pytest.mark.parametrize("content", [b"", b"{}", b"x" * 5000])
def test_planted_entry_that_is_none_is_an_alarm(content: bytes) -> None:
    side, blobs = ready_source()
    blobs.put(LEDGER, entry_name(CHANNEL, 1), content)
    assert transfer(side, 1)["code"] == "LEDGER_UNPROVEN"
    assert not published(blobs, 1)


def test_floor_recovers_a_channel_after_entries_that_nobody_signed() -> None:
    side, blobs = ready_source()
    transfer(side, 0)
    (honest,) = entries(blobs)
    plant(blobs, 2, key=new_key())
    floor = Floor(sequence=3, previous_sha256=honest.manifest_sha256)
    side = replace(side, settings=replace(side.settings, sequence_floors={CHANNEL: floor}))
    assert [transfer(side, number)["bundle"]["sequence"] for number in (1, 2)] == [3, 4]
    _, third, fourth = manifests(blobs)
    assert third.previous_sha256 == honest.manifest_sha256
    assert fourth.previous_sha256 == next(
        one.manifest_sha256 for one in entries(blobs) if one.sequence == third.sequence
    )


def test_floor_of_one_channel_leaves_the_others_alone() -> None:
    side, _ = ready_source()
    floor = Floor(sequence=3, previous_sha256="0" * 64)
    side = replace(side, settings=replace(side.settings, sequence_floors={"other": floor}))
    assert transfer(side, 0)["bundle"]["sequence"] == 1


def under(side: SourceSide, policy_json: bytes) -> SourceSide:
    settings = SourceSettings.from_environment(ENVIRONMENT | {"TRUST_POLICY": policy_json.decode()})
    return replace(side, settings=settings)


def test_entry_counts_as_long_as_the_key_that_signed_it_is_in_the_policy() -> None:
    side, blobs = ready_source()
    transfer(side, 0)
    fresh = new_key()
    side.signing.keys = [fresh]  # type: ignore[attr-defined]  # the double's
    both = make_policy([default_key(), fresh], threshold=1, version=2)
    assert transfer(under(side, both), 1)["bundle"]["sequence"] == 2
    blobs.delete(LEDGER, entry_name(CHANNEL, 2))
    assert transfer(under(side, make_policy([fresh], version=3)), 2)["code"] == "LEDGER_UNPROVEN"


def test_envelope_that_somebody_planted_for_a_transfer_is_not_published() -> None:
    side, blobs = ready_source()
    last = sealing_order(side)
    blobs.put("work", f"sealing/{last.transfer_id}/first.json", b"1")
    plant(blobs, 1, key=new_key(), transfer_id=last.transfer_id)
    with pytest.raises(Exception, match="LEDGER_UNPROVEN"):
        seal_bundle(side, last)
    assert not published(blobs, 0)


def test_envelope_that_was_exchanged_before_it_is_published_is_not() -> None:
    side, blobs = ready_source()
    last = sealing_order(side)
    create = blobs.create

    def exchanged(container: str, name: str, content: bytes) -> bool:
        if container == LEDGER and name.startswith("envelopes/"):
            content = make_bundle(keys=[new_key()]).envelope
        return create(container, name, content)

    blobs.create = exchanged  # type: ignore[method-assign]  # to interfere
    with pytest.raises(Exception, match="LEDGER_UNPROVEN"):
        seal_bundle(side, last)
    assert not published(blobs, 0)


def test_note_in_work_that_is_no_number_is_not_acted_on() -> None:
    side, blobs = ready_source()
    last = sealing_order(side)
    blobs.put("work", f"sealing/{last.transfer_id}/first.json", b"one")
    with pytest.raises(Exception, match="BLOB_CHANGED"):
        seal_bundle(side, last)


# --- broken off between two steps --------------------------------------------------------------------------


def states(side: SourceSide, transfer_id: str) -> Sequence[State]:
    journal = JournalStore(side.blobs, side.projection).read(Kind.TRANSFERS, transfer_id)
    return [entry.state for entry in journal.entries]


def break_off(blobs: MemoryBlobs, container: str, ending: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The storage goes away just before a blob is written."""
    create = blobs.create

    def broken(where: str, name: str, content: bytes) -> bool:
        if where == container and name.endswith(ending):
            raise ServiceError(Code.SERVICE_UNREACHABLE, name)
        return create(where, name, content)

    monkeypatch.setattr(blobs, "create", broken)


def test_bundle_is_called_sealed_only_after_its_manifest_is_published(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    side, blobs = ready_source()
    last = sealing_order(side)
    break_off(blobs, "transfer", ".json", monkeypatch)
    with pytest.raises(ServiceError):
        seal_bundle(side, last)
    assert states(side, last.transfer_id)[-1] is State.SEALING
    assert not published(blobs, 0)
    monkeypatch.undo()
    seal_bundle(side, last)
    assert states(side, last.transfer_id)[-1] is State.SEALED
    assert published(blobs, 0)


def test_bundle_that_was_published_and_not_yet_called_sealed_is_taken_up(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    side, blobs = ready_source()
    last = sealing_order(side)
    break_off(blobs, "journal", "00000006.json", monkeypatch)
    with pytest.raises(ServiceError):
        seal_bundle(side, last)
    assert published(blobs, 0)
    monkeypatch.undo()
    store = JournalStore(side.blobs, side.projection)
    assert states(side, last.transfer_id)[-1] is State.SEALING
    first = publish(side, store.read(Kind.TRANSFERS, last.transfer_id))
    assert states(side, last.transfer_id)[-1] is State.SEALED
    assert seal_bundle(side, last) == first
    assert [entry.sequence for entry in entries(blobs)] == [1]
