"""The story of the demo on this machine, with both clouds side by side: the crossing, and what is refused."""

import asyncio
import json
import shlex
import shutil
import sys
import textwrap
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import requests
from azure.storage.blob import BlobServiceClient
from cryptography.hazmat.primitives.asymmetric import ec

from airgap.envelope import Envelope
from airgap.keys import signer_from_pem
from airgap.manifest import ENVELOPE_NAME
from airgap.receipt import Receipt
from airgap.signatures import CryptoSigner
from local_cloud.az import block
from local_cloud.cloud import PROJECT, Cloud
from local_cloud.demo.clouds import CHANNEL, Demo
from local_cloud.demo.mover import Moved, offline_mover
from local_cloud.demo.screen import SCREEN, expect, show_comparison, show_receipt, show_refusal, step, until


async def cross_the_gap(demo: Demo) -> tuple[str, Receipt]:
    """Carry a transfer across the gap; returns the transfer id and the receipt."""
    with step("Source cloud: put real artifacts into the registry"):
        references = await asyncio.to_thread(demo.push_samples)
        at_source = await asyncio.to_thread(demo.digests, demo.source, references)
    with step("Automation: POST /api/transfers, wait until the bundle is sealed"):
        transfer_id = await asyncio.to_thread(demo.post_transfer, references)
        sealed = await until("sealing", lambda: demo.sealed_transfer(transfer_id))
        SCREEN.print(f"  transfer {transfer_id}: {json.dumps(sealed['bundle'])}", markup=False)
    trust = ("--trust", str(demo.policy_file))
    with step("Operator, source side: take a ticket for this very bundle, pull onto the medium"):
        demo.medium.mkdir()
        ticket = await asyncio.to_thread(demo.pickup_ticket, transfer_id)
        await offline_mover(
            *("pull", str(demo.medium), "--allow-system-disk", "--ticket", str(ticket), *trust), ca=demo.ca
        )
    with step("The air gap: the source cloud is out of reach"):
        await demo.source.disconnect()
        expect(not await asyncio.to_thread(_answers, demo.source.api_url), "the source cloud still answers")
    with step("Operator, anywhere: verify the medium, without a network"):
        await offline_mover("verify", str(demo.medium), *trust, ca=demo.ca, clean=True)
    with step("Operator, target side: take a ticket for this very bundle, push"):
        ticket = await asyncio.to_thread(demo.drop_ticket, demo.medium)
        await offline_mover("push", str(demo.medium), "--ticket", str(ticket), *trust, ca=demo.ca)
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
    """Flip one byte on the medium, and show that verify names the part and push sends nothing importable."""
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


async def refuse_stranger(demo: Demo) -> None:
    """Upload a bundle signed by an unknown key past the mover, and show that it is refused."""
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
    """Push the same bundle again, and show that it is refused."""
    with step("Refused: the same bundle again"):
        known = set(await asyncio.to_thread(demo.receipts))
        await push(demo)
        _, receipt = await demo.next_receipt(known)
        show_refusal(receipt, "REPLAYED")


async def send_what_is_new(demo: Demo, transfer_id: str) -> None:
    """Bring the receipt back, which closes the transfer, and show that what it proves is not sent again."""
    with step("Back at the source: the receipt is carried home, and the transfer is closed by it"):
        await demo.source.connect()
        await demo.source.start_app()
        trust = ("--trust", str(demo.policy_file))
        for verb, cloud in (("pull", demo.target), ("push", demo.source)):
            sas = await asyncio.to_thread(demo.receipts_sas, cloud)
            ends = [f"{cloud.blob_url}/receipts", str(demo.medium)]
            await offline_mover(
                *("receipts", verb, *(ends if verb == "pull" else reversed(ends))),
                *(*trust, "--sas-file", str(sas)),
                ca=demo.ca,
            )
        await until("the transfer being closed", lambda: demo.ask(transfer_id)["state"] == "delivered")
    wanted: dict[str, Any] = {"select": [{"repositories": ["samples/*"]}], "onlyMissing": True}
    with step("Automation: a dry run of all samples that the target lacks: one is new"):
        new = await asyncio.to_thread(demo.push_new_image)
        preview = await asyncio.to_thread(lambda: demo.post_transfer([], dryRun=True, **wanted))
        await until("the plan", lambda: demo.ask(preview)["state"] == "previewed")
        plan = await asyncio.to_thread(demo.ask, preview, "/plan")
        for one in plan["held"]:
            (word,) = one["held"].values()
            SCREEN.print(f"  there {one['reference'][:50]:50} says {word['receipt'][-30:]}", markup=False)
        planned = [one["reference"] for blob in plan["blobs"] for one in blob["artifacts"]]
        SCREEN.print(f"  new   {', '.join(planned)}", markup=False)
        expect(planned == [new], "the plan is not of what is new")
        words = {word["transferId"] for one in plan["held"] for word in one["held"].values()}
        expect(words == {transfer_id}, "something is left out on the word of another receipt")
    with step("Automation: PUT /api/orders/nightly sends what is new, every day from now on"):
        await asyncio.to_thread(lambda: demo.set_order("nightly", **wanted))
        placed = await until("the order's time", lambda: demo.placed_transfer("nightly"))
        sealed = await until("sealing", lambda: demo.sealed_transfer(placed))
        expect(sealed["counts"]["artifacts"] == 1, "more than what is new was sent")
        SCREEN.print(f"  transfer {placed}: {json.dumps(sealed['bundle'])}", markup=False)


def write_environment(demo: Demo, transfer_id: str) -> None:
    """Write a file for the shell, with which the README's commands work against the running demo."""
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
    for name, cloud in (("RECEIPTS_SAS_FILE", target), ("SOURCE_RECEIPTS_SAS_FILE", source)):
        variables[name] = str(demo.receipts_sas(cloud))
    path = demo.folder / "environment"
    path.touch(mode=0o600)
    exports = [f"export {name}={shlex.quote(value)}\n" for name, value in variables.items()]
    mover = f"PYTHONPATH={shlex.quote(str(PROJECT))} {shlex.quote(sys.executable)} -m offline_mover"
    path.write_text("".join([*exports, f'offline-mover() {{ {mover} "$@"; }}\n']))


def show_az(cloud: Cloud) -> None:
    """Print the lines by which a shell's `az` signs in to a cloud, and how infra/deploy is called there."""
    group = cloud.group_id.rpartition("/")[2]
    deploy = ["infra/deploy", cloud.role, "--resource-group", group]
    deploy += ["--parameters", str(cloud.parameters_file), "-p", f"prefix={cloud.prefix}", "--no-package"]
    SCREEN.print(f"\n[bold]az at the {cloud.role}[/bold], as the owner of its subscription:")
    SCREEN.print(textwrap.indent(block(cloud), "  "), markup=False)
    SCREEN.print(f"The registry is in the resource group registries, what is deployed in {group}. Once more:")
    SCREEN.print(f"  {shlex.join(deploy)}\n", markup=False)


async def keep_running(demo: Demo, transfer_id: str) -> None:
    """Keep both clouds up until Ctrl-C or the end of standard input."""
    await asyncio.to_thread(write_environment, demo, transfer_id)
    SCREEN.print(
        "\n[bold]Still running.[/bold] Addresses, SAS files, the CA and offline-mover, in another shell:"
    )
    SCREEN.print(
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
        SCREEN.print(f"  {name:16} {url}", markup=False)
    for cloud in (demo.source, demo.target):
        await asyncio.to_thread(show_az, cloud)
    SCREEN.print("Ctrl-C ends it.")
    await asyncio.Event().wait()


async def run(folder: Path, *, keep: bool, with_az: bool) -> None:
    """Run the whole demo in an empty folder; ``with_az`` has `az` deploy both sides."""
    started = datetime.now(UTC)
    demo = Demo.prepare(folder, with_az=with_az)
    try:
        with step("Start both clouds: storage, registry, Key Vault, identity, ACR Transfer, Functions host"):
            await demo.start()
        transfer_id, _ = await cross_the_gap(demo)
        await refuse_damage(demo)
        await refuse_stranger(demo)
        await refuse_replay(demo)
        await send_what_is_new(demo, transfer_id)
        took = datetime.now(UTC) - started
        SCREEN.print(f"\n[bold green]Everything was as said, in {took.total_seconds():.0f} s.[/bold green]")
        if keep:
            await keep_running(demo, transfer_id)
    finally:
        await demo.close()
