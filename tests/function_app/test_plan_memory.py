"""A plan is made group by group: what is in memory at once hardly grows with the order."""

import tracemalloc
from collections.abc import Iterator
from dataclasses import replace

import pytest

from airgap.errors import UntrustedInputError
from airgap.fields import format_time
from airgap.pipeline_runs import batch
from function_app.ports import SourceSide
from function_app.source.planning import REQUEST, plan_transfer
from function_app.source.wire import Chosen, Planned, Planning, RequestDocument, Resolution
from function_app.storage.work_folder import WorkFolder, digest_of
from function_app.tally import tallies_of
from tests.bundles import AUDIENCE
from tests.function_app.memory import START, MemoryBlobs, make_source
from tests.function_app.test_export import TRANSFER_ID

REFERENCES = 2_000
LAYERS = 10


class Forgetful(MemoryBlobs):
    """Keeps what is written until it is told to forget, as a storage elsewhere does for the app."""

    def __init__(self) -> None:
        super().__init__()
        self.is_full = False
        self.forgotten: list[str] = []

    def put(self, container: str, name: str, content: bytes) -> None:
        if self.is_full:
            self.forgotten.append(name)
        else:
            super().put(container, name, content)


def resolved(side: SourceSide, *, are_missing: bool) -> Planning:
    """An order of many large images, each of which was resolved already, or is not there."""
    work = WorkFolder(side.blobs, TRANSFER_ID)
    references = tuple(f"team/service-{number}/application:v1" for number in range(REFERENCES))
    request = RequestDocument(
        artifacts=references,
        channel="prod",
        audience=tuple(AUDIENCE),
        expires_in_seconds=3600,
        referrers="all",
        dry_run=True,
    )
    work.put(REQUEST, request)
    written = [
        work.put(f"resolved/{number:06d}", group)
        for number, group in enumerate(groups(references, are_missing=are_missing))
    ]
    return Planning(
        transfer_id=TRANSFER_ID,
        request=digest_of(request),
        resolved=tallies_of(written, 5),
        at=format_time(START),
        is_dry_run=True,
    )


def groups(references: tuple[str, ...], *, are_missing: bool) -> Iterator[Resolution]:
    for number, members in enumerate(batch(references)):
        there = [] if are_missing else members
        yield Resolution(
            artifacts=tuple(
                {
                    "reference": name,
                    "digest": f"sha256:{number:064x}",
                    "mediaType": "application/vnd.oci.image.manifest.v1+json",
                    "tags": ["v1"],
                    "artifactType": None,
                    "subject": None,
                }
                for name in there
            ),
            tagged=dict.fromkeys(there, "2026-11-20T08:00:00.1234567Z"),
            left={},
            missing=tuple(members) if are_missing else (),
            obstacles={},
            content={
                name: {
                    f"sha256:{number * LAYERS * 50 + at * LAYERS + layer:064x}": 1000
                    for layer in range(LAYERS)
                }
                for at, name in enumerate(there)
            },
            platforms={},
        )


@pytest.mark.parametrize("are_missing", [False, True], ids=["there", "missing"])
def test_plan_does_not_hold_what_it_is_made_of(are_missing: bool) -> None:
    side, _, _ = make_source()
    blobs = Forgetful()
    blobs.containers = side.blobs.containers  # type: ignore[attr-defined]  # with its policy
    side = replace(side, blobs=blobs)
    order = resolved(side, are_missing=are_missing)
    blobs.is_full = True
    tracemalloc.start()
    try:
        planned = plan_transfer(side, order)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert isinstance(planned, Planned)
    assert len([name for name in blobs.forgotten if "/preview/blobs/" in name]) == 4
    assert peak < 1500 * REFERENCES


def test_document_that_is_changed_between_two_looks_is_not_read() -> None:
    side, _, _ = make_source()
    work = WorkFolder(side.blobs, TRANSFER_ID)
    sha256 = work.put("chosen/000000", Chosen(references=("team/app:v1",)))
    documents = work.pinned(["chosen/000000"], Chosen, tallies_of([sha256], 1))
    assert [one.references for one in documents] == [("team/app:v1",)]
    work.put("chosen/000000", Chosen(references=("team/secret:v1",)))
    with pytest.raises(UntrustedInputError, match="BLOB_CHANGED"):
        list(documents)
