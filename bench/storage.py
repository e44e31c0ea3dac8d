"""Push and pull against AzCopy, whole processes in turn: on Azurite, and on an nginx that is not in the way.

    ./dev bench storage [--small] [--runs N] [--size MIB] [--json FILE]
    ./dev bench storage --on nginx --line 40,10 --line 150,5 --size 512

The mover's pull checks each part while it is written, flushes it to the medium, and reads all of it back; its
push hashes what it sends. AzCopy does none of that here (its defaults).
"""

from __future__ import annotations

import argparse
import itertools
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

from azure.storage.blob import BlobBlock, generate_container_sas

from airgap.manifest import ENVELOPE_NAME
from bench import peers
from bench.bundle import TRANSFER_ID, BenchBundle, make_bundle
from bench.line import Line, read_line, run_line
from bench.measuring import MIB, BenchError, Contestant, Row, compete, table, write_results
from bench.sink import run_sink
from local_cloud.azurite import Azurite, AzuriteError
from local_cloud.pki import CertificateAuthority

ROOT = Path(__file__).parents[1]
_MEMORY = Path("/dev/shm")  # noqa: S108 - a tmpfs: the tools are measured, not the disk
_DUMMY_SAS = "sv=2021-12-02&sr=c&sp=rcwl&se=2099-01-01&sig=none"


@dataclass(frozen=True, slots=True, kw_only=True)
class Storage:
    """One storage to measure on."""

    name: str
    url: str
    new_container: Callable[[], str]
    sas: Callable[[str], str]
    azcopy_push_options: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Bench:
    """The parts that all measurements share."""

    folder: Path
    ca_file: Path
    bundle: BenchBundle
    azcopy: Path | None
    concurrencies: tuple[int | None, ...]
    lines: tuple[Line | None, ...]
    runs: int


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure and print; returns the exit code."""
    parser = argparse.ArgumentParser(prog="./dev bench storage", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--small", action="store_true", help="16 MiB, once: only to see that it runs")
    parser.add_argument("--runs", type=int, default=5, metavar="N", help="of each tool (default 5)")
    parser.add_argument("--size", type=int, metavar="MIB", help="to move (default 1024)")
    parser.add_argument(
        "--concurrency", type=int, action="append", metavar="N", help="of the mover, at most; repeatable"
    )
    parser.add_argument(
        "--line",
        type=read_line,
        action="append",
        metavar="MS,MB",
        help="a round trip, and MB/s a connection, between the tools and nginx; repeatable",
    )
    parser.add_argument("--on", choices=("azurite", "nginx"), help="only on this storage")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the results there as well")
    parser.add_argument("--folder", type=Path, help=f"where to work (default {_MEMORY} if it is there)")
    options = parser.parse_args(arguments)
    size_bytes = (options.size or (16 if options.small else 1024)) * MIB
    runs = 1 if options.small else options.runs
    where = options.folder or (_MEMORY if _MEMORY.is_dir() else None)
    tables: dict[str, Sequence[Row]] = {}
    with tempfile.TemporaryDirectory(prefix="bench-", dir=where) as scratch:
        bench = Bench(
            folder=Path(scratch),
            ca_file=Path(scratch) / "pki" / "ca.pem",
            bundle=make_bundle(Path(scratch) / "bundle", size_bytes=size_bytes),
            azcopy=_or_say(lambda: peers.azcopy(may_fetch=not options.small)),
            concurrencies=tuple(options.concurrency or (None, 4)),
            lines=tuple(options.line or (None,)),
            runs=runs,
        )
        for title, rows in _measure(bench, only="nginx" if options.line else options.on):
            tables[title] = rows
            print(table(title, rows), flush=True)
    write_results(options.json, runs=runs, size_bytes=size_bytes, tables=tables)
    return 0 if tables else 1


def _or_say(find: Callable[[], Path]) -> Path | None:
    try:
        return find()
    except BenchError as error:
        print(f"skipped: {error}", file=sys.stderr)
        return None


def _measure(bench: Bench, *, only: str | None) -> Iterator[tuple[str, list[Row]]]:
    ca = CertificateAuthority.create(bench.folder / "pki")
    starts = {"nginx": _nginx, "azurite": _azurite}
    chosen = [(name, line) for name in starts for line in bench.lines if only in {None, name}]
    for name, line in chosen:
        try:
            with ExitStack() as stack:
                storage = starts[name](bench, ca, stack)
                if line is not None:
                    far = stack.enter_context(run_line(storage.url, line))
                    storage = replace(storage, name=f"{name}, {line}", url=far)
                yield (
                    f"pull from {storage.name}",
                    compete(_pulls(bench, storage), runs=bench.runs, size_bytes=bench.bundle.size_bytes),
                )
                yield (
                    f"push to {storage.name}",
                    compete(_pushes(bench, storage), runs=bench.runs, size_bytes=bench.bundle.size_bytes),
                )
        except (BenchError, AzuriteError) as error:
            print(f"skipped: {name}: {error}", file=sys.stderr)


# --- the storages ------------------------------------------------------------------------------------------


def _nginx(bench: Bench, ca: CertificateAuthority, stack: ExitStack) -> Storage:
    url = stack.enter_context(
        run_sink(
            peers.nginx(), bench.folder / "nginx", ca, served=bench.bundle.folder, transfer_id=TRANSFER_ID
        )
    )
    return Storage(
        name="nginx",
        url=url,
        new_container=lambda: "incoming",
        sas=lambda _container: _DUMMY_SAS,
        azcopy_push_options=("--check-length=false",),  # nothing is kept: there is no length to ask for
    )


def _azurite(bench: Bench, ca: CertificateAuthority, stack: ExitStack) -> Storage:
    disk = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="bench-azurite-")))
    azurite = stack.enter_context(Azurite.start(account="account", folder=disk / "azurite", ca=ca))
    azurite.ensure_containers("transfer")
    _upload(azurite, bench.bundle)
    numbers = itertools.count(1)

    def new_container() -> str:
        name = f"incoming{next(numbers)}"
        azurite.ensure_containers(name)
        return name

    def sas(container: str) -> str:
        return generate_container_sas(
            azurite.account,
            container,
            account_key=azurite.key,
            permission="rcwl",
            expiry=datetime.now(UTC) + timedelta(hours=6),
        )

    return Storage(name="Azurite", url=azurite.blob_url, new_container=new_container, sas=sas)


def _upload(azurite: Azurite, bundle: BenchBundle) -> None:
    with azurite.service_client() as service, bundle.blob.open("rb") as file:
        blob = service.get_blob_client("transfer", f"{TRANSFER_ID}/{bundle.blob.name}")
        ids: list[BlobBlock] = []
        while piece := file.read(32 * MIB):
            ids.append(BlobBlock(f"{len(ids):06d}"))
            blob.stage_block(ids[-1].id, piece)
        blob.commit_block_list(ids)
        envelope = service.get_blob_client("transfer", f"{TRANSFER_ID}/{ENVELOPE_NAME}")
        envelope.upload_blob(bundle.envelope.read_bytes())


# --- the contestants ---------------------------------------------------------------------------------------


def _pulls(bench: Bench, storage: Storage) -> list[Contestant]:
    source = f"{storage.url}/transfer/{TRANSFER_ID}"
    sas = _write_sas(bench, storage.sas("transfer"))
    ours = [
        _ours(
            bench,
            n,
            lambda: [
                *("pull", source, str(_empty(bench.folder / "volume"))),
                *("--sas-file", str(sas), "--allow-system-disk"),
            ],
        )
        for n in bench.concurrencies
    ]
    address = f"{source}/{bench.bundle.blob.name}?{storage.sas('transfer')}"
    return (
        _azcopy(bench, lambda: [address, str(_empty(bench.folder / "copy") / "001"), "--from-to=BlobLocal"])
        + ours
    )


def _pushes(bench: Bench, storage: Storage) -> list[Contestant]:
    def ours() -> list[str]:
        container = storage.new_container()
        sas = _write_sas(bench, storage.sas(container))
        return [
            "push",
            str(bench.folder / "volume"),
            f"{storage.url}/{container}",
            "--sas-file",
            str(sas),
        ]

    def azcopy() -> list[str]:
        container = storage.new_container()
        name = f"{TRANSFER_ID}/{bench.bundle.blob.name}"
        url = f"{storage.url}/{container}/{name}?{storage.sas(container)}"
        return [str(bench.bundle.blob), url, "--from-to=LocalBlob", *storage.azcopy_push_options]

    return _azcopy(bench, azcopy) + [_ours(bench, n, ours) for n in bench.concurrencies]


def _ours(bench: Bench, concurrency: int | None, words: Callable[[], list[str]]) -> Contestant:
    options = ["--trust", str(bench.bundle.policy), "--plain"]
    if concurrency is not None:
        options += ["--concurrency", str(concurrency)]
    return Contestant(
        name="offline-mover" if concurrency is None else f"offline-mover, at most {concurrency} connections",
        command=lambda: [sys.executable, "-m", "offline_mover", *words(), *options],
        environment={"REQUESTS_CA_BUNDLE": str(bench.ca_file), "PYTHONPATH": str(ROOT)},
        folder=bench.folder,
    )


def _azcopy(bench: Bench, words: Callable[[], list[str]]) -> list[Contestant]:
    if bench.azcopy is None:
        return []
    program = str(bench.azcopy)
    options = ("--log-level=NONE", "--skip-version-check")
    folder = str(_empty(bench.folder / "azcopy"))
    return [
        Contestant(
            name="AzCopy",
            command=lambda: [program, "copy", *words(), *options],
            environment={
                "SSL_CERT_FILE": str(bench.ca_file),
                "HOME": folder,
                "AZCOPY_LOG_LOCATION": folder,
                "AZCOPY_JOB_PLAN_LOCATION": folder,
                "AZCOPY_DISABLE_SYSLOG": "true",
            },
            folder=bench.folder,
        )
    ]


def _write_sas(bench: Bench, token: str) -> Path:
    path = bench.folder / "token.sas"
    path.write_text(token)
    return path


def _empty(folder: Path) -> Path:
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    return folder


if __name__ == "__main__":
    sys.exit(main())
