"""The speed at which parity is made and lost shards are rebuilt, by one process, in memory.

    python -m bench.erasure [--small] [--data-shards K] [--runs N]

MB/s are bytes of data shards (10^6) a second of processor time: what one core keeps up with while media are
read. Processor time, so that other work on the machine disturbs less; nothing here waits.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import time
from collections.abc import Callable, Sequence

from airgap.erasure import UNIT_BYTES, Combination, ErasureCode

KIB = 1024
PIECES_KIB = (64, 256, 1024, 4096)
PARITY_SHARDS = (1, 2, 4, 8)


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--small", action="store_true", help="little of everything: does it still run?")
    parser.add_argument("--data-shards", type=int, default=50, metavar="K", help="of a stripe (default 50)")
    parser.add_argument("--runs", type=int, default=5, metavar="N", help="the median counts (default 5)")
    options = parser.parse_args(arguments)
    data_shards, runs = (4, 1) if options.small else (options.data_shards, options.runs)
    pieces_kib = (16,) if options.small else PIECES_KIB

    print(f"Python {sys.version.split()[0]}, k = {data_shards} data shards, MB/s of data, median of {runs}")
    print(f"\nencode     {'  '.join(f'm={m:<5}' for m in PARITY_SHARDS)}")
    for piece_kib in pieces_kib:
        speeds = [
            _speed(ErasureCode(data_shards, m).encoding(), piece_kib * KIB, data_shards, runs)
            for m in PARITY_SHARDS
        ]
        print(f"{piece_kib:>5} KiB  {'  '.join(f'{speed:7.0f}' for speed in speeds)}")

    size = 16 * KIB if options.small else UNIT_BYTES
    print(f"\nrecover at {size // KIB} KiB")
    for lost in (1, 2, 4):
        code = ErasureCode(data_shards, 4)
        for combination, which in (
            (code.recovery(range(lost)), "from the first parity shards"),
            (code.recovery([*range(lost), *range(data_shards, code.shards - lost)]), "from the last ones"),
        ):
            speed = _speed(combination, size, data_shards, runs)
            print(
                f"{lost} data shards lost, rebuilt {which} ({len(combination.outputs)} in all): {speed:.0f}"
            )

    print("\nencode by the number of data shards, m = 1 and 2")
    for count in (2, 4) if options.small else (2, 4, 8, 16, 32, 128, 250):
        speeds = [_speed(ErasureCode(count, m).encoding(), size, count, runs) for m in (1, 2)]
        print(f"k = {count:>3}  {'  '.join(f'{speed:7.0f}' for speed in speeds)}")
    return 0


def _speed(combination: Combination, size_bytes: int, data_shards: int, runs: int) -> float:
    pieces = [(shard, os.urandom(size_bytes)) for shard in combination.inputs]
    rounds = max(1, 32 * 1024 * KIB // (size_bytes * data_shards)) if runs > 1 else 1

    def work() -> None:
        for _ in range(rounds):
            combination.apply(pieces, size_bytes)

    return rounds * size_bytes * data_shards / _median_s(work, runs) / 1e6


def _median_s(work: Callable[[], None], runs: int) -> float:
    times = []
    for _ in range(runs):
        begin = time.process_time()
        work()
        times.append(time.process_time() - begin)
    return statistics.median(times)


if __name__ == "__main__":
    sys.exit(main())
