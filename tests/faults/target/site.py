"""The target's whole cloud, the network between the app and its services, and what a case asks of them."""

from __future__ import annotations

import hashlib
import itertools
import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Self

import requests
from azure.core.exceptions import ResourceNotFoundError
from azure.storage.blob import BlobServiceClient

from airgap.envelope import Envelope
from airgap.journal import Journal, parse_entry_name
from airgap.keys import public_key_from_pem
from airgap.ledger import LedgerEntry, sequence_of
from airgap.manifest import ENVELOPE_NAME, Artifact
from airgap.policy import TrustPolicy
from airgap.receipt import Receipt, verify_receipt
from airgap.states import Kind, State
from local_cloud.acr_transfer import layout
from local_cloud.cloud import PROJECT, Cloud, ImportWay
from local_cloud.pki import CertificateAuthority
from local_cloud.registry.client import RegistryCallError
from local_cloud.samples import list_digests
from tests.bundles import CHANNEL, Bundle, fixed_key, make_bundle, make_policy
from tests.contract.loop import running_loop
from tests.faults.proxy import Proxy

INCOMING, STAGING, TRANSFER, QUARANTINE = "incoming", "staging", "transfer", "quarantine"
JOURNAL, LEDGER, RECEIPTS, WORK = "journal", "ledger", "receipts", "work"

_IMAGE = "application/vnd.oci.image.manifest.v1+json"
_END_S = 500.0
_POLL_S = 0.1
_RECONCILE_AFTER_S = 2.0
"""Without anything new, at which the reconciler would come round."""


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
class Target:
    """The deployed target; its host is started again whenever it was killed."""

    folder: Path
    ca: CertificateAuthority
    cloud: Cloud
    network: Proxy
    service: BlobServiceClient
    policy: TrustPolicy
    bundles: list[Bundle] = field(default_factory=list)
    kills: int = 0
    """How often the host was killed, by itself or by a fault."""
    kill_every: int = 0
    deliver_twice: bool = False
    left_before: frozenset[str] = frozenset()
    """What lay on the desk when the last bundle was pushed: told by the case before, no fault of this one."""
    _zygote: subprocess.Popen[str] | None = None
    _keeper: threading.Thread = field(init=False)
    _pid: int = 0
    _is_ending: bool = False

    @classmethod
    @contextmanager
    def start(cls, folder: Path, way: ImportWay) -> Iterator[Self]:
        """All of it, for as long as the block lasts."""
        ca = CertificateAuthority.create(folder / "pki")
        cloud = Cloud(role="target", folder=folder / "target", ca=ca, import_way=way)
        with ExitStack() as stack:
            loop = stack.enter_context(running_loop())
            loop.run(cloud.connect(), _END_S)
            stack.callback(lambda: loop.run(cloud.close()))
            policy = _policy(cloud)
            loop.run(cloud.deploy(trustPolicy=policy), _END_S)
            network = stack.enter_context(Proxy.between(_services(cloud), ca))
            service = stack.enter_context(
                BlobServiceClient.from_connection_string(
                    cloud.azurite.connection_string, connection_verify=str(ca.ca_file)
                )
            )
            target = cls(
                folder=folder / "host",
                ca=ca,
                cloud=cloud,
                network=network,
                service=service,
                policy=TrustPolicy.from_bytes(json.dumps(policy).encode()),
            )
            target.folder.mkdir()
            stack.callback(target._end_host)
            target._start_host()
            yield target

    # --- the host ---

    def _start_host(self) -> None:
        with (self.folder / "log").open("ab") as log:
            self._zygote = subprocess.Popen(
                [sys.executable, "-m", "tests.faults.target.host"],
                cwd=PROJECT,
                env={**self._environment(), "HTTPS_PROXY": self.network.url},
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
            )
        assert self._zygote.stdout is not None
        assert self._zygote.stdout.readline() == "ready\n", (self.folder / "log").read_text()
        self._keeper = threading.Thread(target=self._keep_going)
        self._keeper.start()

    def _environment(self) -> dict[str, str]:
        """The app's; its host has no account of its own here, since what fails is what the app asks for."""
        given = self.cloud.app_environment()
        return {name: one for name, one in given.items() if not name.startswith("AzureWebJobsStorage")}

    def _keep_going(self) -> None:
        zygote = self._zygote
        assert zygote is not None
        assert zygote.stdin is not None
        assert zygote.stdout is not None
        while True:
            order = {
                "folder": str(self.folder),
                "owner": os.getpid(),
                "kill_every": self.kill_every,
                "deliver_twice": self.deliver_twice,
            }
            zygote.stdin.write(json.dumps(order) + "\n")
            zygote.stdin.flush()
            self._pid = json.loads(zygote.stdout.readline())["pid"]
            if self._is_ending:  # it was asked for before this child was known
                self.kill_host()
            zygote.stdout.readline()  # how it ended: it was killed
            self._pid = 0
            self.kills += 1
            if self._is_ending:
                return

    def kill_host(self) -> None:
        """As a power cut would; it starts again at once."""
        if self._pid:
            with suppress(ProcessLookupError):  # it has just been killed by itself
                os.kill(self._pid, signal.SIGKILL)

    def restart(self, *, kill_every: int = 0, deliver_twice: bool = False) -> None:
        """Go on with a host that is killed at every so many steps, or that delivers everything twice."""
        self.kill_every, self.deliver_twice = kill_every, deliver_twice
        _until(lambda: self._pid, "the host")
        before = self.kills
        self.kill_host()
        _until(lambda: self.kills > before, "the host's end")
        self.kills = 0

    def _end_host(self) -> None:
        self._is_ending = True
        self.kill_host()
        assert self._zygote is not None
        assert self._zygote.stdin is not None
        self._zygote.stdin.close()
        self._zygote.wait(10)
        self._keeper.join(10)
        assert self._zygote.stdout is not None
        self._zygote.stdout.close()

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

    def import_next(self) -> Bundle:
        """The next bundle, from its push to the end of its import; the reconciler comes round if need be."""
        bundle = self.seal()
        self.left_before = frozenset(self._desk())
        self.push(bundle)
        self.await_end(bundle)
        return bundle

    def await_end(self, bundle: Bundle) -> None:
        """Wait for the end of an import, and for the last thing that is done of it."""
        instance = instance_of(bundle)
        asked_at, seen = time.monotonic(), 0

        def has_ended() -> bool:
            nonlocal asked_at, seen
            if time.monotonic() - asked_at > _RECONCILE_AFTER_S:
                self.reconcile()
                asked_at = time.monotonic()
            names = self.names(JOURNAL, f"{Kind.IMPORTS}/{instance}/")
            if len(names) > seen:
                seen, asked_at = len(names), time.monotonic()
            is_told = bool(names) and not self.journal(instance).is_active
            return is_told and not (self.names(WORK, "closing/") or self.names(WORK, "door/"))

        _until(has_ended, f"the end of {bundle.transfer_id}", lambda: str(self.journal(instance).state))

    def reconcile(self) -> None:
        """Have the reconciler come round now; nothing, if the host is just being started."""
        url = f"{(self.folder / 'url').read_text()}/admin/functions/reconcile_imports"
        try:
            requests.post(url, json={"input": ""}, timeout=10)
        except requests.ConnectionError:
            return

    # --- what is there ---

    def names(self, container: str, prefix: str = "") -> list[str]:
        """Names of blobs, asked past the network of the app."""
        client = self.service.get_container_client(container)
        return [str(name) for name in client.list_blob_names(name_starts_with=prefix or None)]

    def read(self, container: str, name: str) -> bytes:
        """A blob, likewise; nothing if it is gone."""
        try:
            return self.service.get_blob_client(container, name).download_blob().readall()
        except ResourceNotFoundError:
            return b""

    def journal(self, instance: str) -> Journal:
        """The journal of an import, checked as a whole."""
        names = [
            name
            for name in self.names(JOURNAL, f"{Kind.IMPORTS}/{instance}/")
            if parse_entry_name(name) is not None
        ]
        return Journal.read(Kind.IMPORTS, instance, [self.read(JOURNAL, name) for name in names])

    def receipts(self) -> Mapping[str, Receipt]:
        """All receipts, each verified, by name."""
        return {
            name: verify_receipt(
                self.read(RECEIPTS, name), policy=self.policy, channel=CHANNEL, now=datetime.now(UTC)
            )
            for name in self.names(RECEIPTS)
        }

    def runs(self) -> list[Mapping[str, Any]]:
        """All pipeline runs, as ARM lists them."""
        cloud = self.cloud
        staging = cloud.machine.app_settings.get("STAGING_REGISTRY_RESOURCE_ID")
        token = cloud.tokens.mint(cloud.owner_principal, "https://management.azure.com/")
        answer = requests.get(
            f"{cloud.url('arm')}{staging or cloud.registry_id}/pipelineRuns",
            params={"api-version": "2025-06-01-preview"},
            headers={"Authorization": f"Bearer {token}"},
            verify=str(self.ca.ca_file),
            timeout=10,
        )
        return list(answer.json()["value"])

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

    def wrongs(self, bundle: Bundle, runs: int = 1) -> list[str]:
        """What is not as it must be after an import, judged by what lies in storage and registry.

        ``runs``: so many there may be for its blob; of them one has succeeded, in any case.
        """
        instance, digest = instance_of(bundle), bundle.manifest_sha256
        states = [entry.state for entry in self.journal(instance).entries]
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
            and len(self.names(JOURNAL, f"{Kind.IMPORTS}/{instance}")) == len(states),
            "one receipt, of the import": [one.is_imported for one in receipts] == [True],
            "the number is taken, by it": [one.owner for one in entries] == [instance],
            "one import": len(ran) <= runs and sum(map(_has_succeeded, ran)) == 1,
            "what was signed is in the registry": self.digest(artifact) == artifact.digest,
            "nothing is left of the work, neither turn nor place": left == [],
        }
        ends = [dict(entry.facts) for entry in self.journal(instance).entries if "code" in entry.facts]
        told = f"{states}, {ends}, {receipts}, {len(ran)} runs, left: {left[:9]}"
        return [f"not so: {what} ({told})" for what, holds in must_hold.items() if not holds]


def _has_succeeded(run: Mapping[str, Any]) -> bool:
    return run["response"]["status"] == "Succeeded" and not run["response"].get("pipelineRunErrorMessage")


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


def _services(cloud: Cloud) -> dict[int, str]:
    urls = {
        "storage": cloud.blob_url,
        "table": cloud.machine.storage_url("table", cloud._account),
        "arm": cloud.url("arm"),
        "vault": cloud.url("vault"),
        "registry": f"https://{cloud.registry.login_server}",
    }
    if cloud.staging_registry is not None:
        urls["staging registry"] = f"https://{cloud.staging_registry.login_server}"
    return {int(url.split("/")[2].rpartition(":")[2]): name for name, url in urls.items()}


def _until(holds: Callable[[], object], what: str, told: Callable[[], str] = lambda: "") -> None:
    deadline = time.monotonic() + _END_S
    while not holds():
        assert time.monotonic() < deadline, f"{what} did not come: {told()}"
        time.sleep(_POLL_S)
