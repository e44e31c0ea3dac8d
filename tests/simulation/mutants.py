"""Causes of invariants taken out, one at a time: the simulator must find each."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import pytest

from airgap.envelope import Envelope
from airgap.ledger import LedgerEntry
from airgap.manifest import BundleManifest, manifest_digest
from airgap.pipeline_runs import Comparison, compare_imports
from airgap.verify import Verdict
from function_app.storage.ledger import Ledger
from function_app.storage.paths import LEDGER, STAGING
from function_app.target import acceptance, closing, proving
from tests.function_app.memory import MemoryBlobs
from tests.simulation.services import Blobs

Mutate = Callable[[pytest.MonkeyPatch], None]


def ledger_overwrites(patch: pytest.MonkeyPatch) -> None:
    """A number is written down whether or not somebody has it."""

    def take(self: Ledger, entry: LedgerEntry) -> LedgerEntry:
        self.blobs.put(LEDGER, entry.name, entry.to_bytes())
        return entry

    patch.setattr(Ledger, "take", take)


def judged_once(patch: pytest.MonkeyPatch) -> None:
    """Acceptance takes for granted what was found at the admission."""

    def unjudged(_side: Any, _order: Any, envelope: bytes) -> Verdict:
        payload = Envelope.from_bytes(envelope).payload
        manifest = BundleManifest.from_bytes(payload)
        digest = manifest_digest(payload)
        return Verdict(code=None, detail="", manifest=manifest, manifest_sha256=digest, signers=())

    patch.setattr(acceptance, "judge_bundle", unjudged)


def staging_unpinned(patch: pytest.MonkeyPatch) -> None:
    """What lies in ``staging`` is promoted in whatever state it is by then."""

    def copy(self: MemoryBlobs, source: tuple[str, str], target: tuple[str, str], **asked: Any) -> str | None:
        found = self.stat(*source)
        if source[0] == STAGING and found is not None:
            asked["etag"] = found.etag
        return MemoryBlobs.copy(self, source, target, **asked)

    patch.setattr(Blobs, "copy", copy, raising=False)


def _nothing_deleted(patch: pytest.MonkeyPatch, is_kept: Callable[[str], bool]) -> None:
    def delete(self: MemoryBlobs, container: str, name: str, *, etag: str | None = None) -> None:
        if not is_kept(name):
            MemoryBlobs.delete(self, container, name, etag=etag)

    patch.setattr(Blobs, "delete", delete, raising=False)


def turn_kept(patch: pytest.MonkeyPatch) -> None:
    """Nobody gives the turn back, and nobody takes it from the dead."""
    _nothing_deleted(patch, lambda name: name.startswith("channels/") and name.endswith("/turn"))


def door_kept(patch: pytest.MonkeyPatch) -> None:
    """The same of the places at the door."""
    _nothing_deleted(patch, lambda name: name.startswith("door/"))


def receipt_again(patch: pytest.MonkeyPatch) -> None:
    """A receipt is issued without asking whether all is closed."""
    patch.setattr(closing, "_receipt_told", lambda *_: None)


def stowaways_unseen(patch: pytest.MonkeyPatch) -> None:
    """What a run brings undeclared is passed over."""

    def compare(*args: Any, **kwargs: Any) -> Comparison:
        return replace(compare_imports(*args, **kwargs), undeclared=())

    patch.setattr(proving, "compare_imports", compare)


def damage_unseen(patch: pytest.MonkeyPatch) -> None:
    """Parts are hashed, and accepted whatever came of it."""
    patch.setattr(acceptance, "gravest_noted", lambda *_: None)
    patch.setattr(acceptance, "missing_proofs", lambda *_: 0)


MUTANTS: Mapping[str, Mutate] = {
    mutate.__name__.replace("_", "-"): mutate
    for mutate in (
        ledger_overwrites,
        judged_once,
        staging_unpinned,
        turn_kept,
        door_kept,
        receipt_again,
        stowaways_unseen,
        damage_unseen,
    )
}
