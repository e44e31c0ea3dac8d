"""The target: a bundle of one channel after the other is imported there."""

from __future__ import annotations

import hashlib
import itertools
import json
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Self

from airgap.envelope import Envelope
from airgap.keys import public_key_from_pem
from airgap.ledger import LedgerEntry, sequence_of
from airgap.manifest import ENVELOPE_NAME, Artifact
from airgap.receipt import Receipt, verify_receipt
from airgap.states import Kind, State
from local_cloud.acr_transfer import layout
from local_cloud.cloud import Cloud, ImportWay
from local_cloud.pki import CertificateAuthority
from local_cloud.registry.client import RegistryCallError
from local_cloud.samples import list_digests
from tests.bundles import CHANNEL, Bundle, fixed_key, make_bundle, make_policy
from tests.faults.ends.site import JOURNAL, LEDGER, TRANSFER, WORK, Site, has_succeeded, untrue

INCOMING, STAGING, QUARANTINE, RECEIPTS = "incoming", "staging", "quarantine", "receipts"

_IMAGE = "application/vnd.oci.image.manifest.v1+json"


def transfer_blob(repository: str) -> tuple[bytes, Artifact]:
    """A transfer blob, as the emulator writes them, with one image of that name; and what is signed of it."""

    def described(media_type: str, content: bytes) -> layout.Descriptor:
        return layout.Descriptor(media_type, layout.digest_of(content), len(content))

    config = json.dumps({"architecture": "amd64", "os": "linux", "of": repository}).encode()
    layer = f"what {repository} consists of".encode()
    members = {
        described("application/vnd.oci.image.config.v1+json", config): config,
        described("application/vnd.oci.image.layer.v1.tar", layer): layer,
    }
    first, second = members
    image = json.dumps(
        {
            "schemaVersion": 2,
            "mediaType": _IMAGE,
            "config": first.to_json(),
            "layers": [second.to_json()],
        }
    ).encode()
    found = described(_IMAGE, image)
    content = b"".join(
        itertools.chain(
            layout.opening(),
            *(layout.blob_member(one, [raw]) for one, raw in {**members, found: image}.items()),
            layout.closing([(f"{repository}:v1", found)]),
        )
    )
    return content, Artifact(
        reference=f"{repository}:v1", digest=found.digest, media_type=_IMAGE, tags=("v1",)
    )


@dataclass(kw_only=True)
class Target(Site):
    """The deployed target, and the bundles that one channel's source has sealed."""

    reconciler = "reconcile_imports"
    kind = Kind.IMPORTS

    bundles: list[Bundle] = field(default_factory=list)
    left_before: frozenset[str] = frozenset()
    """What lay on the desk when the last bundle was pushed: told by the case before, no fault of this one."""

    @classmethod
    @contextmanager
    def start(cls, folder: Path, way: ImportWay) -> Iterator[Self]:
        """All of it, for as long as the block lasts."""
        ca = CertificateAuthority.create(folder / "pki")
        cloud = Cloud(role="target", folder=folder / "target", ca=ca, import_way=way)
        with cls.deployed(cloud, _policy) as target:
            yield target

    # --- bundles ---

    def seal(self) -> Bundle:
        """The channel's next bundle: one blob of one image."""
        sequence = 1 + len(self.bundles)
        content, artifact = transfer_blob(f"team/case{sequence:04d}")
        before = self.bundles[-1].manifest_sha256 if self.bundles else None
        made = make_bundle(
            transfer_id=f"case{sequence:04d}",
            sequence=sequence,
            previous_sha256=before,
            contents=[content],
            audience=[self.cloud.registry.login_server],
            keys=[fixed_key(1)],
            policy_json=b"-",
        )
        (blob,) = made.manifest.blobs
        manifest = replace(made.manifest, blobs=(replace(blob, artifacts=(artifact,)),))
        payload = manifest.to_bytes()
        sealed = replace(
            made,
            manifest=manifest,
            payload=payload,
            envelope=Envelope.sign(payload, [fixed_key(1).signer]).to_bytes(),
        )
        self.bundles.append(sealed)
        return sealed

    def push(self, bundle: Bundle) -> None:
        """Upload it, the bundle manifest last."""
        container = self.service.get_container_client(INCOMING)
        for name, content in bundle.blobs.items():
            container.upload_blob(f"{bundle.transfer_id}/{name}", content, overwrite=True)
        container.upload_blob(f"{bundle.transfer_id}/{ENVELOPE_NAME}", bundle.envelope, overwrite=True)

    def carry_next(self) -> str:
        """The next bundle, from its push to the end of its import; returns its import's instance."""
        bundle = self.seal()
        self.left_before = frozenset(self._desk())
        self.push(bundle)
        instance = instance_of(bundle)

        def has_ended() -> bool:
            is_told = not self.journal(instance).is_active
            return is_told and not (self.names(WORK, "closing/") or self.names(WORK, "door/"))

        self.await_end(instance, has_ended)
        return instance

    # --- what is there ---

    def receipts(self) -> Mapping[str, Receipt]:
        """All receipts, each verified, by name."""
        return {
            name: verify_receipt(
                self.read(RECEIPTS, name), policy=self.policy, channel=CHANNEL, now=datetime.now(UTC)
            )
            for name in self.names(RECEIPTS)
        }

    def digest(self, artifact: Artifact) -> str:
        """What the registry says about the reference of an artifact; nothing if it does not have it."""
        registry = self.cloud.registry
        try:
            found = list_digests(
                registry.login_server,
                username=registry.admin_username,
                password=registry.admin_password,
                ca_file=self.ca.ca_file,
                references=[artifact.reference],
            )
        except RegistryCallError as error:
            if error.status != 404:
                raise
            return ""
        return found[artifact.reference]

    def _desk(self) -> list[str]:
        """All that lies where nothing stays once an import has ended, but for what is removed by age."""
        by_timers = re.compile(r"reconciling/|removing/|plans/[a-z0-9]+/promoted/")
        return [
            *(f"{WORK}/{name}" for name in self.names(WORK) if not by_timers.match(name)),
            *(
                f"{where}/{name}"
                for where in (INCOMING, STAGING, TRANSFER, QUARANTINE)
                for name in self.names(where)
            ),
        ]

    def wrongs(self, case: str, runs: int = 1) -> list[str]:
        """See :class:`~tests.faults.ends.site.Site`."""
        (bundle,) = (one for one in self.bundles if instance_of(one) == case)
        digest = bundle.manifest_sha256
        states = [entry.state for entry in self.journal(case).entries]
        receipts = [one for one in self.receipts().values() if one.manifest_sha256 == digest]
        entries = [
            LedgerEntry.from_bytes(self.read(LEDGER, name))
            for name in self.names(LEDGER, f"{CHANNEL}/")
            if sequence_of(name) == bundle.manifest.sequence
        ]
        ran = [
            run["properties"]
            for run in self.runs()
            if run["properties"]["request"]["source"]["name"].split("/")[1] == digest
        ]
        (artifact,) = bundle.manifest.artifacts
        left = [name for name in self._desk() if name not in self.left_before]
        must_hold = {
            "one journal, which ends with the import": states[-2:] == [State.PROVEN, State.CLOSED]
            and len(self.names(JOURNAL, f"{Kind.IMPORTS}/{case}")) == len(states),
            "one receipt, of the import": [one.is_imported for one in receipts] == [True],
            "the number is taken, by it": [one.owner for one in entries] == [case],
            "one import": len(ran) <= runs and sum(map(has_succeeded, ran)) == 1,
            "what was signed is in the registry": self.digest(artifact) == artifact.digest,
            "nothing is left of the work, neither turn nor place": left == [],
        }
        ends = [dict(entry.facts) for entry in self.journal(case).entries if "code" in entry.facts]
        told = f"{states}, {ends}, {receipts}, {len(ran)} runs, left: {left[:9]}"
        return untrue(must_hold, told)


def instance_of(bundle: Bundle) -> str:
    """The id of the orchestration that imports a bundle, pushed once."""
    return f"import{hashlib.sha256(bundle.envelope).hexdigest()[:32]}"


def _policy(cloud: Cloud) -> dict[str, Any]:
    """A trust policy with the vault's key for receipts."""
    made = make_policy([fixed_key(1)], audience=[cloud.registry.login_server], order="rising")
    policy: dict[str, Any] = json.loads(made)
    pem = cloud.public_key_pem
    policy["keys"].append({"holder": "target", "publicKey": pem})
    keyids = [public_key_from_pem(pem).keyid]
    policy["channels"][CHANNEL]["receiptRoles"] = {"target": {"threshold": 1, "keyids": keyids}}
    return policy
