"""Carries real artifacts across a simulated air gap, then shows what is refused. Run it by ``./dev demo``.

Everything lies in ``.demo/`` below the project, unless told otherwise. Each step is checked; the exit code is
not zero unless everything was as it is said on the screen.
"""

import argparse
import asyncio
import json
import os
import shlex
import shutil
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import requests
from azure.core.exceptions import ResourceNotFoundError
from azure.storage.blob import BlobServiceClient
from cryptography.hazmat.primitives.asymmetric import ec
from rich.console import Console
from rich.table import Table
from securesystemslib.signer import CryptoSigner

from airgap.envelope import Envelope
from airgap.fields import format_time
from airgap.keys import public_key_from_pem, signer_from_pem
from airgap.manifest import ENVELOPE_NAME
from airgap.policy import TrustPolicy
from airgap.receipt import Receipt, verify_receipt
from local_cloud.azurite import AzuriteError
from local_cloud.cloud import PROJECT, Cloud, CloudError
from local_cloud.pki import CertificateAuthority
from local_cloud.samples import list_digests, push_samples
from offline_mover.medium.file_lock import exclusive_lock

CHANNEL = "demo"
FOLDER = PROJECT / ".demo"
_TIMEOUT_S = 150.0
_POLL_S = 0.25
_TOLD_LINES = 6
"""Of what the mover says: its verdict, how long it took, and the next command."""
_SCREEN = Console(highlight=False, soft_wrap=True)


class DemoError(Exception):
    """Something was not as it should be."""


def expect(claim: bool, otherwise: str) -> None:
    """Fail the demo unless ``claim`` holds."""
    if not claim:
        raise DemoError(otherwise)


@contextmanager
def step(title: str) -> Iterator[None]:
    """Print a step and how long it took."""
    started = time.monotonic()
    _SCREEN.print(f"[bold]▶ {title}[/bold]")
    yield
    _SCREEN.print(f"  [dim]{time.monotonic() - started:.1f} s[/dim]")


async def until(what: str, probe: Callable[[], Any], *, timeout_s: float = _TIMEOUT_S) -> Any:
    """The first true answer of ``probe``, asked again for a bounded time."""
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        if answer := await asyncio.to_thread(probe):
            return answer
        await asyncio.sleep(_POLL_S)
    raise DemoError(f"{what} did not happen within {timeout_s:.0f} s")


@dataclass(frozen=True, slots=True, kw_only=True)
class Moved:
    """What a run of the mover gave."""

    exit_code: int
    output: str


async def offline_mover(
    *arguments: str, ca: CertificateAuthority, clean: bool = False, expected: int | None = 0
) -> Moved:
    """Run the mover as the operator does; ``clean`` gives it no network settings at all."""
    environment = {"PATH": "/usr/bin:/bin", "PYTHONPATH": str(PROJECT), "PYTHONDONTWRITEBYTECODE": "1"}
    if not clean:
        environment["REQUESTS_CA_BUNDLE"] = str(ca.ca_file)
    shown = shlex.join(argument.removeprefix(f"{PROJECT}/") for argument in arguments)
    _SCREEN.print(f"  $ offline-mover {shown}", style="cyan", markup=False)
    child = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "offline_mover", *arguments),
        cwd=PROJECT,
        env=environment,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    try:
        output, _ = await asyncio.wait_for(child.communicate(), _TIMEOUT_S)
    except TimeoutError:
        child.kill()
        await child.wait()
        raise DemoError(f"offline-mover {arguments[0]} took longer than {_TIMEOUT_S:.0f} s") from None
    text = output.decode(errors="replace").strip()
    for line in text.splitlines()[-_TOLD_LINES:]:
        _SCREEN.print(f"    {line}", markup=False)
    if expected is not None:
        expect(
            child.returncode == expected,
            f"offline-mover {arguments[0]} ended with {child.returncode}:\n{text}",
        )
    return Moved(exit_code=child.returncode or 0, output=text)


@dataclass(kw_only=True)
class Demo:
    """Both clouds, and what the people carry between them."""

    folder: Path
    ca: CertificateAuthority
    source: Cloud
    target: Cloud

    @classmethod
    def prepare(cls, folder: Path) -> "Demo":
        """A certificate authority in the folder, two clouds that are not connected yet."""
        folder.mkdir(parents=True, exist_ok=True)
        ca = CertificateAuthority.create(folder / "pki")
        return cls(
            folder=folder,
            ca=ca,
            source=Cloud(role="source", folder=folder / "source", ca=ca),
            target=Cloud(role="target", folder=folder / "target", ca=ca),
        )

    @property
    def policy_file(self) -> Path:
        """The trust policy that the target pins and the operator carries."""
        return self.folder / "trust-policy.json"

    @property
    def medium(self) -> Path:
        """The folder that stands for the medium."""
        return self.folder / "medium"

    def sas_file(self, cloud: Cloud) -> Path:
        """The operator's SAS for a cloud."""
        return self.folder / f"{cloud.role}.sas"

    async def start(self) -> None:
        """Bring both clouds up, with the app in each; the policy names the keys in their vaults."""
        await self.source.connect()
        await self.target.connect()
        self._write_policy()
        for cloud, container, permissions in (
            (self.source, "transfer", "rl"),
            (self.target, "incoming", "racwl"),
        ):
            self.sas_file(cloud).touch(mode=0o600)
            self.sas_file(cloud).write_text(await asyncio.to_thread(cloud.sas, container, permissions))
        policy = json.loads(self.policy_file.read_text())
        await asyncio.gather(
            self.source.deploy(trustPolicy=policy, partSizeMib=16), self.target.deploy(trustPolicy=policy)
        )
        await asyncio.gather(self.source.start_app(), self.target.start_app())

    def _write_policy(self) -> None:
        pems = {"source app": self.source.public_key_pem, "target app": self.target.public_key_pem}
        source_id, target_id = (public_key_from_pem(pem).keyid for pem in pems.values())
        channel = {
            "audience": [self.target.registry.login_server],
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
        policy = {
            "schema": 1,
            "version": 1,
            "expiresAt": format_time(datetime.now(UTC) + timedelta(days=365)),
            "keys": [{"holder": holder, "publicKey": pem} for holder, pem in pems.items()],
            "channels": {CHANNEL: channel},
        }
        self.policy_file.write_text(json.dumps(policy, indent=1) + "\n")

    async def close(self) -> None:
        """Stop everything."""
        await asyncio.gather(self.source.close(), self.target.close(), return_exceptions=True)

    # what the automation owner does

    def push_samples(self, layer_bytes_total: int = 110_000_000) -> list[str]:
        """Put real artifacts into the source registry; returns their references."""
        registry = self.source.registry
        return push_samples(
            registry.login_server,
            username=registry.admin_username,
            password=registry.admin_password,
            ca_file=self.ca.ca_file,
            layer_bytes_total=layer_bytes_total,
        )

    def digests(self, cloud: Cloud, references: list[str]) -> dict[str, str]:
        """What a registry says about references."""
        registry = cloud.registry
        return list_digests(
            registry.login_server,
            username=registry.admin_username,
            password=registry.admin_password,
            ca_file=self.ca.ca_file,
            references=references,
        )

    def post_transfer(self, references: list[str]) -> str:
        """Order a transfer over HTTP; returns its id."""
        answer = requests.post(
            f"{self.source.api_url}/api/transfers",
            json={
                "artifacts": references,
                "channel": CHANNEL,
                "audience": self.target.registry.login_server,
            },
            timeout=30,
        )
        expect(answer.status_code == requests.codes.accepted, f"POST was answered {answer.text}")
        return str(answer.json()["transferId"])

    def sealed_transfer(self, transfer_id: str) -> dict[str, Any] | None:
        """The state of a transfer once it is sealed, as the API tells it; ``None`` while it is not."""
        answer = requests.get(f"{self.source.api_url}/api/transfers/{transfer_id}", timeout=30)
        state: dict[str, Any] = answer.json()
        expect(state.get("state") not in {"failed", "refused", "cancelled"}, f"the transfer failed: {state}")
        return state if state.get("state") == "sealed" else None

    # what the security officer sees

    def blobs(self, container: str, prefix: str = "") -> dict[str, bytes]:
        """Blobs of the target's storage below a prefix, by name; small ones only."""
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
        """Wait for a receipt that was not there before."""
        return await until(  # type: ignore[no-any-return]  # a tuple from the lambda
            "a new receipt",
            lambda: next(((n, r) for n, r in self.receipts().items() if n not in known), None),
        )


async def cross_the_gap(demo: Demo) -> tuple[str, Receipt]:
    """The main path; returns the transfer id and the receipt."""
    with step("Source cloud: put real artifacts into the registry"):
        references = await asyncio.to_thread(demo.push_samples)
        at_source = await asyncio.to_thread(demo.digests, demo.source, references)
    with step("Automation: POST /api/transfers, wait until the bundle is sealed"):
        transfer_id = await asyncio.to_thread(demo.post_transfer, references)
        sealed = await until("sealing", lambda: demo.sealed_transfer(transfer_id))
        _SCREEN.print(f"  transfer {transfer_id}: {json.dumps(sealed['bundle'])}", markup=False)
    url = f"{demo.source.container_url}/{transfer_id}"
    trust = ("--trust", str(demo.policy_file))
    with step("Operator, source side: pull onto the medium"):
        demo.medium.mkdir()
        await offline_mover(
            *("pull", url, str(demo.medium), "--allow-system-disk"),
            *(*trust, "--sas-file", str(demo.sas_file(demo.source))),
            ca=demo.ca,
        )
    with step("The air gap: the source cloud is out of reach"):
        await demo.source.disconnect()
        expect(not await asyncio.to_thread(_answers, demo.source.api_url), "the source cloud still answers")
    with step("Operator, anywhere: verify the medium, without a network"):
        await offline_mover("verify", str(demo.medium), *trust, ca=demo.ca, clean=True)
    with step("Operator, target side: push"):
        await push(demo)
    with step("Target cloud: admit, hash, import, prove, sign a receipt"):
        _, receipt = await demo.next_receipt(set())
        expect(receipt.is_imported, f"refused: {receipt.code} {receipt.detail}")
        expect(receipt.transfer_id == transfer_id, "the receipt speaks of another transfer")
    with step("Compare every digest in both registries"):
        carried = sorted({*references, *(proof.reference for proof in receipt.artifacts)})
        at_target = await asyncio.to_thread(demo.digests, demo.target, carried)
        show_comparison(carried, at_source, at_target)
        expect(all(at_target.get(r) == d for r, d in at_source.items()), "a digest differs")
        expect(all(at_target.values()), "an artifact is missing in the target registry")
    show_receipt(receipt)
    return transfer_id, receipt


def _answers(url: str) -> bool:
    try:
        requests.get(url, timeout=2)
    except requests.ConnectionError:
        return False
    return True


async def push(demo: Demo, medium: Path | None = None, *, expected: int = 0) -> Moved:
    """Push a medium to the target's intake."""
    return await offline_mover(
        *("push", str(medium or demo.medium), f"{demo.target.blob_url}/incoming"),
        *("--trust", str(demo.policy_file), "--sas-file", str(demo.sas_file(demo.target))),
        ca=demo.ca,
        expected=expected,
    )


async def refuse_damage(demo: Demo) -> None:
    """One flipped byte: verify names the part, push sends nothing that could be imported."""
    with step("Refused: one flipped byte on the medium"):
        damaged = demo.folder / "damaged-medium"
        shutil.copytree(demo.medium, damaged)
        part = max(damaged.rglob("*.part"))
        with part.open("r+b") as file:
            file.seek(part.stat().st_size // 2)
            byte = file.read(1)
            file.seek(-1, 1)
            file.write(bytes([byte[0] ^ 0xFF]))
        trust = ("--trust", str(demo.policy_file))
        asked = ("--recarry", str(demo.folder / "recarry.json"))
        moved = await offline_mover(
            "verify", str(damaged), *trust, *asked, ca=demo.ca, clean=True, expected=18
        )
        expect(f"001/{part.name}" in moved.output, "verify did not name the part")
        await push(demo, damaged, expected=18)
        arrived = await asyncio.to_thread(demo.blobs, "incoming")
        expect(
            not [name for name in arrived if name.endswith(ENVELOPE_NAME)], "a manifest arrived all the same"
        )
        shutil.rmtree(damaged)


async def refuse_stranger(demo: Demo) -> None:
    """A bundle signed by an unknown key, uploaded past the mover."""
    with step("Refused: a bundle signed by an unknown key, uploaded past the mover"):
        known = set(await asyncio.to_thread(demo.receipts))
        bag = next(path for path in demo.medium.iterdir() if (path / ENVELOPE_NAME).exists())
        payload = Envelope.from_bytes((bag / ENVELOPE_NAME).read_bytes()).payload
        stranger = signer_from_pem(CryptoSigner(ec.generate_private_key(ec.SECP384R1())).private_bytes)
        forged = Envelope.sign(payload, [stranger]).to_bytes()
        await asyncio.to_thread(_upload, demo, f"{bag.name}/{ENVELOPE_NAME}", forged)
        _, receipt = await demo.next_receipt(known)
        show_refusal(receipt, "SIGNER_UNKNOWN")
        quarantined = await asyncio.to_thread(demo.blobs, "quarantine")
        expect(any(raw == forged for raw in quarantined.values()), "the forgery is not in quarantine")


def _upload(demo: Demo, name: str, raw: bytes) -> None:
    sas = demo.sas_file(demo.target).read_text()
    with BlobServiceClient(
        demo.target.blob_url, credential=sas, connection_verify=str(demo.ca.ca_file)
    ) as service:
        service.get_blob_client("incoming", name).upload_blob(raw)


async def refuse_replay(demo: Demo) -> None:
    """The same bundle again."""
    with step("Refused: the same bundle again"):
        known = set(await asyncio.to_thread(demo.receipts))
        await push(demo)
        _, receipt = await demo.next_receipt(known)
        show_refusal(receipt, "REPLAYED")


def show_refusal(receipt: Receipt, code: str) -> None:
    """Print a refusal; fail if it is another one than expected."""
    found = receipt.code.name if receipt.code else "imported"
    expect(found == code, f"{found} ({receipt.detail}) where {code} was expected")
    _SCREEN.print(f"  [green]✔[/green] {code} — {receipt.code.remedy if receipt.code else ''}")


def show_comparison(references: list[str], at_source: dict[str, str], at_target: dict[str, str]) -> None:
    """The table of digests."""
    table = Table("artifact", "digest", "source", "target", box=None, padding=(0, 2, 0, 2))
    for reference in references:
        digest = at_target.get(reference) or "missing"
        before = at_source.get(reference)
        name = reference if len(reference) < 60 else reference[:48] + "…"  # noqa: PLR2004 - a column's width
        table.add_row(
            name, digest[:26] + "…", "✔" if before == digest else "·", "✔" if digest != "missing" else "✘"
        )
    _SCREEN.print(table)


def show_receipt(receipt: Receipt) -> None:
    """The receipt, readable."""
    _SCREEN.print("[bold]Receipt[/bold] (signed by the target cloud's key)")
    for name, value in (
        ("verdict", "imported"),
        ("transfer", receipt.transfer_id),
        ("channel, sequence", f"{receipt.channel}, {receipt.sequence}"),
        ("target", receipt.target),
        ("decided at", receipt.decided_at.isoformat()),
        ("bundle manifest", f"sha256:{receipt.manifest_sha256}"),
        ("signed by", ", ".join(f"{s.role} {s.keyid[:16]}… ({s.scheme})" for s in receipt.signers)),
        ("artifacts proven", str(sum(proof.is_proven for proof in receipt.artifacts))),
    ):
        _SCREEN.print(f"  {name:18} {value}", markup=False)


def write_environment(demo: Demo, transfer_id: str) -> None:
    """A file for the shell, with which the README's commands work against the running demo."""
    source, target = demo.source, demo.target
    variables = {
        "SOURCE_API": source.api_url,
        "TARGET_API": target.api_url,
        "SOURCE_REGISTRY": source.registry.login_server,
        "TARGET_REGISTRY": target.registry.login_server,
        "SOURCE_CREDS": f"{source.registry.admin_username}:{source.registry.admin_password}",
        "TARGET_CREDS": f"{target.registry.admin_username}:{target.registry.admin_password}",
        "SOURCE_STORAGE": source.container_url,
        "TARGET_STORAGE": f"{target.blob_url}/incoming",
        "SOURCE_RECEIPTS": f"{source.blob_url}/receipts",
        "TARGET_RECEIPTS": f"{target.blob_url}/receipts",
        "SOURCE_SAS_FILE": str(demo.sas_file(source)),
        "TARGET_SAS_FILE": str(demo.sas_file(target)),
        "TRUST_POLICY_FILE": str(demo.policy_file),
        "TRANSFER_ID": transfer_id,
        "CHANNEL": CHANNEL,
        "REQUESTS_CA_BUNDLE": str(demo.ca.ca_file),
        "SSL_CERT_FILE": str(demo.ca.ca_file),
        "CURL_CA_BUNDLE": str(demo.ca.ca_file),
    }
    for name, cloud, permissions in (
        ("RECEIPTS_SAS_FILE", target, "rl"),
        ("SOURCE_RECEIPTS_SAS_FILE", source, "rcl"),
    ):
        sas_file = demo.folder / f"{name.lower()}.sas"
        sas_file.touch(mode=0o600)
        sas_file.write_text(cloud.sas("receipts", permissions, lifetime=timedelta(hours=8)))
        variables[name] = str(sas_file)
    path = demo.folder / "environment"
    path.touch(mode=0o600)
    exports = [f"export {name}={shlex.quote(value)}\n" for name, value in variables.items()]
    mover = f"PYTHONPATH={shlex.quote(str(PROJECT))} {shlex.quote(sys.executable)} -m offline_mover"
    path.write_text("".join([*exports, f'offline-mover() {{ {mover} "$@"; }}\n']))


async def keep_running(demo: Demo, transfer_id: str) -> None:
    """Bring the source back and wait for Ctrl-C or the end of standard input."""
    await demo.source.connect()
    await demo.source.start_app()
    await asyncio.to_thread(write_environment, demo, transfer_id)
    _SCREEN.print(
        "\n[bold]Still running.[/bold] Addresses, SAS files, the CA and offline-mover, in another shell:"
    )
    _SCREEN.print(
        f"  cd {shlex.quote(str(demo.folder.parent))} && . {shlex.quote(demo.folder.name + '/environment')}",
        markup=False,
    )
    for name, url in (
        ("source API", f"{demo.source.api_url}/api/transfers"),
        ("source registry", f"https://{demo.source.registry.login_server}/v2/"),
        ("target registry", f"https://{demo.target.registry.login_server}/v2/"),
        ("source storage", demo.source.container_url),
        ("target storage", f"{demo.target.blob_url}/incoming"),
    ):
        _SCREEN.print(f"  {name:16} {url}", markup=False)
    _SCREEN.print("Ctrl-C ends it.")
    await asyncio.Event().wait()


async def run(folder: Path, *, keep: bool) -> None:
    """The whole demo, in an empty folder."""
    started = datetime.now(UTC)
    demo = Demo.prepare(folder)
    _end_in_order_when_told()
    try:
        with step("Start both clouds: storage, registry, Key Vault, identity, ACR Transfer, Functions host"):
            await demo.start()
        transfer_id, _ = await cross_the_gap(demo)
        await refuse_damage(demo)
        await refuse_stranger(demo)
        await refuse_replay(demo)
        took = datetime.now(UTC) - started
        _SCREEN.print(f"\n[bold green]Everything was as said, in {took.total_seconds():.0f} s.[/bold green]")
        if keep:
            await keep_running(demo, transfer_id)
    finally:
        await demo.close()


def _end_in_order_when_told() -> None:
    """SIGINT and SIGTERM end the task, also where a shell has started it with SIGINT ignored.

    Told twice it ends no sooner: what is being stopped would be left running.
    """
    task = asyncio.current_task()
    if sys.platform == "win32" or task is None:
        return
    loop = asyncio.get_running_loop()

    def end() -> None:
        if not task.cancelling():
            task.cancel()

    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, end)


class FolderTakenError(Exception):
    """The demo cannot have the folder; the message says why and what to do."""


@contextmanager
def owned(folder: Path) -> Iterator[None]:
    """Have a folder to oneself: emptied now, and removed at the end unless the demo fails.

    Raises:
        FolderTakenError: another demo runs in it, or it holds what no demo left.
    """
    folder.mkdir(parents=True, exist_ok=True)
    lock = folder / "lock"
    if any(folder.iterdir()) and not lock.exists():
        raise FolderTakenError(
            f"{folder} is not empty, and no demo left what is in it: take another --folder"
        )
    with lock.open("wb") as file, ExitStack() as held:
        try:
            held.enter_context(exclusive_lock(file.fileno(), wait_s=0))
        except TimeoutError:
            other = "end it (Ctrl-C there), or take another folder: ./dev demo --folder FOLDER"
            raise FolderTakenError(f"another demo runs in {folder}: {other}") from None
        for path in folder.iterdir():
            if path.is_dir():
                shutil.rmtree(path)
            elif path != lock:
                path.unlink()
        yield
        if os.name != "nt":  # where nothing can be removed that is open
            shutil.rmtree(folder)
    shutil.rmtree(folder, ignore_errors=True)


def parser() -> argparse.ArgumentParser:
    """The command line; ``./dev demo --help`` tells the same before anything is set up."""
    made = argparse.ArgumentParser(prog="./dev demo", description=__doc__)
    made.add_argument("--keep", action="store_true", help="leave everything running and print the addresses")
    made.add_argument(
        "--folder",
        type=Path,
        default=FOLDER,
        help="where everything lies; what is in it is removed (default: .demo)",
    )
    return made


def main() -> int:
    """Run as the command line says; 0 only if everything was as said."""
    arguments = parser().parse_args()
    folder = arguments.folder.absolute()
    try:
        with owned(folder):
            try:
                asyncio.run(run(folder, keep=arguments.keep))
            except (KeyboardInterrupt, asyncio.CancelledError):
                _SCREEN.print("Ended.")
                return 130
    except FolderTakenError as error:
        _SCREEN.print(str(error), markup=False)
        return 1
    except (DemoError, CloudError, AzuriteError) as error:
        _SCREEN.print("Not as said:", style="bold red", end=" ")
        _SCREEN.print(str(error), markup=False)
        _SCREEN.print(f"The logs are below {folder}.", markup=False)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
