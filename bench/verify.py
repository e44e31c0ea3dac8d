"""Verify against the tools that check sums today, on a volume in the page cache.

    ./dev bench verify [--small] [--runs N] [--size MIB] [--json FILE]

"One core" is SHA-256 of OpenSSL, by hashlib, over one buffer in memory: what the processor can do.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from bench import peers
from bench.bundle import TRANSFER_ID, make_bundle
from bench.measuring import MIB, BenchError, Contestant, Row, compete, measure, table, write_results
from bench.sink import run_sink
from local_cloud.pki import CertificateAuthority

ROOT = Path(__file__).parents[1]
_BUFFER_BYTES = 4 * MIB


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure and print; returns the exit code."""
    parser = argparse.ArgumentParser(prog="./dev bench verify", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--small", action="store_true", help="16 MiB, once: only to see that it runs")
    parser.add_argument("--runs", type=int, default=5, metavar="N", help="of each tool (default 5)")
    parser.add_argument("--size", type=int, metavar="MIB", help="to verify (default 1024)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the results there as well")
    parser.add_argument("--folder", type=Path, help="where to work (default: the folder for temporary files)")
    options = parser.parse_args(arguments)
    size_bytes = (options.size or (16 if options.small else 1024)) * MIB
    runs = 1 if options.small else options.runs
    try:
        with tempfile.TemporaryDirectory(prefix="bench-", dir=options.folder) as scratch:
            rows = _measure(Path(scratch), size_bytes=size_bytes, runs=runs)
    except BenchError as error:
        print(f"skipped: {error}", file=sys.stderr)
        return 1
    title = "verify a volume in the page cache"
    print(table(title, rows), flush=True)
    write_results(options.json, runs=runs, size_bytes=size_bytes, tables={title: rows})
    return 0


def _measure(folder: Path, *, size_bytes: int, runs: int) -> list[Row]:
    trust = _pulled_volume(folder, size_bytes)
    volume = folder / "volume"
    bag = volume / TRANSFER_ID
    contestants = [
        Contestant(
            name="sha256sum -c",
            command=lambda: [peers.coreutils_sha256sum(), "--check", "--quiet", "manifest-sha256.txt"],
            folder=bag,
        ),
        Contestant(
            name="bagit.py --validate --processes 2",
            command=lambda: [
                *(sys.executable, "-W", "ignore", str(peers.bagit()), "--quiet"),
                *("--validate", "--processes", "2", str(bag)),
            ],
        ),
        Contestant(
            name="offline-mover verify",
            command=lambda: [
                *(sys.executable, "-m", "offline_mover", "verify", str(volume)),
                *("--trust", str(trust), "--plain"),
            ],
            environment={"PYTHONPATH": str(ROOT)},
        ),
    ]
    speeds = [_one_core(size_bytes)]
    rows = compete(contestants, runs=runs, size_bytes=size_bytes)
    speeds.append(_one_core(size_bytes))
    ours, cores = rows[-1], len(os.sched_getaffinity(0))
    best = max(speeds)
    print(f"one core: {best:.0f} MB/s; {cores} cores: {ours.mb_per_s / best / cores:.2f} of what they can do")
    print(f"times as fast as bagit.py: {rows[1].wall_s / ours.wall_s:.2f}")
    return rows


def _pulled_volume(folder: Path, size_bytes: int) -> Path:
    """Have the mover pull a bundle onto ``folder/volume``; gives the trust policy."""
    ca = CertificateAuthority.create(folder / "pki")
    bundle = make_bundle(folder / "bundle", size_bytes=size_bytes)
    (folder / "volume").mkdir()
    (folder / "sas").write_text("sp=r&sig=none")
    with run_sink(peers.nginx(), folder / "nginx", ca, served=bundle.folder, transfer_id=TRANSFER_ID) as url:
        measure(
            [
                *(sys.executable, "-m", "offline_mover", "pull", f"{url}/transfer/{TRANSFER_ID}"),
                *(
                    str(folder / "volume"),
                    "--allow-system-disk",
                    "--trust",
                    str(bundle.policy),
                    "--sas-file",
                    str(folder / "sas"),
                ),
            ],
            environment={"REQUESTS_CA_BUNDLE": str(ca.ca_file), "PYTHONPATH": str(ROOT)},
            folder=folder,
        )
    bundle.blob.unlink()
    return bundle.policy


def _one_core(size_bytes: int) -> float:
    """How fast one core digests, in MB/s."""
    buffer = bytes(_BUFFER_BYTES)
    digest = hashlib.sha256()
    rounds = max(1, size_bytes // _BUFFER_BYTES)
    start = time.process_time()
    for _ in range(rounds):
        digest.update(buffer)
    return rounds * _BUFFER_BYTES / 1e6 / (time.process_time() - start)


if __name__ == "__main__":
    sys.exit(main())
