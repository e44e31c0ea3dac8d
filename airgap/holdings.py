"""The knowledge of what a target registry holds, from the receipts that came back from it; ADR 24.

A receipt tells what the registry answered at one moment. Of several that speak of the same tag or digest the
latest counts, in whatever order they came; what they disagree about is not known, and not held.
"""

from __future__ import annotations

import re
from collections.abc import Container, Iterable, Iterator
from dataclasses import dataclass, field
from datetime import datetime
from typing import Self

from airgap.receipt import ArtifactProof, Receipt, ReceiptVerdict

_TELLING = frozenset({ReceiptVerdict.IMPORTED, ReceiptVerdict.PARTIAL})
_NAME = re.compile(r"holdings/([a-z0-9.:-]{1,261})/([a-z0-9-]{1,63})/([0-9a-f]{64})\.dsse\.json")


@dataclass(frozen=True, slots=True, kw_only=True)
class KeptReceipt:
    """The place at which a receipt is kept for what it proves about a registry.

    Args:
        registry: the login server of the registry that it speaks for.
        channel: the channel whose receipt roles signed it.
        sha256: the hex SHA-256 of its payload: one receipt is one, in however many envelopes.
    """

    registry: str
    channel: str
    sha256: str

    @property
    def name(self) -> str:
        """The blob's name: ``holdings/<registry>/<channel>/<sha256>.dsse.json``."""
        return f"{holdings_folder(self.registry)}{self.channel}/{self.sha256}.dsse.json"

    @classmethod
    def from_name(cls, name: str) -> Self | None:
        """The place that a blob's name tells; ``None`` for any other name."""
        match = _NAME.fullmatch(name)
        return None if match is None else cls(registry=match[1], channel=match[2], sha256=match[3])


def holdings_folder(registry: str) -> str:
    """The prefix of the names of all receipts that are kept of one registry."""
    return f"holdings/{registry}/"


def tells_of_holdings(receipt: Receipt) -> bool:
    """Whether a receipt says what the registry holds: it does if it is of an import, complete or not."""
    return receipt.verdict in _TELLING


@dataclass(frozen=True, slots=True, kw_only=True)
class Word:
    """The receipt that vouches for a statement: its name, its transfer, when the target decided (aware)."""

    receipt: str
    transfer_id: str
    decided_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Held:
    """A manifest that the registry holds whole, the tags that point to it, and the receipt that says so."""

    repository: str
    digest: str
    tags: tuple[str, ...]
    word: Word


@dataclass(frozen=True, slots=True)
class _Sighting:
    """What a reference stood for: a digest, or ``None`` for anything else, which is not known closer."""

    digest: str | None
    word: Word

    @property
    def rank(self) -> tuple[datetime, str]:
        return self.word.decided_at, self.word.receipt


@dataclass(frozen=True, slots=True)
class Holdings:
    """The artifacts that a channel may consider present in one registry; empty at first.

    ``repository:tag`` stands for the digest that it pointed to, ``repository@digest`` for itself where the
    registry had the manifest with all that it consists of.
    """

    channel: str
    _own: dict[str, _Sighting] = field(default_factory=dict)
    """By reference, what the channel's receipts said last."""
    _others: dict[str, dict[str | None, datetime]] = field(default_factory=dict)
    """By reference, what other channels' receipts said, and when last."""
    _doubts: list[datetime] = field(default_factory=list)
    """When an import last brought what nobody declared: it may have moved any tag."""
    _about: Container[str] | None = None

    @classmethod
    def told_by(
        cls,
        channel: str,
        receipts: Iterable[tuple[KeptReceipt, Receipt]],
        about: Container[str] | None = None,
    ) -> Self:
        """The holdings of a registry by its receipts, each verified by the channel that it is kept under.

        The channel's own receipts add and take away. Those of other channels take away only: whoever may
        speak for another channel must not make this one leave something out.

        Args:
            channel: the channel for which the holdings are worked out.
            receipts: all that were kept of the registry.
            about: the references that will be asked about, each by tag and as ``repository@digest``; nothing
                else is kept in memory. ``None`` keeps everything.
        """
        found = cls(channel, _about=about)
        for kept, receipt in receipts:
            if tells_of_holdings(receipt):
                found._add(kept, receipt)
        return found

    def word_for(self, reference: str, digest: str) -> Word | None:
        """The receipt by which the registry is known to hold exactly this; ``None`` if no receipt says so.

        Args:
            reference: ``repository:tag``, which must point to ``digest``; or ``repository@digest``.
            digest: the digest of the manifest, which must be there with all its content.
        """
        is_whole = self._stands_for(f"{_split(reference)[0]}@{digest}", digest)
        return self._stands_for(reference, digest) if is_whole else None

    def all(self) -> Iterator[Held]:
        """Every manifest that is held, sorted by repository and digest."""
        tags: dict[str, list[str]] = {}
        for reference, sighting in self._own.items():
            repository, tag = _split(reference)
            if tag and self._stands_for(reference, sighting.digest):
                tags.setdefault(f"{repository}@{sighting.digest}", []).append(tag)
        for reference in sorted(self._own):
            repository, _, digest = reference.partition("@")
            word = self._stands_for(reference, digest)
            if word is not None:
                pointing = tuple(sorted(tags.get(reference, ())))
                yield Held(repository=repository, digest=digest, tags=pointing, word=word)

    def _stands_for(self, reference: str, digest: str | None) -> Word | None:
        own = self._own.get(reference)
        if own is None or own.digest != digest:
            return None
        since = own.word.decided_at
        if any(at >= since and other != digest for other, at in self._others.get(reference, {}).items()):
            return None
        if "@" not in reference and any(at > since for at in self._doubts):
            return None
        return own.word

    def _add(self, kept: KeptReceipt, receipt: Receipt) -> None:
        word = Word(receipt=kept.name, transfer_id=str(receipt.transfer_id), decided_at=receipt.decided_at)
        if receipt.undeclared_count:
            self._doubts[:] = [max([*self._doubts, receipt.decided_at])]
        for proof in receipt.artifacts:
            for reference, digest in _sightings(proof).items():
                if self._about is not None and reference not in self._about:
                    continue
                if receipt.channel == self.channel:
                    self._see(reference, _Sighting(digest, word))
                else:
                    seen = self._others.setdefault(reference, {})
                    seen[digest] = max(seen.get(digest, receipt.decided_at), receipt.decided_at)

    def _see(self, reference: str, new: _Sighting) -> None:
        old = self._own.setdefault(reference, new)
        if old.word.decided_at == new.word.decided_at and old.digest != new.digest:
            self._own[reference] = _Sighting(None, max(old, new, key=lambda one: one.rank).word)
        else:
            self._own[reference] = max(old, new, key=lambda one: one.rank)


def _sightings(proof: ArtifactProof) -> dict[str, str | None]:
    """What a proof says that references stand for."""
    repository, _ = _split(proof.reference)
    is_whole = proof.found == proof.digest and not proof.missing_count
    return {
        proof.reference: proof.digest,
        **{f"{repository}:{missing}": None for missing in proof.missing_tags},
        f"{repository}@{proof.digest}": proof.digest if is_whole else None,
    }


def _split(reference: str) -> tuple[str, str]:
    """Repository and tag; the tag is empty where the reference is by digest."""
    repository, at, _ = reference.partition("@")
    if at:
        return repository, ""
    repository, _, tag = reference.partition(":")
    return repository, tag
