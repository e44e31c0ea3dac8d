"""Uploads that were decided are put away: in bounded steps, and whatever cannot be moved is told."""

import logging
from collections.abc import Mapping
from typing import Any, Literal

import pytest

from airgap.errors import Code, ServiceError
from airgap.manifest import ENVELOPE_NAME
from function_app.durable.outcomes import Pending
from function_app.storage.work_folder import WorkFolder
from function_app.target.admission import VERDICT
from function_app.target.putting_away import put_away
from function_app.target.wire import Closing, PutAway, VerdictNote
from tests.bundles import default_key, make_policy
from tests.function_app.memory import MemoryBlobs, make_target

FOLDER, INSTANCE = "transfer01", "import0001"
MANIFEST = f"{FOLDER}/{ENVELOPE_NAME}"
QUARANTINE = f"{FOLDER}/{INSTANCE}"


class Upload:
    """What lies in ``incoming``, and the steps of its putting away; ``archived…`` cannot be moved."""

    def __init__(self, *names: str) -> None:
        self.side, self.blobs = make_target(make_policy([default_key()]))
        for name in names:
            self.blobs.upload("incoming", f"{FOLDER}/{name}", name.encode())
        self.blobs.upload("incoming", MANIFEST, b"the manifest")
        self.etag = self.etag_of_manifest()

    def etag_of_manifest(self) -> str:
        found = self.blobs.stat("incoming", MANIFEST)
        assert found is not None
        return found.etag

    def step(self, outcome: Literal["imported", "refused"] = "refused") -> PutAway | Pending:
        order = Closing(
            incoming=FOLDER,
            manifest_etag=self.etag,
            envelope_sha256="0" * 64,
            instance=INSTANCE,
            decided_at="2026-11-24T12:00:00Z",
            outcome=outcome,
            code=None,
            detail="",
        )
        return put_away(self.side, order)

    def steps(self, outcome: Literal["imported", "refused"] = "refused") -> tuple[int, PutAway]:
        for number in range(1, 12):
            result = self.step(outcome)
            if isinstance(result, PutAway):
                return number, result
        raise AssertionError("it goes on for ever")


@pytest.fixture(autouse=True)
def _archived(monkeypatch: pytest.MonkeyPatch) -> None:
    copy = MemoryBlobs.copy

    def refuse(
        blobs: MemoryBlobs,
        source: tuple[str, str],
        target: tuple[str, str],
        *,
        etag: str,
        metadata: Mapping[str, str],
    ) -> str | None:
        if source[1].startswith(f"{FOLDER}/archived"):
            raise ServiceError(Code.CONFLICT, "archived")
        return copy(blobs, source, target, etag=etag, metadata=metadata)

    monkeypatch.setattr(MemoryBlobs, "copy", refuse)


@pytest.mark.parametrize(("beside", "steps"), [(99, 1), (100, 2), (199, 2), (200, 3)])
@pytest.mark.parametrize("outcome", ["imported", "refused"])
def test_upload_is_put_away_a_hundred_blobs_a_step(
    beside: int, steps: int, outcome: Literal["imported", "refused"]
) -> None:
    upload = Upload(*(f"{number:03d}" for number in range(beside)))
    assert upload.steps(outcome) == (steps, PutAway(left=(), left_count=0))
    assert upload.blobs.names("incoming") == []
    assert len(upload.blobs.names("quarantine")) == (0 if outcome == "imported" else beside + 1)


def test_blobs_that_cannot_be_moved_keep_no_other_from_it_and_are_told(
    caplog: pytest.LogCaptureFixture,
) -> None:
    upload = Upload(*(f"archived{number:03d}" for number in range(150)), "whole")
    with caplog.at_level(logging.ERROR):
        steps, result = upload.steps()
    assert steps == 2
    assert result.left == tuple(f"{FOLDER}/archived{number:03d}: CONFLICT" for number in range(10))
    assert result.left_count == 150
    assert upload.blobs.names("quarantine") == [f"{QUARANTINE}/{ENVELOPE_NAME}", f"{QUARANTINE}/whole"]
    told = [record.getMessage() for record in caplog.records]
    assert [text.partition(" blobs")[0] for text in told] == [f"{INSTANCE}: 100", f"{INSTANCE}: 50"]


def test_upload_that_was_moved_whole_raises_no_alarm(caplog: pytest.LogCaptureFixture) -> None:
    Upload("001").steps()
    assert not caplog.records


def test_manifest_that_cannot_be_moved_is_told_first(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    upload = Upload(*(f"archived{number:03d}" for number in range(12)))
    copy = upload.blobs.copy

    def refuse(source: tuple[str, str], *places: Any, **more: Any) -> str | None:
        if source[1] == MANIFEST:
            raise ServiceError(Code.CONFLICT, "archived")
        return copy(source, *places, **more)

    monkeypatch.setattr(upload.blobs, "copy", refuse)
    with caplog.at_level(logging.ERROR):
        _, result = upload.steps()
    assert (result.left[0], len(result.left), result.left_count) == (f"{MANIFEST}: CONFLICT", 10, 13)
    assert "its bundle manifest cannot be put away" in caplog.text


@pytest.mark.parametrize("name", ["001", ENVELOPE_NAME])
def test_outage_is_no_blob_that_cannot_be_moved(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    upload = Upload("001")
    copy = upload.blobs.copy

    def away(source: tuple[str, str], *places: Any, **more: Any) -> str | None:
        if source[1] == f"{FOLDER}/{name}":
            raise ServiceError(Code.SERVICE_UNREACHABLE, "away")
        return copy(source, *places, **more)

    monkeypatch.setattr(upload.blobs, "copy", away)
    with pytest.raises(ServiceError, match="SERVICE_UNREACHABLE"):
        upload.step()
    monkeypatch.setattr(upload.blobs, "copy", copy)
    assert upload.steps()[1] == PutAway(left=(), left_count=0)
    assert upload.blobs.names("incoming") == []


def test_slow_copy_is_waited_for_before_anything_is_deleted() -> None:
    upload = Upload("001")
    upload.blobs.polls_per_copy = 2
    assert isinstance(upload.step(), Pending)
    assert f"{FOLDER}/001" in upload.blobs.names("incoming")
    upload.steps()
    assert upload.blobs.names("incoming") == []
    assert len(upload.blobs.names("quarantine")) == 2


def test_new_manifest_in_place_of_the_decided_one_stays_with_all_beside_it() -> None:
    upload = Upload("001")
    upload.blobs.upload("incoming", MANIFEST, b"a new upload")
    assert upload.steps() == (1, PutAway(left=(), left_count=0))
    assert upload.blobs.names("incoming") == [f"{FOLDER}/001", MANIFEST]


def test_manifest_that_was_uploaded_again_before_it_was_judged_is_the_one_that_was_judged() -> None:
    upload = Upload("001")
    upload.blobs.upload("incoming", MANIFEST, b"the manifest")
    note = VerdictNote(
        manifest_etag=upload.etag_of_manifest(),
        transfer_id=None,
        channel=None,
        sequence=None,
        manifest_sha256=None,
        policy_version=None,
        signers=(),
    )
    WorkFolder(upload.blobs, INSTANCE).create(VERDICT, note)
    upload.steps()
    assert upload.blobs.names("incoming") == []


@pytest.mark.parametrize("name", ["001", ENVELOPE_NAME])
def test_what_is_uploaded_between_copy_and_deletion_stays(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    upload = Upload("001")
    copy = upload.blobs.copy

    def overtaken(source: tuple[str, str], *places: Any, **more: Any) -> str | None:
        copied = copy(source, *places, **more)
        if source[1] == f"{FOLDER}/{name}":
            upload.blobs.upload(*source, b"newer")
        return copied

    monkeypatch.setattr(upload.blobs, "copy", overtaken)
    upload.steps()
    assert upload.blobs.names("incoming") == [f"{FOLDER}/{name}"]


@pytest.mark.parametrize(
    ("name", "is_short"),
    [
        ("x" * (1024 - len(QUARANTINE) - 1), False),
        ("x" * (1024 - len(QUARANTINE)), True),
        ("/".join("d" * 252), False),
        ("/".join("d" * 253), True),
    ],
    ids=["1024 characters", "1025 characters", "254 segments", "255 segments"],
)
def test_name_that_fits_into_no_quarantine_gets_a_short_one(name: str, is_short: bool) -> None:
    upload = Upload(name)
    upload.steps()
    (placed,) = [one for one in upload.blobs.names("quarantine") if not one.endswith(ENVELOPE_NAME)]
    assert placed.startswith(f"{QUARANTINE}/sha256-") is is_short
    assert is_short or placed == f"{QUARANTINE}/{name}"
    assert ("uploadedas" in upload.blobs.containers["quarantine"][placed].metadata) is is_short
