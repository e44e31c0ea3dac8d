"""The source: a transfer of one channel after the other is ordered and sealed there."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import requests

from airgap.ledger import LedgerEntry, sequence_of
from airgap.manifest import ENVELOPE_NAME, BundleManifest
from airgap.states import Kind, State
from airgap.verify import Verdict, verify_bundle
from local_cloud.cloud import Cloud
from local_cloud.demo.clouds import CHANNEL, demo_policy
from local_cloud.pki import CertificateAuthority
from local_cloud.registry.client import RegistryClient
from local_cloud.samples import list_digests, push_small_images
from tests.bundles import fixed_key
from tests.faults.ends.site import LEDGER, TRANSFER, WORK, Site, has_succeeded, until, untrue

_AUDIENCE = "target.azurecr.io"
_IMAGES = 100
_GRACE_S = 30
"""In which an order is answered, or the host was killed over it."""


@dataclass(kw_only=True)
class Source(Site):
    """The deployed source, its registry full of small images, and the transfers of it that were sealed."""

    reconciler = "reconcile_transfers"
    kind = Kind.TRANSFERS

    references: list[str] = field(default_factory=list)
    transfers: list[str] = field(default_factory=list)
    """Their ids, in the order of their numbers."""

    @classmethod
    @contextmanager
    def start(cls, folder: Path) -> Iterator[Self]:
        """All of it, for as long as the block lasts."""
        cloud = Cloud(role="source", folder=folder / "source", ca=CertificateAuthority.create(folder / "pki"))
        with cls.deployed(cloud, _policy) as source:
            source.references = push_small_images(**source._registry(), count=_IMAGES)
            yield source

    def _registry(self) -> dict[str, Any]:
        registry = self.cloud.registry
        return {
            "login_server": registry.login_server,
            "username": registry.admin_username,
            "password": registry.admin_password,
            "ca_file": self.ca.ca_file,
        }

    def carry_next(self) -> str:
        """The next transfer, from its order until it is sealed, or has ended otherwise; returns its id."""
        transfer_id = self.order(self.reference())
        self.transfers.append(transfer_id)
        self.await_ended(transfer_id)
        return transfer_id

    def await_ended(self, transfer_id: str) -> State | None:
        """Wait until a transfer is sealed, or has ended otherwise; returns its state."""
        self.await_end(transfer_id, lambda: self.journal(transfer_id).state in _ENDS)
        return self.journal(transfer_id).state

    def order(self, reference: str) -> str:
        """Order an image, again and again until the order is taken: its key makes it the same each time."""
        order = {"artifacts": [reference], "channel": CHANNEL, "audience": _AUDIENCE}
        answers: list[requests.Response] = []

        def is_taken() -> bool:
            try:
                answers.append(
                    requests.post(
                        f"{self.url}/api/transfers",
                        json=order,
                        headers={"Idempotency-Key": f"case {reference}"},
                        timeout=_GRACE_S,
                    )
                )
            except requests.RequestException:  # the host was killed, and starts again
                return False
            return bool(answers[-1].status_code == requests.codes.accepted)

        until(is_taken, f"the order of {reference}", lambda: answers[-1].text if answers else "no answer")
        return str(answers[-1].json()["transferId"])

    def move_tag(self, reference: str, to: str) -> None:
        """Have a tag name what another reference does."""
        repository, _, tag = reference.partition(":")
        access = self._registry()
        with RegistryClient(access.pop("login_server"), **access) as client:
            _, manifest = client.manifest(*to.split(":"))
            client.push_manifest(repository, json.loads(manifest), tag)

    def reference(self, transfer_id: str | None = None) -> str:
        """What is ordered next, or was by that transfer."""
        number = len(self.transfers) if transfer_id is None else self.transfers.index(transfer_id)
        return self.references[number]

    def verdict(self, transfer_id: str) -> Verdict:
        """What the target's policy says of the bundle manifest that was published."""
        raw = self.read(TRANSFER, f"{transfer_id}/{ENVELOPE_NAME}")
        return verify_bundle(raw, policy=self.policy, now=self.now, target=_AUDIENCE)

    def _taken(self) -> dict[int, LedgerEntry]:
        names = [name for name in self.names(LEDGER, f"{CHANNEL}/") if sequence_of(name) is not None]
        entries = (LedgerEntry.from_bytes(self.read(LEDGER, name)) for name in names)
        return {entry.sequence: entry for entry in entries}

    def wrongs(self, case: str, runs: int = 1) -> list[str]:
        """See :class:`~tests.faults.ends.site.Site`."""
        journal, verdict, taken = self.journal(case), self.verdict(case), self._taken()
        number = 1 + self.transfers.index(case)
        ran = [
            run["properties"]
            for run in self.runs()
            if run["properties"]["request"]["target"]["name"].startswith(f"{case}/")
        ]
        named = sorted(self.names(TRANSFER, f"{case}/"))
        turns = [name for name in self.names(WORK) if name.startswith("channels/")]
        states = [entry.state.value for entry in journal.entries]
        ends = [dict(entry.facts) for entry in journal.entries if "code" in entry.facts]
        told = f"{states}, {ends}, {verdict.code} {verdict.detail}, {named}, {len(ran)} runs, {sorted(taken)}"
        manifest = verdict.manifest
        if manifest is None:
            return untrue({"one bundle, which the target would accept": False}, told)
        before = taken[number - 1].manifest_sha256 if number > 1 else None
        blobs = [f"{case}/{blob.name}" for blob in manifest.blobs]
        must_hold = {
            "one journal, which says that it is sealed": journal.state is State.SEALED,
            "one bundle, which the target would accept": verdict.is_accepted,
            "no blob but those that it names": named == sorted([*blobs, f"{case}/{ENVELOPE_NAME}"]),
            "the next number": manifest.sequence == number,
            "no number with a hole before it": [taken[one].transfer_id for one in sorted(taken)]
            == self.transfers,
            "what it comes after is the bundle before": manifest.previous_sha256 == before,
            "what is signed is what was ordered": self._is_as_ordered(case, manifest),
            "what is signed is what lies there": self._is_as_signed(case, manifest),
            "as many exports as there may be": 1 <= sum(map(has_succeeded, ran)) <= len(ran) <= runs,
            "no turn is kept": turns == [],
        }
        return untrue(must_hold, told)

    def _is_as_ordered(self, case: str, manifest: BundleManifest) -> bool:
        reference = self.reference(case)
        digests = list_digests(**self._registry(), references=[reference])
        return {one.reference: one.digest for one in manifest.artifacts} == digests

    def _is_as_signed(self, case: str, manifest: BundleManifest) -> bool:
        (blob,) = manifest.blobs
        content = self.read(TRANSFER, f"{case}/{blob.name}")
        (sha256,) = blob.part_sha256  # so small a blob has one part
        return hashlib.sha256(content).hexdigest() == sha256


_ENDS = frozenset({State.SEALED, State.FAILED, State.REFUSED, State.CANCELLED})


def _policy(cloud: Cloud) -> dict[str, Any]:
    """A trust policy with the vault's key for bundles."""
    return demo_policy(
        source_key=cloud.public_key_pem, target_key=fixed_key(1).public_pem, audience=_AUDIENCE
    )
