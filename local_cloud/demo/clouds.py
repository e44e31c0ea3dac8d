"""The two clouds of the demo, and what the people on either side do there."""

import asyncio
import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import requests
from azure.core.exceptions import ResourceNotFoundError
from azure.storage.blob import BlobServiceClient

from airgap.fields import format_time
from airgap.keys import public_key_from_pem
from airgap.manifest import ENVELOPE_NAME
from airgap.policy import TrustPolicy
from airgap.receipt import Receipt, verify_receipt
from local_cloud.az import deploys_with_az
from local_cloud.cloud import Cloud
from local_cloud.demo.screen import expect, show_command, until
from local_cloud.pki import CertificateAuthority
from local_cloud.samples import list_digests, push_samples, push_small_images

CHANNEL = "demo"
_OPERATORS_SAS = {"source": ("transfer", "rl"), "target": ("incoming", "racwl")}
"""The container that an operator comes to at each side, and what the SAS allows there."""


def demo_policy(*, source_key: str, target_key: str, audience: str) -> dict[str, Any]:
    """The trust policy of the demo's one channel: public keys in PEM, and the registry that it serves."""
    pems = {"source app": source_key, "target app": target_key}
    source_id, target_id = (public_key_from_pem(pem).keyid for pem in pems.values())
    channel = {
        "audience": [audience],
        "repositories": ["**"],
        "bundleRoles": {
            "source": {
                "threshold": 1,
                "keyids": [source_id],
                "requiredAlgorithms": ["ecdsa-sha2-nistp384"],
            }
        },
        "receiptRoles": {"target": {"threshold": 1, "keyids": [target_id]}},
        "maxAgeSeconds": 30 * 24 * 3600,
        "clockSkewSeconds": 300,
        "order": "rising",
        "onGap": "record",
        "maxSequenceJump": 100,
    }
    return {
        "schema": 1,
        "version": 1,
        "expiresAt": format_time(datetime.now(UTC) + timedelta(days=365)),
        "keys": [{"holder": holder, "publicKey": pem} for holder, pem in pems.items()],
        "channels": {CHANNEL: channel},
    }


@dataclass(kw_only=True)
class Demo:
    """Both clouds, and what the people carry between them."""

    folder: Path
    ca: CertificateAuthority
    source: Cloud
    target: Cloud

    @classmethod
    def prepare(cls, folder: Path, *, with_az: bool = False) -> "Demo":
        """The demo in a folder, with a certificate authority and two clouds that are not connected yet.

        Args:
            folder: where everything lies.
            with_az: whether both sides are deployed by the `az` on the path.
        """
        folder.mkdir(parents=True, exist_ok=True)
        ca = CertificateAuthority.create(folder / "pki")
        deployer = deploys_with_az(show_command) if with_az else None
        return cls(
            folder=folder,
            ca=ca,
            source=Cloud(role="source", folder=folder / "source", ca=ca, deployer=deployer),
            target=Cloud(role="target", folder=folder / "target", ca=ca, deployer=deployer),
        )

    @property
    def policy_file(self) -> Path:
        """The file of the trust policy that the target pins and the operator carries."""
        return self.folder / "trust-policy.json"

    @property
    def medium(self) -> Path:
        """The folder that stands for the medium."""
        return self.folder / "medium"

    def sas_file(self, cloud: Cloud) -> Path:
        """The file with the operator's SAS for a cloud."""
        return self.folder / f"{cloud.role}.sas"

    async def start(self, *, is_delivering_twice: bool = False) -> None:
        """Bring both clouds up, with the app in each; the policy names the keys in their vaults.

        Args:
            is_delivering_twice: every activity and every blob event comes twice, as Azure may do.
        """
        await self.source.connect()
        await self.target.connect()
        self.write_policy(
            demo_policy(
                source_key=self.source.public_key_pem,
                target_key=self.target.public_key_pem,
                audience=self.target.registry.login_server,
            )
        )
        both = (self.source, self.target)
        await asyncio.gather(*(self.open(one, is_delivering_twice=is_delivering_twice) for one in both))

    async def open(self, cloud: Cloud, *, is_delivering_twice: bool = False) -> None:
        """Give the operator of a cloud that is up a SAS; deploy its app with the trust policy, start it."""
        container, permissions = _OPERATORS_SAS[cloud.role]
        self.sas_file(cloud).touch(mode=0o600)
        self.sas_file(cloud).write_text(await asyncio.to_thread(cloud.sas, container, permissions))
        policy = json.loads(self.policy_file.read_text())
        parts = {"partSizeMib": 4} if cloud.role == "source" else {}
        await cloud.deploy(trustPolicy=policy, **parts)
        await cloud.start_app(is_delivering_twice=is_delivering_twice)

    def write_policy(self, policy: Mapping[str, Any]) -> None:
        """Write the file of the trust policy, which is pinned."""
        self.policy_file.write_text(json.dumps(policy, indent=1) + "\n")

    async def close(self) -> None:
        """Stop both clouds."""
        await asyncio.gather(self.source.close(), self.target.close(), return_exceptions=True)

    # what the automation owner does

    def push_samples(self, layer_bytes_total: int = 30_000_000) -> list[str]:
        """Put real artifacts into the source registry; returns their references."""
        registry = self.source.registry
        return push_samples(
            registry.login_server,
            username=registry.admin_username,
            password=registry.admin_password,
            ca_file=self.ca.ca_file,
            layer_bytes_total=layer_bytes_total,
        )

    def push_new_image(self) -> str:
        """Put one more image into the source registry; returns its reference."""
        registry = self.source.registry
        (reference,) = push_small_images(
            registry.login_server,
            username=registry.admin_username,
            password=registry.admin_password,
            ca_file=self.ca.ca_file,
            count=1,
        )
        return reference

    def digests(self, cloud: Cloud, references: list[str]) -> dict[str, str]:
        """The digests that a cloud's registry tells for references."""
        registry = cloud.registry
        return list_digests(
            registry.login_server,
            username=registry.admin_username,
            password=registry.admin_password,
            ca_file=self.ca.ca_file,
            references=references,
        )

    def post_transfer(self, references: list[str], audience: str | None = None, **said: Any) -> str:
        """Order a transfer over HTTP, for this target unless another is named; returns its id.

        ``said`` is what else the order says, such as ``select`` where no references are named.
        """
        answer = requests.post(
            f"{self.source.api_url}/api/transfers",
            json={
                **({"artifacts": references} if references else {}),
                "channel": CHANNEL,
                "audience": audience or self.target.registry.login_server,
                **said,
            },
            timeout=30,
        )
        expect(answer.status_code == requests.codes.accepted, f"POST was answered {answer.text}")
        return str(answer.json()["transferId"])

    def set_order(self, name: str, **said: Any) -> None:
        """Set a standing order for this target over HTTP; it comes once a day, first in a second."""
        start = format_time(datetime.now(UTC).replace(microsecond=0) + timedelta(seconds=1))
        answer = requests.put(
            f"{self.source.api_url}/api/orders/{name}",
            json={
                "channel": CHANNEL,
                "audience": self.target.registry.login_server,
                "schedule": f"R/{start}/P1D",
                **said,
            },
            timeout=30,
        )
        expect(answer.status_code == requests.codes.created, f"PUT was answered {answer.text}")

    def placed_transfer(self, name: str) -> str | None:
        """The id of the transfer that a standing order was placed as; if none, its timer is run first."""
        last = requests.get(f"{self.source.api_url}/api/orders/{name}", timeout=30).json()["last"]
        if last is not None:
            return str(last["transferId"])
        requests.post(f"{self.source.api_url}/admin/functions/place_standing_orders", json={}, timeout=30)
        return None

    def ask(self, transfer_id: str, what: str = "") -> dict[str, Any]:
        """The answer of the source's API about a transfer; ``what`` is ``/plan`` for its plan."""
        answer = requests.get(f"{self.source.api_url}/api/transfers/{transfer_id}{what}", timeout=30)
        expect(answer.status_code == requests.codes.ok, f"GET was answered {answer.text}")
        told: dict[str, Any] = answer.json()
        return told

    def receipts_sas(self, cloud: Cloud) -> Path:
        """The file with the operator's SAS for receipts: to fetch them or, at the source, to bring them."""
        file = self.folder / f"{cloud.role}-receipts.sas"
        file.touch(mode=0o600)
        permissions = "rcl" if cloud.role == "source" else "rl"
        file.write_text(cloud.sas("receipts", permissions, lifetime=timedelta(hours=8)))
        return file

    def take_ticket(self, url: str, body: bytes, file: Path) -> Path:
        """Get a ticket over HTTP, from either side's API, and keep it in a file."""
        answer = requests.post(url, data=body, timeout=30)
        expect(answer.status_code == requests.codes.created, f"POST was answered {answer.text}")
        file.unlink(missing_ok=True)
        file.touch(mode=0o600)
        file.write_bytes(answer.content)
        return file

    def pickup_ticket(self, transfer_id: str, recarry: bytes = b"") -> Path:
        """The file with a ticket for a sealed transfer, or for the blobs that a re-carry request needs."""
        url = f"{self.source.api_url}/api/transfers/{transfer_id}/pickup"
        return self.take_ticket(url, recarry, self.folder / "pickup.json")

    def drop_ticket(self, medium: Path) -> Path:
        """The file with a ticket for the bundle on a medium."""
        bag = next(path for path in medium.iterdir() if (path / ENVELOPE_NAME).exists())
        url = f"{self.target.api_url}/api/tickets"
        return self.take_ticket(url, (bag / ENVELOPE_NAME).read_bytes(), self.folder / "drop.json")

    def sealed_transfer(self, transfer_id: str) -> dict[str, Any] | None:
        """The state of a transfer once it is sealed, as the API tells it; ``None`` while it is not."""
        answer = requests.get(f"{self.source.api_url}/api/transfers/{transfer_id}", timeout=30)
        state: dict[str, Any] = answer.json()
        expect(state.get("state") not in {"failed", "refused", "cancelled"}, f"the transfer failed: {state}")
        return state if state.get("state") == "sealed" else None

    # what the security officer sees

    def blobs(self, container: str, prefix: str = "") -> dict[str, bytes]:
        """The small blobs of the target's storage below a prefix: their contents by name."""
        with BlobServiceClient.from_connection_string(
            self.target.azurite.connection_string, connection_verify=str(self.ca.ca_file)
        ) as service:
            client = service.get_container_client(container)
            try:
                return {
                    name: client.download_blob(name).readall()
                    for name in client.list_blob_names(name_starts_with=prefix)
                }
            except ResourceNotFoundError:  # moved between listing and reading
                return {}

    def receipts(self) -> dict[str, Receipt]:
        """All receipts of the target, each verified under the trust policy."""
        policy = TrustPolicy.from_bytes(self.policy_file.read_bytes())
        return {
            name: verify_receipt(raw, policy=policy, channel=CHANNEL, now=datetime.now(UTC))
            for name, raw in self.blobs("receipts").items()
        }

    async def next_receipt(self, known: set[str]) -> tuple[str, Receipt]:
        """Wait for a receipt whose name is not among ``known``; returns name and receipt."""
        return await until(  # type: ignore[no-any-return]  # a tuple from the lambda
            "a new receipt",
            lambda: next(((n, r) for n, r in self.receipts().items() if n not in known), None),
        )
