"""The cloud ends' hashing: the app's reader against azure-storage-blob's, whole processes in turn.

    ./dev bench hashing [--small] [--runs N] [--size MIB] [--json FILE]

Both read the parts of a blob on nginx, as many at a time as a worker runs activities, and digest them; both
import what the app imports. azure-storage-blob reads 1 MiB a request, since it holds what it was answered
several times over.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from azure.core import MatchConditions
from azure.core.credentials import AccessToken
from azure.storage.blob import BlobServiceClient

from airgap.parts import PartRange, plan_parts
from bench import peers
from bench.bundle import BLOB_NAME, TRANSFER_ID, make_bundle
from bench.measuring import MIB, BenchError, Contestant, Row, compete, table, write_results
from bench.sink import run_sink
from local_cloud.pki import CertificateAuthority

ROOT = Path(__file__).parents[1]
_MEMORY = Path("/dev/shm")  # noqa: S108 - a tmpfs: the readers are measured, not the disk
_NAME = f"{TRANSFER_ID}/{BLOB_NAME}"
_PEER = "azure-storage-blob, 1 MiB a request"
_OURS = "the app, a part a request"


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure and print; returns the exit code."""
    parser = argparse.ArgumentParser(prog="./dev bench hashing", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--small", action="store_true", help="16 MiB, once: only to see that it runs")
    parser.add_argument("--runs", type=int, default=5, metavar="N", help="of each reader (default 5)")
    parser.add_argument("--size", type=int, metavar="MIB", help="to hash (default 1024)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the results there as well")
    parser.add_argument("--folder", type=Path, help=f"where to work (default {_MEMORY} if it is there)")
    parser.add_argument("--contestant", nargs=4, help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.contestant:
        name, url, size_bytes, part_size_bytes = options.contestant
        _hash(name, url, size_bytes=int(size_bytes), part_size_bytes=int(part_size_bytes))
        return 0
    size_bytes = (options.size or (16 if options.small else 1024)) * MIB
    runs = 1 if options.small else options.runs
    try:
        where = options.folder or (_MEMORY if _MEMORY.is_dir() else None)
        with tempfile.TemporaryDirectory(prefix="bench-", dir=where) as scratch:
            rows = _measure(Path(scratch), size_bytes=size_bytes, runs=runs)
    except BenchError as error:
        print(f"skipped: {error}", file=sys.stderr)
        return 1
    title = "hash a blob on nginx"
    print(table(title, rows), flush=True)
    write_results(options.json, runs=runs, size_bytes=size_bytes, tables={title: rows})
    return 0


def _measure(folder: Path, *, size_bytes: int, runs: int) -> list[Row]:
    ca = CertificateAuthority.create(folder / "pki")
    bundle = make_bundle(folder / "bundle", size_bytes=size_bytes)
    with run_sink(peers.nginx(), folder / "nginx", ca, served=bundle.folder, transfer_id=TRANSFER_ID) as url:
        return compete(
            [
                _contestant(name, url, ca.ca_file, size_bytes, bundle.part_size_bytes)
                for name in (_PEER, _OURS)
            ],
            runs=runs,
            size_bytes=size_bytes,
        )


def _contestant(name: str, url: str, ca_file: Path, *sizes: int) -> Contestant:
    words = [sys.executable, "-m", "bench.hashing", "--contestant", name, url, *map(str, sizes)]
    return Contestant(
        name=name,
        command=lambda: words,
        environment={
            "REQUESTS_CA_BUNDLE": str(ca_file),
            "PYTHONPATH": str(ROOT),
            "TRANSFER_ROLE": "source",
        },
    )


class _Credential:
    """A token for a storage that looks at none."""

    def get_token(self, *_scopes: str, **_: Any) -> AccessToken:
        return AccessToken("none", int(time.time()) + 3000)


def _hash(name: str, url: str, *, size_bytes: int, part_size_bytes: int) -> None:
    """Digest every part, as many at a time as ``host.json`` lets a worker run activities."""
    os.environ.setdefault("TRANSFER_ROLE", "source")
    from function_app.azure.blob import AzureBlobs  # noqa: PLC0415 - reads the role while it is imported
    from function_app.part_groups import hash_part  # noqa: PLC0415 - as above

    host = json.loads((ROOT / "host.json").read_bytes())
    at_once = host["extensions"]["durableTask"]["maxConcurrentActivityFunctions"]
    blobs = AzureBlobs(url, _Credential())
    stat = blobs.stat("transfer", _NAME)
    assert stat is not None
    etag = stat.etag
    digest: Callable[[PartRange], str] = lambda part: hash_part(  # noqa: E731
        blobs, "transfer", _NAME, etag=etag, part=part
    )
    if name == _PEER:
        service = BlobServiceClient(
            url, credential=_Credential(), max_single_get_size=MIB, max_chunk_get_size=MIB
        )
        digest = lambda part: _hash_by_sdk(service, etag, part)  # noqa: E731
    parts = plan_parts(BLOB_NAME, size_bytes=size_bytes, part_size_bytes=part_size_bytes)
    with ThreadPoolExecutor(at_once) as pool:
        assert len(list(pool.map(digest, parts))) == -(-size_bytes // part_size_bytes)


def _hash_by_sdk(service: BlobServiceClient, etag: str, part: PartRange) -> str:
    digest = hashlib.sha256()
    download = service.get_blob_client("transfer", _NAME).download_blob(
        offset=part.offset_bytes,
        length=part.size_bytes,
        etag=f'"{etag}"',
        match_condition=MatchConditions.IfNotModified,
        max_concurrency=1,
    )
    for piece in download.chunks():
        digest.update(piece)
    return digest.hexdigest()


if __name__ == "__main__":
    sys.exit(main())
