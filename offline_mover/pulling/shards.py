"""Parity shards for the volumes of a pull, made of parts that are on them or still in the storage."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from airgap.damage import Damage
from airgap.errors import Code
from airgap.parity import ParityLayout, Stripe, shard_place
from airgap.parts import PartRange
from offline_mover.bags.bag import Bag
from offline_mover.bags.bag_texts import ListedFile, payload_name
from offline_mover.outcome import Finding
from offline_mover.parallel import in_parallel
from offline_mover.parity.stripe_coding import (
    ReadPiece,
    ShardInput,
    ShardOutput,
    StripeError,
    code_stripe,
    combination_of,
    file_reader,
    members,
    threads_for,
    units_for,
)
from offline_mover.progress import Meter
from offline_mover.pulling.destinations import Destination
from offline_mover.pulling.fetching import source_etag
from offline_mover.storage.ports import ReadableContainer


@dataclass(frozen=True, slots=True, kw_only=True)
class Written:
    """The parity shards that were written in this run.

    Args:
        files: the parity shards by name, for each volume.
        read_back: volume and name of the parts that were read from the medium to make them; those that were
            not right are among ``findings``.
        findings: parts that are no longer what was fetched; stripes with such a part were not written.
    """

    files: Mapping[Path, Mapping[str, ListedFile]]
    read_back: frozenset[tuple[Path, str]] = frozenset()
    findings: tuple[Finding, ...] = ()

    def on(self, held: Bag) -> Mapping[str, ListedFile]:
        """The parity shards that were written to the volume of a bag, by name."""
        return self.files.get(held.volume, {})


def write(
    destinations: Sequence[Destination],
    layout: ParityLayout | None,
    source: ReadableContainer,
    *,
    concurrency: int,
    meter: Meter,
) -> Written:
    """Write the parity shards that the volumes should hold and do not hold yet.

    Parts are read from the medium where their volume is here, so that they need not be read back once more;
    the others come from the storage. Each is checked against its signed digest, twice before it is accused:
    a parity shard is never made of anything else.

    Raises:
        MediaError: a medium refused.
        ServiceError: the storage refused.
        UntrustedInputError: a blob in the storage is not the one that was signed.
    """
    wanted = _wanted(destinations)
    if layout is None or not wanted:
        return Written(files={})
    parts = [part for part, _ in destinations[0].bag.manifest.parts()]
    stripes = [layout.stripe(number, parts) for number in sorted(wanted)]
    threads = threads_for(concurrency)
    units = units_for(max(len(held) for held in wanted.values()), threads)
    readings = _Readings(destinations, source, {shard.name for stripe in stripes for shard in stripe.shards})
    meter.start("making parity", sum(shard.size_bytes for stripe in stripes for shard in members(stripe)))

    def encode(stripe: Stripe) -> tuple[Stripe, dict[str, str], list[Finding]]:
        outputs = [(held, stripe.parity[row]) for held, row in wanted[stripe.number]]
        writings = [ShardOutput(shard=s, path=held.folder / payload_name(s.name)) for held, s in outputs]
        combination = combination_of(stripe, {shard.name for _, shard in outputs})
        inputs = {shard.name: readings.of(shard.name) for shard in members(stripe)}
        found: list[Finding] = []
        for _ in range(2):
            try:
                return (
                    stripe,
                    code_stripe(stripe, combination, inputs, writings, units=units, gauge=meter),
                    [],
                )
            except StripeError as error:
                found = [readings.finding(damage) for damage in error.unreadable.values()]
        return stripe, {}, found

    files: dict[Path, dict[str, ListedFile]] = defaultdict(dict)
    read: set[tuple[Path, str]] = set()
    findings: list[Finding] = []
    for stripe, digests, found in in_parallel(encode, stripes, concurrency=threads, meter=meter):
        findings += found
        read.update((finding.volume, finding.damage.name) for finding in found if finding.volume is not None)
        if not found:
            read.update(readings.on_media(stripe))
            for held, row in wanted[stripe.number]:
                shard = stripe.parity[row]
                files[held.volume][shard.name] = ListedFile(digests[shard.name], shard.size_bytes)
    return Written(
        files={volume: dict(sorted(named.items())) for volume, named in files.items()},
        read_back=frozenset(read),
        findings=tuple(sorted(findings, key=lambda finding: finding.damage.name)),
    )


def _wanted(destinations: Sequence[Destination]) -> dict[int, list[tuple[Bag, int]]]:
    """Bag and row of the parity shards to write, by stripe."""
    wanted: dict[int, list[tuple[Bag, int]]] = defaultdict(list)
    for destination in destinations:
        for name in sorted(destination.names - destination.kept):
            if place := shard_place(name):
                stripe, row = place
                wanted[stripe].append((destination.bag, row))
    return dict(wanted)


class _Readings:
    """Where parts are read: on the volumes of the run, else in the storage."""

    def __init__(
        self, destinations: Sequence[Destination], source: ReadableContainer, names: Collection[str]
    ) -> None:
        self._source = source
        self._manifest = destinations[0].bag.manifest
        self._signed = {part.name: (part, sha256) for part, sha256 in self._manifest.parts()}
        self._on = {name: destination for destination in destinations for name in destination.names}
        absent = {self._signed[name][0].blob for name in self._signed.keys() & names - self._on.keys()}
        self._etags = {
            blob.name: source_etag(source, self._manifest, blob)
            for blob in self._manifest.blobs
            if blob.name in absent
        }

    def of(self, name: str) -> ShardInput:
        """How a part is read, and what it has to be."""
        part, sha256 = self._signed[name]
        destination = self._on.get(name)
        if destination is None:
            return ShardInput(sha256=sha256, read=self._storage_reader(part))
        return ShardInput(sha256=sha256, read=file_reader(destination.path_of(name), name, from_medium=True))

    def _storage_reader(self, part: PartRange) -> ReadPiece:
        def read(offset_bytes: int, size_bytes: int) -> bytes:
            pieces = self._source.read_range(
                f"{self._manifest.transfer_id}/{part.blob}",
                offset_bytes=part.offset_bytes + offset_bytes,
                size_bytes=size_bytes,
                etag=self._etags[part.blob],
            )
            return b"".join(pieces)

        return read

    def on_media(self, stripe: Stripe) -> Iterator[tuple[Path, str]]:
        """Volume and name of the stripe's parts that were read on a volume."""
        for shard in members(stripe):
            if shard.name in self._on:
                yield self._on[shard.name].bag.volume, shard.name

    def finding(self, damage: Damage) -> Finding:
        """A part that was not what it should be, and where."""
        part, _ = self._signed[damage.name]
        destination = self._on.get(damage.name)
        if destination is None:
            return Finding(damage=Damage.of_part(Code.BLOB_MISMATCH, part, damage.detail))
        located = Damage.of_part(damage.code, part, damage.detail)
        return Finding(damage=located, volume=destination.bag.volume)
