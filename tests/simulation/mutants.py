"""Causes of invariants taken out, one at a time: the simulator must find each."""

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import msgspec
import pytest

from airgap.envelope import Envelope
from airgap.ledger import LedgerEntry
from airgap.manifest import BundleManifest, manifest_digest
from airgap.override import Override
from airgap.pipeline_runs import Comparison, compare_imports
from airgap.receipt import OverrideUse
from airgap.release import ReleaseTally
from airgap.verify import CountedKey, Verdict
from function_app.messages import Item
from function_app.ports import TargetSide
from function_app.storage import policies
from function_app.storage.ledger import Ledger
from function_app.storage.paths import LEDGER, STAGING
from function_app.target import (
    acceptance,
    checking,
    closing,
    intake,
    overriding,
    proving,
    releasing,
    staged,
)
from function_app.target.wire import Brought, CheckNote
from tests.function_app.memory import MemoryBlobs
from tests.simulation.services import Blobs
from tests.simulation.workload import STRANGER

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


def release_unasked(patch: pytest.MonkeyPatch) -> None:
    """Nobody is waited for."""
    patch.setattr(releasing, "count_kept", lambda *_: ReleaseTally(releases=(), missing=()))


def check_unheard(patch: pytest.MonkeyPatch) -> None:
    """Whatever a check says, and if it says nothing, the bundle passes."""
    note = checking._note

    def passed(*args: Any) -> CheckNote:
        return msgspec.structs.replace(
            note(*args), code=None, scanner="nobody", answer_sha256=hashlib.sha256(b"").hexdigest()
        )

    patch.setattr(checking, "_note", passed)


def policy_rolled_back(patch: pytest.MonkeyPatch) -> None:
    """Nobody asks whether a newer policy was in force."""
    patch.setattr(policies, "require_newest", lambda *_: None)


def override_of_anybody(patch: pytest.MonkeyPatch) -> None:
    """Whoever has signed a permission, it counts."""

    def unverified(raw: bytes, **_: Any) -> tuple[Override, OverrideUse]:
        override = Override.from_bytes(Envelope.from_bytes(raw).payload)
        lifts = tuple(sorted(code.name for code in override.lifts))
        signers = (CountedKey(keyid=str(STRANGER.keyid), role="one", scheme="ed25519"),)
        return override, OverrideUse(lifts=lifts, reason=override.reason, signers=signers)

    patch.setattr(overriding, "verify_override", unverified)


def staging_brought_whole(patch: pytest.MonkeyPatch) -> None:
    """All that lies in the staging registry is brought over."""
    bring = staged._bring

    def everything(side: TargetSide, order: Item, what: str) -> Any:
        brought = bring(side, order, what)
        if isinstance(brought, Brought) and side.staged is not None:
            registry = side.staged.registry
            for repository in registry.repositories():
                for digest in registry.digests(repository):
                    side.staged.imports.begin(repository, digest, ())
        return brought

    patch.setattr(staged, "_bring", everything)
    patch.setattr(staged, "_undeclared_in", lambda *_: iter(()))
    stowaways_unseen(patch)


def arrival_unrecorded(patch: pytest.MonkeyPatch) -> None:
    """An upload whose orchestration was ended before it was on record counts as started, for ever."""
    patch.setattr(intake, "_put_on_record", lambda *_: None)


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
        release_unasked,
        check_unheard,
        policy_rolled_back,
        override_of_anybody,
        staging_brought_whole,
        arrival_unrecorded,
    )
}
