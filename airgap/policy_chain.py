"""The chain of trust policies: how signed versions lead from the pinned one to the one in force.

The versions after the pinned one are signed: an in-toto Statement in a DSSE envelope each, its subject the
policy's document, its predicate that document and the digest of the one before; ``docs/format.md`` §5.1. A
version *follows* another when, in this order (the rules by which The Update Framework rotates its root,
https://theupdateframework.github.io/specification/latest/#update-root):

1. the envelope is no larger than any valid one, and a strict one;
2. the ``policyRoles`` of the version before reach their thresholds. *Only now is the payload parsed*;
3. it is a well-formed trust policy, and the one that the subject names;
4. its number is one higher;
5. it names the version before by its digest;
6. its own ``policyRoles`` reach their thresholds, too.

No clock takes part, so that what followed once follows for ever: a version that has expired still leads to
the next, whoever judges by the last one asks for its expiry (:mod:`airgap.verify`), and a key that a version
calls revoked, from whatever time on, signs for that version nothing more.

*Forged* and *could not check* are kept apart. What does not follow is not there: whoever can write where the
versions lie delays the next one, as by withholding it, until the last one expires, and stops nothing. But
what the version before has vouched for and a newer tool wrote cannot be passed over: it may revoke a key.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

from airgap import fields
from airgap.envelope import Envelope
from airgap.errors import Code, PolicyRefusal, UntrustedInputError
from airgap.policy import MAX_POLICY_BYTES, MAX_VERSION, TrustedKey, TrustPolicy, keyids_of
from airgap.signatures import Signer
from airgap.statement import Statement, Subject, parse_statement
from airgap.strict_json import dump_canonical, load_strict
from airgap.verify import count_roles, signing_keys
from airgap.versions import Format

PREDICATE_TYPE = "urn:acr-airgap-transfer:trust-policy:v1"
SUBJECT = "trust-policy.json"
MAX_VERSION_BYTES = 512 * 1024
"""Of an envelope: room for a policy of the largest size in base64, and for signatures of every kind."""

MAX_FOLLOWING = 1000
"""So many versions after the pinned one are gone through; then a later one must be pinned."""

MAX_RECORD_BYTES = 1024
_READ = fields.FieldReader(Code.POLICY_MALFORMED)


def version_name(version: int) -> str:
    """The name of the file or blob in which a version lies, such as ``00000002.dsse.json``."""
    return f"{version:08d}.dsse.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class PolicyVersion:
    """The content of a signed version: a policy, and the hex SHA-256 of the policy before it.

    Raises:
        PolicyRefusal: ``POLICY_MALFORMED``, naming the field at fault.
    """

    policy: TrustPolicy
    previous_sha256: str

    def __post_init__(self) -> None:
        _READ.instance(self.policy, "policy", TrustPolicy)
        _READ.text(self.previous_sha256, "previous", pattern=fields.SHA256_HEX)

    def to_bytes(self) -> bytes:
        """The version as a canonical statement: the bytes that are signed."""
        document = load_strict(self.policy.document, max_bytes=MAX_POLICY_BYTES, code=Code.POLICY_MALFORMED)
        return Statement(
            subjects=(Subject(name=SUBJECT, sha256=self.policy.sha256),),
            predicate_type=PREDICATE_TYPE,
            predicate={"previous": f"sha256:{self.previous_sha256}", "policy": document},
        ).to_bytes()

    @classmethod
    def from_bytes(cls, raw: bytes) -> Self:
        """Read a version from an envelope's payload, once the version before has vouched for it.

        Raises:
            PolicyRefusal: ``POLICY_MALFORMED``, naming the first field at fault.
            UntrustedInputError: ``TOO_LARGE``: it is larger than any version; ``NEWER_FORMAT``: a newer tool
                wrote it.
        """
        statement = parse_statement(raw, code=Code.POLICY_MALFORMED)
        return cls(**_FORMAT.of_predicate_type(statement.predicate_type)(statement))


def _read_v1(statement: Statement) -> dict[str, Any]:
    """The arguments of :class:`PolicyVersion`; its constructor checks them."""
    value = _READ.members(statement.predicate, "predicate", "previous", "policy")
    policy = TrustPolicy.from_json(value["policy"])
    if statement.subjects != (Subject(name=SUBJECT, sha256=policy.sha256),):
        _READ.refuse("subject", f"not exactly one, {SUBJECT} with the digest of the policy")
    return {"policy": policy, "previous_sha256": _READ.sha256(value["previous"], "previous")}


_FORMAT = Format(name="trust-policy", read=_READ, readers={1: _read_v1})


def sign_version(before: TrustPolicy, policy: TrustPolicy, signers: Sequence[Signer]) -> Envelope:
    """An envelope with the version after ``before``, signed by ``signers``; they may be too few yet.

    Raises:
        PolicyRefusal: ``POLICY_NOT_NEXT``: its number is not the one after.
    """
    _require_number(before, policy)
    version = PolicyVersion(policy=policy, previous_sha256=before.sha256)
    return Envelope.sign(version.to_bytes(), signers)


def next_policy(before: TrustPolicy, envelope_bytes: bytes) -> TrustPolicy:
    """The policy in an envelope, if it follows ``before`` by every point of the module's list.

    Raises:
        UntrustedInputError: ``TOO_LARGE``, ``ENVELOPE_MALFORMED``: it is no envelope of a version;
            ``SIGNER_UNKNOWN``: no key of a policy role signed it; ``SIGNATURE_INVALID``: a signature is
            forged; ``SIGNATURE_UNCHECKABLE``: one could not be checked; ``NEWER_FORMAT``: signed by whom
            ``before`` asks for, and a newer tool wrote it.
        PolicyRefusal: ``THRESHOLD_NOT_MET``, ``ALGORITHM_MISSING``: too few of a role of either version
            signed it, or there is no such role; ``KEY_REVOKED``: only keys that count no more;
            ``POLICY_MALFORMED``: it is no well-formed policy; ``POLICY_NOT_NEXT``: its number is not the one
                after; ``POLICY_FORKED``: it follows another policy of that number.
    """
    if len(envelope_bytes) > MAX_VERSION_BYTES:  # 1
        raise UntrustedInputError(
            Code.TOO_LARGE, f"{len(envelope_bytes)} bytes, a policy version has at most {MAX_VERSION_BYTES}"
        )
    envelope = Envelope.from_bytes(envelope_bytes)
    _require_signed(envelope, before)  # 2
    version = PolicyVersion.from_bytes(envelope.payload)  # 3
    _require_number(before, version.policy)  # 4
    if version.previous_sha256 != before.sha256:  # 5
        raise PolicyRefusal(
            Code.POLICY_FORKED,
            f"version {version.policy.version} follows {version.previous_sha256}, "
            f"version {before.version} is {before.sha256}",
        )
    _require_signed(envelope, version.policy)  # 6
    return version.policy


def _require_number(before: TrustPolicy, policy: TrustPolicy) -> None:
    if policy.version != before.version + 1:
        raise PolicyRefusal(
            Code.POLICY_NOT_NEXT, f"version {policy.version}, next would be {before.version + 1}"
        )


def _require_signed(envelope: Envelope, policy: TrustPolicy) -> None:
    """Return if the policy roles of ``policy`` reach their thresholds, revoked keys left aside."""
    valid = signing_keys(envelope, policy, _never_revoked(policy), keyids_of(policy.policy_roles))
    count_roles(valid, policy.policy_roles)


def _never_revoked(policy: TrustPolicy) -> dict[str, TrustedKey]:
    return {keyid: key for keyid, key in policy.keys.items() if keyid not in policy.revoked}


def officer_keys(before: TrustPolicy, policy: TrustPolicy) -> dict[str, TrustedKey]:
    """The keys that may sign ``policy`` as the version after ``before``, by key id; none of them is revoked.

    A key of either version's policy roles counts for that one; what each asks for is judged apart.
    """
    return {
        keyid: key
        for judge in (before, policy)
        for keyid, key in _never_revoked(judge).items()
        if keyid in keyids_of(judge.policy_roles)
    }


@dataclass(frozen=True, slots=True, kw_only=True)
class Stop:
    """The reason why a version that is there is not used: it does not follow the one before."""

    version: int
    code: Code
    detail: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Chain:
    """A pinned policy and the versions that follow it, one by one; ``links`` begins with the pinned one.

    ``stop`` tells of a version that is there and does not follow the last one; ``None`` if there is none.
    """

    links: tuple[TrustPolicy, ...]
    stop: Stop | None = None

    @property
    def pinned(self) -> TrustPolicy:
        """The trust policy that the chain starts from, which somebody pinned."""
        return self.links[0]

    @property
    def last(self) -> TrustPolicy:
        """The last policy of the chain: the one in force, as far as the versions were at hand."""
        return self.links[-1]


def follow(chain: Chain, find: Callable[[int], bytes | None]) -> Chain:
    """Lengthen a chain by every version that follows its last one, up to :data:`MAX_FOLLOWING` of them.

    Args:
        chain: the chain as far as it is known; at first it has the pinned policy alone.
        find: gives the envelope of a version by its number, ``None`` if there is none. What it raises as
            untrusted
            (such as ``TOO_LARGE``) is a version that does not follow; any other error passes through.

    Raises:
        UntrustedInputError: ``NEWER_FORMAT``: the version after is signed as it must be and cannot be read.
    """
    links = [*chain.links]
    while True:
        following = links[-1].version + 1
        try:
            raw = find(following)
            if raw is None:
                return Chain(links=tuple(links))
            if len(links) > MAX_FOLLOWING:
                why = f"more than {MAX_FOLLOWING} versions after the pinned one"
                stop = Stop(version=following, code=Code.POLICY_NOT_NEXT, detail=why)
                return Chain(links=tuple(links), stop=stop)
            links.append(next_policy(links[-1], raw))
        except (UntrustedInputError, PolicyRefusal) as error:
            if error.code is Code.NEWER_FORMAT:
                raise
            stop = Stop(version=following, code=error.code, detail=error.detail)
            return Chain(links=tuple(links), stop=stop)


@dataclass(frozen=True, slots=True, kw_only=True)
class UsedPolicy:
    """The ledger's record that a policy was in force: its version and the hex SHA-256 of its document."""

    version: int
    sha256: str

    def __post_init__(self) -> None:
        _READ.integer(self.version, "version", least=1, most=MAX_VERSION)
        _READ.text(self.sha256, "policyDigest", pattern=fields.SHA256_HEX)

    def to_bytes(self) -> bytes:
        """The record as canonical JSON (RFC 8785); the same for whoever writes it."""
        return dump_canonical({"schema": 1, "version": self.version, "policyDigest": f"sha256:{self.sha256}"})

    @classmethod
    def from_bytes(cls, raw: bytes) -> Self:
        """Read the record of a policy that was in force.

        Raises:
            PolicyRefusal: ``POLICY_MALFORMED``: somebody wrote into the ledger.
            UntrustedInputError: ``TOO_LARGE``: likewise; ``NEWER_FORMAT``: a newer tool wrote it.
        """
        value = load_strict(raw, max_bytes=MAX_RECORD_BYTES, code=Code.POLICY_MALFORMED)
        return cls(**_RECORD.of_document(value)(value))


def _read_record_v1(raw: Any) -> dict[str, Any]:
    """The arguments of :class:`UsedPolicy`; its constructor checks them."""
    value = _READ.members(raw, "used policy", "schema", "version", "policyDigest")
    return {"version": value["version"], "sha256": _READ.sha256(value["policyDigest"], "policyDigest")}


_RECORD = Format(name="used policy", read=_READ, readers={1: _read_record_v1})


def require_newest(chain: Chain, used: Mapping[int, str]) -> None:
    """Refuse a chain that ends with an older version than was used before, or that forks from those used.

    Args:
        chain: the chain that is to be used.
        used: hex SHA-256 of each policy that ever was in force here, by version.

    Raises:
        PolicyRefusal: ``POLICY_ROLLED_BACK``: a higher version was in force; ``POLICY_FORKED``: another one
            of a number in the chain was.
    """
    newest = max(used, default=0)
    if chain.last.version < newest:
        raise PolicyRefusal(
            Code.POLICY_ROLLED_BACK, f"version {chain.last.version}, after version {newest} was in force"
        )
    for link in chain.links:
        if used.get(link.version, link.sha256) != link.sha256:
            raise PolicyRefusal(
                Code.POLICY_FORKED,
                f"version {link.version} is {link.sha256}, the one in force was {used[link.version]}",
            )
