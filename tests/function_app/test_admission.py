"""Admission: what is read of an upload, and how what it declares is divided for later steps."""

import hashlib
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta

import pytest

from airgap.fields import format_time
from airgap.manifest import ENVELOPE_NAME, Artifact
from airgap.parts import MIN_PART_SIZE_BYTES
from function_app.part_groups import Digests
from function_app.ports import BlobStat
from function_app.storage.door import Door
from function_app.storage.work_folder import WorkFolder
from function_app.target.admission import (
    JUDGED_BY,
    VERDICT,
    admit_bundle,
    lookup_groups,
    note_expected,
    note_policy_version,
)
from function_app.target.wire import Admitted, Judging, VerdictNote
from tests.bundles import TRANSFER_ID
from tests.function_app.memory import START
from tests.function_app.test_import import Target, bundle_of

MANIFEST = ("incoming", f"{TRANSFER_ID}/{ENVELOPE_NAME}")


def judging(raw: bytes) -> Judging:
    return Judging(
        incoming=TRANSFER_ID,
        manifest_etag="any",
        envelope_sha256=hashlib.sha256(raw).hexdigest(),
        instance="import0001",
        now=format_time(START + timedelta(hours=1)),
    )


def upload_again(target: Target, raw: bytes) -> None:
    target.blobs.upload(*MANIFEST, raw)


def remove(target: Target, raw: bytes) -> None:
    del raw
    target.blobs.delete(*MANIFEST)


@pytest.mark.parametrize("attack", [upload_again, remove])
def test_manifest_that_is_exchanged_between_look_and_reading_is_left_to_its_own_event(
    attack: Callable[[Target, bytes], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    target, bundle = Target(), bundle_of()
    raw, stat = target.upload(bundle), target.blobs.stat
    assert Door(target.blobs).enter(judging(raw).instance, accepted=None)

    def attacked(container: str, name: str) -> BlobStat | None:
        found = stat(container, name)
        if (container, name) == MANIFEST:
            attack(target, raw)
        return found

    monkeypatch.setattr(target.blobs, "stat", attacked)
    assert admit_bundle(target.side, judging(raw)) == Admitted(is_current=False)
    assert target.blobs.names("work") == []


def artifact(tags: int) -> Artifact:
    (one, *_) = bundle_of().manifest.artifacts
    own = one.reference.partition(":")[2]
    return replace(one, tags=(own, *(f"{own}{number}" for number in range(tags - 1))))


@pytest.mark.parametrize(
    ("tags", "sizes"),
    [
        ((99, 99), [2]),  # of 200 lookups
        ((99, 100), [1, 1]),
        ((98, 100), [2]),
        ((50, 47, 100), [3]),
        ((50, 48, 100), [2, 1]),
        ((200, 1), [1, 1]),
        ((100, 100, 98, 1), [1, 2, 1]),
        ((99, 99, 98, 100), [2, 2]),
        ((99, 99, 99, 100), [2, 1, 1]),
        ((), []),
    ],
)
def test_artifacts_are_looked_up_in_groups_of_at_most_200_lookups(
    tags: tuple[int, ...], sizes: list[int]
) -> None:
    artifacts = [artifact(count) for count in tags]
    groups = list(lookup_groups(artifacts))
    assert [len(group) for group in groups] == sizes
    assert [one for group in groups for one in group] == artifacts


def test_signed_digests_are_kept_in_documents_of_at_most_1024() -> None:
    target, bundle = Target(), bundle_of()
    (blob, *_) = bundle.manifest.blobs
    digests = tuple(f"{number:064x}" for number in range(2500))
    large = replace(blob, size_bytes=2500 * MIN_PART_SIZE_BYTES, part_sha256=digests)
    work = WorkFolder(target.blobs, "import0001")
    note_expected(work, replace(bundle.manifest, blobs=(large,)))
    kept = [work.get(name, Digests).sha256 for name in work.names("expected/")]
    assert [len(document) for document in kept] == [1024, 1024, 452]
    assert tuple(one for document in kept for one in document) == digests


@pytest.mark.parametrize(
    ("version", "admitted_by", "is_kept"),
    [
        *((3, 2, True), (2, 2, False), (1, 2, False), (None, 2, False)),
        *((1, None, True), (None, None, False)),
    ],
)
def test_version_that_judged_again_is_kept_where_it_is_later_than_the_one_that_admitted(
    version: int | None, admitted_by: int | None, *, is_kept: bool
) -> None:
    target, bundle = Target(), bundle_of()
    work = WorkFolder(target.side.blobs, judging(target.upload(bundle)).instance)
    work.create(
        VERDICT,
        VerdictNote(
            manifest_etag="any",
            transfer_id=bundle.transfer_id,
            channel="prod",
            sequence=1,
            manifest_sha256=bundle.manifest_sha256,
            policy_version=admitted_by,
            signers=(),
        ),
    )
    note_policy_version(work, version, is_accepted=True)
    assert len(list(work.names(JUDGED_BY))) == is_kept
