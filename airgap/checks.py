"""Checks before promotion: what is asked about a verified bundle, and what an answer must say to count.

A check is a service of the target's own, such as a scanner, that is asked over HTTP (``docs/format.md`` §16).
It gets to know which copies are meant, by their ETags, and must say so again in its answer: one about another
bundle, another copy or only some of them is none. No answer is never a pass. Answers that must be signed are
read by :mod:`airgap.signed_check`.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

from airgap import fields
from airgap.errors import Code, UntrustedInputError
from airgap.parts import MAX_BLOBS
from airgap.strict_json import dump_canonical, load_strict
from airgap.verify import CountedKey
from airgap.versions import Format

SCHEMA = 1
MAX_ANSWER_BYTES = 128 * 1024
"""Room for 999 blobs and several signatures of each two algorithms."""
MAX_CHECKS = 10
NAME = re.compile(r"[a-z][a-z0-9-]{0,31}")
"""Of a check, as the target's settings call it."""

_MAX_SCANNER_CHARACTERS = 128
_VERDICTS = {"pass": None, "fail": Code.CHECK_FAILED}
_READ = fields.FieldReader(Code.CHECK_MALFORMED)


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckedBlob:
    """A copy that a check is to look at: the blob's name in the bundle, its URL, its ETag and its size."""

    name: str
    url: str
    etag: str
    size_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckQuestion:
    """The question that a check is asked before an import: is anything wrong with these copies?"""

    check: str
    import_id: str
    transfer_id: str
    channel: str
    sequence: int
    manifest_sha256: str
    blobs: tuple[CheckedBlob, ...]

    def to_bytes(self) -> bytes:
        """The question as the body of the HTTP request, in canonical JSON (``docs/format.md`` §16)."""
        return dump_canonical(
            {
                "schema": SCHEMA,
                "check": self.check,
                "importId": self.import_id,
                "transferId": self.transfer_id,
                "channel": self.channel,
                "sequence": self.sequence,
                "manifestDigest": f"sha256:{self.manifest_sha256}",
                "blobs": [
                    {"name": one.name, "url": one.url, "etag": one.etag, "size": one.size_bytes}
                    for one in self.blobs
                ],
            }
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """The verdict of a check on copies of a bundle, whether its answer is signed or not.

    Not checked here: whether these are the copies that were asked about; :meth:`CheckAnswer.of` compares.

    Args:
        manifest_sha256: the hex SHA-256 of the bundle manifest.
        blobs: name and ETag of each copy that was looked at.
        verdict: ``pass`` or ``fail``.
        detail: words for a person, at most 500 characters.
        scanner: what looked, by its own word, such as its name and version.

    Raises:
        UntrustedInputError: ``CHECK_MALFORMED``, naming the member.
    """

    manifest_sha256: str
    blobs: tuple[tuple[str, str], ...]
    verdict: str
    detail: str
    scanner: str

    def __post_init__(self) -> None:
        _READ.text(self.manifest_sha256, "manifestDigest", pattern=fields.SHA256_HEX)
        if type(self.verdict) is not str or self.verdict not in _VERDICTS:
            _READ.refuse("verdict", f"neither {' nor '.join(_VERDICTS)}")
        _READ.note(self.detail, "detail")
        _READ.text(self.scanner, "scanner", limit=_MAX_SCANNER_CHARACTERS)

    def members(self) -> dict[str, Any]:
        """The JSON members that signed and unsigned answers share; each tells the digest in its own way."""
        return {
            "blobs": [{"name": name, "etag": etag} for name, etag in self.blobs],
            "verdict": self.verdict,
            "detail": self.detail,
            "scanner": self.scanner,
        }

    @classmethod
    def of_members(cls, value: Mapping[str, Any], manifest_sha256: str) -> Self:
        """Read what :meth:`members` writes; refuses with ``CHECK_MALFORMED``.

        Not checked: whether there are further members; the caller sees to that.
        """
        return cls(
            manifest_sha256=manifest_sha256,
            blobs=_READ.items(value["blobs"], "blobs", _read_blob, most=MAX_BLOBS),
            verdict=value["verdict"],
            detail=value["detail"],
            scanner=value["scanner"],
        )


def _read_blob(raw: Any, where: str) -> tuple[str, str]:
    value = _READ.members(raw, where, "name", "etag")
    return _READ.text(value["name"], f"{where}.name"), _READ.text(value["etag"], f"{where}.etag")


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckAnswer:
    """The answer of a check about exactly the copies that it was asked about.

    Args:
        code: the code by which the bundle is refused; ``None`` if the check has no objection.
        detail: words for a person, at most 500 characters.
        scanner: what looked, by the answer's own word, such as its name and version.
        sha256: the hex SHA-256 of the answer's bytes.
        signers: the keys whose signatures vouch for it; empty where the policy asks for none.
    """

    code: Code | None
    detail: str
    scanner: str
    sha256: str
    signers: tuple[CountedKey, ...] = ()

    @property
    def passed(self) -> bool:
        """Whether the check has no objection to the bundle."""
        return self.code is None

    @classmethod
    def of(
        cls, finding: Finding, raw: bytes, question: CheckQuestion, signers: tuple[CountedKey, ...] = ()
    ) -> Self:
        """The answer that ``raw`` is, with what was read from it as ``finding``, if it is about ``question``.

        Raises:
            UntrustedInputError: ``CHECK_MALFORMED``: it speaks of another bundle, or not of exactly these
                copies.
        """
        if finding.manifest_sha256 != question.manifest_sha256:
            _READ.refuse("manifestDigest", "of another bundle than it was asked about")
        if sorted(finding.blobs) != sorted((one.name, one.etag) for one in question.blobs):
            _READ.refuse("blobs", "not exactly the copies that it was asked about")
        return cls(
            code=_VERDICTS[finding.verdict],
            detail=finding.detail,
            scanner=finding.scanner,
            sha256=hashlib.sha256(raw).hexdigest(),
            signers=signers,
        )

    @classmethod
    def from_bytes(cls, raw: bytes, question: CheckQuestion) -> Self:
        """Read the answer to ``question`` of a check that need not sign.

        Raises:
            UntrustedInputError: ``TOO_LARGE``: it is larger than any answer; ``NEWER_FORMAT``: it is of a
                later version; ``CHECK_MALFORMED``: it is not what an answer looks like, or speaks of another
                bundle, or not of exactly these copies.
        """
        value = load_strict(raw, max_bytes=MAX_ANSWER_BYTES, code=Code.CHECK_MALFORMED)
        members = _FORMAT.of_document(value)(value)
        digest = _READ.sha256(members["manifestDigest"], "manifestDigest")
        return cls.of(Finding.of_members(members, digest), raw, question)


def _read_v1(raw: Any) -> dict[str, Any]:
    return _READ.members(raw, "answer", "schema", "manifestDigest", "blobs", "verdict", "detail", "scanner")


_FORMAT = Format(name="answer", read=_READ, readers={SCHEMA: _read_v1})


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """A check that the settings name: a service, its URL, and the scope (audience) of the app's token for it.

    Raises:
        UntrustedInputError: ``CHECK_MALFORMED``, naming the member.

    Not checked here: whether ``url`` is a URL; the settings do that.
    """

    name: str
    url: str
    scope: str

    def __post_init__(self) -> None:
        _READ.text(self.name, "name", pattern=NAME)
        _READ.text(self.url, "url", limit=500)
        _READ.text(self.scope, "scope", limit=300)

    @classmethod
    def from_json(cls, raw: Any, where: str) -> Self:
        """Read one element of the setting ``CHECKS``; refuses with ``CHECK_MALFORMED``."""
        value = _READ.members(raw, where, "name", "url", "scope")
        with _READ.within(where):
            return cls(name=value["name"], url=value["url"], scope=value["scope"])


@dataclass(frozen=True, slots=True, kw_only=True)
class ScanCheck:
    """A check without a service of its own: the storage's scanner writes what it found beside each copy.

    Raises:
        UntrustedInputError: ``CHECK_MALFORMED``, naming the member.
    """

    name: str

    def __post_init__(self) -> None:
        _READ.text(self.name, "name", pattern=NAME)


_DEFENDER = "defenderForStorage"
"""The kind of a :class:`ScanCheck`; see :mod:`airgap.malware_scan`."""


def _read_check(raw: Any, where: str) -> Check | ScanCheck:
    if type(raw) is not dict or "kind" not in raw:
        return Check.from_json(raw, where)
    value = _READ.members(raw, where, "name", "kind")
    if value["kind"] != _DEFENDER:
        _READ.refuse(f"{where}.kind", f"not {_DEFENDER}")
    with _READ.within(where):
        return ScanCheck(name=value["name"])


def read_checks(raw: bytes) -> tuple[Check | ScanCheck, ...]:
    """Read the setting ``CHECKS``: an array of at most ten checks, no two of one name.

    Raises:
        UntrustedInputError: ``CHECK_MALFORMED``: it is something else; ``TOO_LARGE``: over 64 KiB.
    """
    value = load_strict(raw, max_bytes=MAX_ANSWER_BYTES, code=Code.CHECK_MALFORMED)
    checks = _READ.items(value, "checks", _read_check, most=MAX_CHECKS)
    if len({check.name for check in checks}) != len(checks):
        raise UntrustedInputError(Code.CHECK_MALFORMED, "checks: two have the same name")
    return checks
