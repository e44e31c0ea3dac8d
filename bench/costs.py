"""The requests of one transfer to both transfer accounts, counted: what a cloud's bill has a line for.

    ./dev bench costs [--small] [--size MIB ...] [--artifacts N] [--part-size MIB] [--json FILE]

Both clouds of the demo stand on this machine, and each request that the front of a storage account lets
through is counted, from the order to the receipt that came back: by who asks and what for. Nobody asks the
app how far it is: what has happened is read in Azurite itself, where nothing is counted. The lists by which
the host learns of new blobs go with time and not with the transfer, so they are told apart. What the host
asks of its own account is left out: Azure's asks other things there.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import math
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from azure.core.exceptions import ResourceNotFoundError

from airgap.envelope import Envelope
from airgap.manifest import ENVELOPE_NAME, BundleManifest
from bench.measuring import MIB, measure
from local_cloud.cloud import PROJECT, Cloud
from local_cloud.demo.clouds import Demo
from local_cloud.demo.screen import SCREEN, until
from local_cloud.samples import push_small_images
from local_cloud.storage_front import Request
from local_cloud.tokens import STORAGE_AUDIENCE

_SIZES_MIB = (24, 393, 1536)
_WAIT_S = 1800.0
_OF_CONTENT = frozenset({"incoming", "staging", "transfer"})
_HOSTS_PAGE = "1000"
"""``maxresults`` of the host's own lists of a container; the app's have another one, or none."""

_HOSTS_ACCOUNT = "host"
"""How the name of the account ends that the Functions host has to itself."""


@dataclass(kw_only=True)
class Tally:
    """Requests to the storage of one cloud: how many, by who asked and what for."""

    cloud: Cloud
    verb: str = ""
    """Of the mover, while it is at work here: it alone comes with a SAS."""
    counts: dict[str, Counter[str]] = field(default_factory=dict)

    def add(self, request: Request) -> None:
        """Count a request, but for those that the owner of the account makes, to hand out a SAS."""
        if request.path()[0].endswith(_HOSTS_ACCOUNT):
            return
        if who := self._who(request):
            self.counts.setdefault(who, Counter())[kind_of(request, is_of_app=who.endswith("app"))] += 1

    def _who(self, request: Request) -> str | None:
        _, _, token = request.headers.get("authorization", "").partition(" ")
        if not token:
            return self.verb
        principal = self.cloud.tokens.verify(token, STORAGE_AUDIENCE).principal_id
        if principal == self.cloud.owner_principal:
            return None
        return f"{self.cloud.role} {'app' if principal == self.cloud.machine.app_principal else 'pipeline'}"


def kind_of(request: Request, *, is_of_app: bool) -> str:
    """The kind of a request, as far as prices tell requests apart."""
    if request.service != "blob":
        return request.service
    query, path = request.query(), request.path()
    match request.method, query.get("comp"):
        case _, "list":
            kind = "host's list" if is_of_app and query.get("maxresults") == _HOSTS_PAGE else "list"
        case "GET", None if path[1] in _OF_CONTENT and path[-1].isdigit():
            kind = "read of content"
        case (("GET" | "HEAD"), _):
            kind = "read"
        case "PUT", "block":
            kind = "block"
        case "PUT", None if "x-ms-copy-source" in request.headers:
            kind = "copy"
        case "DELETE", _:
            kind = "delete"
        case _:
            kind = "write"
    return kind


@dataclass(frozen=True, slots=True, kw_only=True)
class Counted:
    """The requests that one transfer made, and its inputs: the sizes that a formula is made of."""

    size_bytes: int
    parts: int
    blobs: int
    took_s: int
    requests: dict[str, dict[str, int]]
    """By who asked, then by what for."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Count and print; returns the exit code."""
    parser = argparse.ArgumentParser(prog="./dev bench costs", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--small", action="store_true", help="8 MiB: only to see that it runs")
    parser.add_argument("--size", type=int, action="append", metavar="MIB", help="of layers; repeatable")
    parser.add_argument("--artifacts", type=int, default=0, metavar="N", help="so many small images besides")
    parser.add_argument("--part-size", type=int, default=16, metavar="MIB", help="default: %(default)s")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the counts there as well")
    parser.add_argument("--folder", type=Path, help="where to work (default: the folder for temporary files)")
    options = parser.parse_args(arguments)
    sizes = options.size or ((8,) if options.small else _SIZES_MIB)
    found = []
    SCREEN.file = sys.stderr
    for size in sizes:
        with tempfile.TemporaryDirectory(prefix="bench-costs-", dir=options.folder) as scratch:
            count = _Count(Demo.prepare(Path(scratch) / "demo"), artifacts=options.artifacts)
            found.append(asyncio.run(count.run(size * MIB, part_size_mib=options.part_size)))
        print(_table(found[-1]), flush=True)
    if options.json:
        documents = [asdict(one) for one in found]
        options.json.write_text(json.dumps(documents, indent=1) + "\n", encoding="utf-8")
    return 0


def _table(counted: Counted) -> str:
    total = sum(sum(row.values()) for row in counted.requests.values())
    size = f"{counted.size_bytes / MIB:.1f} MiB in {counted.parts} parts and {counted.blobs} blobs"
    lines = [f"{size}: {total} requests, {counted.took_s} s"]
    for who, row in counted.requests.items():
        lines.append(f"  {who:16} " + ", ".join(f"{count} {what}" for what, count in row.items()))
    return "\n".join(lines)


class _Count:
    """One transfer there, and its receipt back."""

    def __init__(self, demo: Demo, *, artifacts: int) -> None:
        self._demo = demo
        self._artifacts = artifacts
        self._tallies = {cloud.role: Tally(cloud=cloud) for cloud in (demo.source, demo.target)}
        demo.source.access_mode = demo.target.access_mode = "ManagedIdentity"

    async def run(self, size_bytes: int, *, part_size_mib: int) -> Counted:
        """Bring both clouds up, count, and stop them."""
        demo = self._demo
        try:
            await demo.start()
            await demo.source.deploy(partSizeMib=part_size_mib)
            demo.source.stop_app()
            await demo.source.start_app()
            references = await asyncio.to_thread(demo.push_samples, size_bytes)
            references += await asyncio.to_thread(self._push_more)
            return await self._count(references)
        finally:
            await demo.close()

    def _push_more(self) -> list[str]:
        registry = self._demo.source.registry
        return push_small_images(
            registry.login_server,
            username=registry.admin_username,
            password=registry.admin_password,
            ca_file=self._demo.ca.ca_file,
            count=self._artifacts,
        )

    async def _count(self, references: list[str]) -> Counted:
        demo = self._demo
        for tally in self._tallies.values():
            tally.cloud.machine.watch_storage(tally.add)
        began = time.monotonic()
        transfer_id = await asyncio.to_thread(demo.post_transfer, references)
        manifest_name = f"{transfer_id}/{ENVELOPE_NAME}"
        raw = await self._wait(lambda: _blob(demo.source, "transfer", manifest_name))
        manifest = BundleManifest.from_bytes(Envelope.from_bytes(raw).payload)
        demo.medium.mkdir()
        medium = str(demo.medium)
        await self._move(demo.source, "pull", f"{demo.source.container_url}/{transfer_id}", medium)
        await self._move(demo.target, "push", medium, f"{demo.target.blob_url}/incoming")
        await self._wait(lambda: _is_put_away(demo.target, transfer_id))
        for cloud, rights in ((demo.target, "rl"), (demo.source, "rcl")):
            demo.sas_file(cloud).write_text(await asyncio.to_thread(cloud.sas, "receipts", rights))
        await self._move(demo.target, "receipts", "pull", f"{demo.target.blob_url}/receipts", medium)
        await self._move(demo.source, "receipts", "push", medium, f"{demo.source.blob_url}/receipts")
        await self._wait(lambda: _last_state(demo.source, f"transfers/{transfer_id}/") == "delivered")
        return Counted(
            size_bytes=sum(blob.size_bytes for blob in manifest.blobs),
            parts=sum(math.ceil(blob.size_bytes / blob.part_size_bytes) for blob in manifest.blobs),
            blobs=len(manifest.blobs),
            took_s=round(time.monotonic() - began),
            requests={
                who: dict(sorted(row.items()))
                for tally in self._tallies.values()
                for who, row in tally.counts.items()
            },
        )

    async def _wait(self, probe: Callable[[], Any]) -> Any:
        return await until("the next step", probe, timeout_s=_WAIT_S)

    async def _move(self, cloud: Cloud, *words: str) -> None:
        """Have the operator's command come to a cloud."""
        demo, tally = self._demo, self._tallies[cloud.role]
        tally.verb = " ".join(word for word in words[:2] if word.isalpha())
        command = [sys.executable, "-m", "offline_mover", *words, "--trust", str(demo.policy_file)]
        command += ["--sas-file", str(demo.sas_file(cloud))]
        command += ["--allow-system-disk"] if words[0] == "pull" else []
        environment = {"REQUESTS_CA_BUNDLE": str(demo.ca.ca_file), "PYTHONPATH": str(PROJECT)}
        await asyncio.to_thread(measure, command, environment=environment, folder=None)


def _names(cloud: Cloud, container: str, prefix: str) -> list[str]:
    with cloud.azurite.service_client() as service:
        found: Iterable[str] = service.get_container_client(container).list_blob_names(
            name_starts_with=prefix
        )
        return sorted(found)


def _blob(cloud: Cloud, container: str, name: str) -> bytes | None:
    with cloud.azurite.service_client() as service:
        try:
            return service.get_blob_client(container, name).download_blob().readall()
        except ResourceNotFoundError:
            return None


def _last_state(cloud: Cloud, prefix: str) -> str | None:
    names = _names(cloud, "journal", prefix)
    entry = _blob(cloud, "journal", names[-1]) if names else None
    return None if entry is None else str(json.loads(entry)["state"])


def _is_put_away(target: Cloud, transfer_id: str) -> bool:
    """The import is closed, and nothing is left of it where uploads, copies and work in progress lie."""
    left = [("incoming", f"{transfer_id}/"), ("staging", ""), ("transfer", ""), ("work", "closing/")]
    return _last_state(target, "imports/") == "closed" and not any(_names(target, *one) for one in left)


if __name__ == "__main__":
    sys.exit(main())
