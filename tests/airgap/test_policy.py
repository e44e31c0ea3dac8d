"""The trust policy: it can only restrict."""

from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, mldsa, padding, rsa

from airgap.envelope import Envelope, SignatureCheck
from airgap.errors import Code, OperatorError, PolicyRefusal, UntrustedInputError
from airgap.keys import SCHEMES, public_key_from_pem, signer_from_pem
from airgap.policy import OnGap, Order, Role, TrustPolicy
from airgap.signatures import CryptoSigner, DsseEnvelope
from airgap.statement import PAYLOAD_TYPE
from airgap.strict_json import dump_canonical
from tests.vectors.generate import (
    NOW,
    P256,
    P384,
    RETIRING,
    REVOKED,
    REVOKED_TARGET,
    STRANGER,
    policy_json,
    public_pem,
)

RSA = rsa.generate_private_key(65537, 3072)
Change = Callable[[dict[str, Any]], object]


def pem_of(private_key: Any) -> str:
    return CryptoSigner(private_key).private_bytes.decode()


def channel(change: Change) -> Change:
    return lambda policy: change(policy["channels"]["test"])


INVALID: dict[str, Change] = {
    "key without its holder": lambda p: p["keys"][0].pop("holder"),
    "holder without a name": lambda p: p["keys"][0].update(holder=""),
    "key given twice": lambda p: p["keys"].append(p["keys"][0]),
    "key given twice, of two holders": lambda p: p["keys"].append(p["keys"][0] | {"holder": "somebody else"}),
    "threshold of two who are one": lambda p: p["channels"]["prod"]["bundleRoles"]["source"].update(
        threshold=2
    ),
    "holder in two roles with two keys": lambda p: p["keys"][2].update(holder="source app"),
    "holder who signs bundles and receipts": lambda p: p["keys"][4].update(holder="source app"),
    "holder who signs bundles in one channel and receipts in another": channel(
        lambda c: c.update(receiptRoles={"target": {"threshold": 1, "keyids": [P256.public_key.keyid]}})
    ),
    "key that signs bundles and receipts": channel(
        lambda c: c.update(receiptRoles={"target": {"threshold": 1, "keyids": [P384.public_key.keyid]}})
    ),
    "holder who signs bundles and releases them": channel(
        lambda c: c.update(releaseRoles={"officer": {"threshold": 1, "keyids": [P384.public_key.keyid]}})
    ),
    "algorithm that no key of the role has": channel(
        lambda c: c["bundleRoles"]["source"].update(requiredAlgorithms=["ed25519"])
    ),
    "no repositories": channel(lambda c: c.pop("repositories")),
    "empty repositories": channel(lambda c: c.update(repositories=[])),
    "pattern of a part of a segment": channel(lambda c: c.update(repositories=["team/app-*"])),
    "pattern with all in the middle": channel(lambda c: c.update(repositories=["**/app"])),
    "pattern with a tag": channel(lambda c: c.update(repositories=["team/app:1"])),
    "no expiry": lambda p: p.pop("expiresAt"),
    "no bound of jumps": channel(lambda c: c.pop("maxSequenceJump")),
    "no keys": lambda p: p.update(keys=[]),
    "no channels": lambda p: p.update(channels={}),
    "earlier schema": lambda p: p.update(schema=0),
    "schema true": lambda p: p.update(schema=True),
    "unknown member": lambda p: p.update(allow="*"),
    "channel name": lambda p: p["channels"].update({"a/b": p["channels"]["test"]}),
    "no roles": channel(lambda c: c.update(bundleRoles={})),
    "override role with a name of none": lambda p: (
        p["keys"].append({"holder": "Olga", "publicKey": public_pem(STRANGER)}),
        p["channels"]["test"].update(
            overrideRoles={"Officer!": {"threshold": 1, "keyids": [STRANGER.public_key.keyid]}}
        ),
    ),
    "holder who signs bundles and the checks of them": channel(
        lambda c: c.update(checkRoles={"scan": {"threshold": 1, "keyids": [P384.public_key.keyid]}})
    ),
    "check role of an unknown key": channel(
        lambda c: c.update(checkRoles={"scan": {"threshold": 1, "keyids": ["0" * 64]}})
    ),
    "check role with a name of no check": lambda p: (
        p["keys"].append({"holder": "Olga", "publicKey": public_pem(STRANGER)}),
        p["channels"]["test"].update(
            checkRoles={"Scan!": {"threshold": 1, "keyids": [STRANGER.public_key.keyid]}}
        ),
    ),
    "threshold zero": channel(lambda c: c["bundleRoles"]["source"].update(threshold=0)),
    "threshold negative": channel(lambda c: c["bundleRoles"]["source"].update(threshold=-1)),
    "threshold true": channel(lambda c: c["bundleRoles"]["source"].update(threshold=True)),
    "threshold above keys": channel(lambda c: c["bundleRoles"]["source"].update(threshold=2)),
    "role without keys": channel(lambda c: c["bundleRoles"]["source"].update(keyids=[])),
    "key not listed": channel(lambda c: c["bundleRoles"]["source"].update(keyids=["0" * 64])),
    "one key in two roles": channel(lambda c: c["bundleRoles"].update(other=c["bundleRoles"]["source"])),
    "empty audience": channel(lambda c: c.update(audience=[])),
    "wildcard audience": channel(lambda c: c.update(audience=["*"])),
    "unknown algorithm": channel(
        lambda c: c["bundleRoles"]["source"].update(requiredAlgorithms=["rsa-pkcs1v15-sha256"])
    ),
    "algorithms of the channel": channel(lambda c: c.update(requiredAlgorithms=["ed25519"])),
    "unknown order": channel(lambda c: c.update(order="falling")),
    "unknown rule for gaps": channel(lambda c: c.update(onGap="ignore")),
    "waiting for what may come in any order": channel(lambda c: c.update(onGap="hold")),
    "no version": lambda p: p.pop("version"),
    "version zero": lambda p: p.update(version=0),
    "policy role without keys": lambda p: p["policyRoles"]["officer"].update(keyids=[]),
    "policy role of an unknown key": lambda p: p["policyRoles"]["officer"].update(keyids=["0" * 64]),
    "release role of an unknown key": channel(
        lambda c: c.update(releaseRoles={"officer": {"threshold": 1, "keyids": ["0" * 64]}})
    ),
    "unknown key revoked": lambda p: p["revoked"][0].update(keyid="0" * 64),
    "key revoked twice": lambda p: p["revoked"].append(p["revoked"][0]),
    "revoked without a time": lambda p: p["revoked"][0].pop("from"),
    "one receipt key in two roles": channel(
        lambda c: c.update(receiptRoles=dict.fromkeys(("one", "two"), c["bundleRoles"]["source"]))
    ),
    "one release key in two roles": channel(
        lambda c: c.update(releaseRoles=dict.fromkeys(("one", "two"), c["bundleRoles"]["source"]))
    ),
    "one policy key in two roles": lambda p: p["policyRoles"].update(other=p["policyRoles"]["officer"]),
    "skew of more seconds than can be counted": channel(lambda c: c.update(clockSkewSeconds=2**53 - 1)),
    "no maximum age": channel(lambda c: c.pop("maxAgeSeconds")),
    "age zero": channel(lambda c: c.update(maxAgeSeconds=0)),
    "skew of a year": channel(lambda c: c.update(clockSkewSeconds=31_536_000)),
    "key not pem": lambda p: p["keys"].append({"holder": "Eve", "publicKey": "not a key"}),
    "key a number": lambda p: p["keys"].append({"holder": "Eve", "publicKey": 7}),
    "key alone": lambda p: p["keys"].append(public_pem(P256)),
    "channels a list": lambda p: p.update(channels=["test"]),
    "roles a list": channel(lambda c: c.update(bundleRoles=["source"])),
    "role name": channel(lambda c: c.update(bundleRoles={"Source": c["bundleRoles"]["source"]})),
}


@pytest.mark.parametrize("name", INVALID)
def test_invalid_policy_is_refused(name: str) -> None:
    policy: dict[str, Any] = policy_json()
    INVALID[name](policy)
    with pytest.raises(PolicyRefusal) as refusal:
        TrustPolicy.from_bytes(dump_canonical(policy))
    assert refusal.value.code is Code.POLICY_MALFORMED


MANY = [signer_from_pem(pem_of(ec.derive_private_key(n, ec.SECP256R1())).encode()) for n in range(1, 101)]
KEYID = P384.public_key.keyid


def source_role(**fields: Any) -> Change:
    return channel(lambda c: c["bundleRoles"]["source"].update(fields))


def only(policy: dict[str, Any], signers: list[CryptoSigner]) -> None:
    """The channel ``test`` alone, with these keys, each another's."""
    keys = [
        {"holder": f"holder {number}", "publicKey": public_pem(signer)}
        for number, signer in enumerate(signers)
    ]
    policy.update(keys=keys, channels={"test": policy["channels"]["test"]}, policyRoles={}, revoked=[])


def hundred_keys(policy: dict[str, Any], *, threshold: int) -> None:
    only(policy, MANY)
    keyids = [signer.public_key.keyid for signer in MANY]
    policy["channels"]["test"]["bundleRoles"] = {"source": {"threshold": threshold, "keyids": keyids}}


def some_keys(policy: dict[str, Any], count: int) -> None:
    only(policy, [P384, *MANY][:count])


BOUNDS: dict[str, tuple[Callable[[int], Change], int, int]] = {
    "version": (lambda n: lambda p: p.update(version=n), 99_999_999, 100_000_000),
    "version, from below": (lambda n: lambda p: p.update(version=n), 1, 0),
    "holder": (lambda n: lambda p: p["keys"][0].update(holder="a" * n), 64, 65),
    "keys, from below": (lambda n: lambda p: some_keys(p, n), 1, 0),
    "keys": (lambda n: lambda p: some_keys(p, n), 100, 101),
    "algorithms": (lambda n: source_role(requiredAlgorithms=[P384.public_key.scheme] * n), 10, 11),
    "repositories": (
        lambda n: channel(lambda c: c.update(repositories=[f"team/app{i}" for i in range(n)])),
        100,
        101,
    ),
    "pattern": (lambda n: channel(lambda c: c.update(repositories=["a" * n])), 255, 256),
    "jump": (lambda n: channel(lambda c: c.update(maxSequenceJump=n)), 1_000_000, 1_000_001),
    "jump, from below": (lambda n: channel(lambda c: c.update(maxSequenceJump=n)), 1, 0),
    "audience": (lambda n: channel(lambda c: c.update(audience=[f"r{i}.io" for i in range(n)])), 100, 101),
    "audience, from below": (lambda n: channel(lambda c: c.update(audience=["r.io"] * n)), 1, 0),
    "key ids of a role": (lambda n: source_role(keyids=[KEYID] * n), 100, 101),
    "threshold": (lambda n: lambda p: hundred_keys(p, threshold=n), 100, 101),
    "threshold, from below": (lambda n: source_role(threshold=n), 1, 0),
    "age": (lambda n: channel(lambda c: c.update(maxAgeSeconds=n)), 632_448_000, 632_448_001),
    "age, from below": (lambda n: channel(lambda c: c.update(maxAgeSeconds=n)), 1, 0),
    "skew": (lambda n: channel(lambda c: c.update(clockSkewSeconds=n)), 86_400, 86_401),
    "skew, from below": (lambda n: channel(lambda c: c.update(clockSkewSeconds=n)), 0, -1),
}
"""How a policy is given a size, the last size that is accepted, and the first that is refused."""


@pytest.mark.parametrize("name", BOUNDS)
def test_bound_is_where_the_format_says(name: str) -> None:
    change, last, first = BOUNDS[name]
    accepted: dict[str, Any] = policy_json()
    change(last)(accepted)
    TrustPolicy.from_bytes(dump_canonical(accepted))
    refused: dict[str, Any] = policy_json()
    change(first)(refused)
    with pytest.raises(PolicyRefusal, match="POLICY_MALFORMED"):
        TrustPolicy.from_bytes(dump_canonical(refused))


READ = TrustPolicy.from_bytes(dump_canonical(policy_json()))
PROD = READ.channels["prod"]
SOURCE = PROD.bundle_roles["source"]
UNBUILDABLE: dict[str, tuple[Any, dict[str, Any]]] = {
    "role without keys": (SOURCE, {"keyids": frozenset()}),
    "role that asks for too many": (SOURCE, {"threshold": 3}),
    "role that asks for more holders than it has": (
        READ,
        {"channels": {"prod": replace(PROD, bundle_roles={"source": replace(SOURCE, threshold=2)})}},
    ),
    "role that is none": (PROD, {"bundle_roles": {"source": None}}),
    "role that asks for an algorithm nobody knows": (SOURCE, {"required_algorithms": frozenset({"rot13"})}),
    "receipt role of no name": (PROD, {"receipt_roles": {"": SOURCE}}),
    "release role of no name": (PROD, {"release_roles": {"": SOURCE}}),
    "policy role of no name": (READ, {"policy_roles": {"": Role(threshold=1, keyids=SOURCE.keyids)}}),
    "channel without roles": (PROD, {"bundle_roles": {}}),
    "skew into the past": (PROD, {"clock_skew": timedelta(seconds=-1)}),
    "skew of more than a day": (PROD, {"clock_skew": timedelta(days=1, seconds=1)}),
    "skew of half a second": (PROD, {"clock_skew": timedelta(milliseconds=500)}),
    "order by a word": (PROD, {"order": "rising"}),
    "gaps by a word": (PROD, {"on_gap": "record"}),
    "channel that is none": (READ, {"channels": {"prod": None}}),
    "expired at no certain time": (READ, {"expires_at": NOW.replace(tzinfo=None)}),
    "revoked at no certain time": (READ, {"revoked": {REVOKED.public_key.keyid: NOW.replace(tzinfo=None)}}),
}


@pytest.mark.parametrize("name", UNBUILDABLE)
def test_invalid_policy_cannot_be_built(name: str) -> None:
    value, changes = UNBUILDABLE[name]
    with pytest.raises(PolicyRefusal):
        replace(value, **changes)


def test_policy_is_at_most_256_kib() -> None:
    raw = dump_canonical(policy_json())
    TrustPolicy.from_bytes(raw.ljust(262_144))
    with pytest.raises(PolicyRefusal, match="POLICY_MALFORMED"):
        TrustPolicy.from_bytes(raw.ljust(262_145))


def test_every_scheme_may_be_required() -> None:
    raw: dict[str, Any] = policy_json()
    signers = [signer_from_pem(pem_of(make()).encode()) for make in MAKERS.values()]
    only(raw, signers)
    for key in raw["keys"]:
        key["holder"] = "source app"
    raw["channels"]["test"]["bundleRoles"]["source"] = {
        "threshold": 1,
        "keyids": [signer.public_key.keyid for signer in signers],
        "requiredAlgorithms": sorted(SCHEMES),
    }
    role = TrustPolicy.from_bytes(dump_canonical(raw)).channels["test"].bundle_roles["source"]
    assert role.required_algorithms == SCHEMES


@pytest.mark.parametrize(
    "raw", [b"", b"{}", b"null", b"[]", b'{"schema":1,"keys":[],"channels":{}}', b"\xff"]
)
def test_empty_policy_accepts_nothing(raw: bytes) -> None:
    with pytest.raises(PolicyRefusal):
        TrustPolicy.from_bytes(raw)


def test_policy_is_read() -> None:
    policy = TrustPolicy.from_bytes(dump_canonical(policy_json()))
    assert policy.version == 3
    assert policy.channels["prod"].order is Order.RISING
    assert policy.channels["guarded"].on_gap is OnGap.HOLD
    assert policy.channels["guarded"].release_roles["officer"].threshold == 1
    assert policy.channels["prod"].bundle_roles["source"].threshold == 1
    assert policy.channels["prod"].max_sequence_jump == 100
    assert policy.channels["test"].receipt_roles == {}


def test_policy_is_in_force_until_the_very_moment_that_it_expires() -> None:
    READ.require_in_force(READ.expires_at - timedelta(microseconds=1))
    for late in (timedelta(), timedelta(days=1)):
        with pytest.raises(PolicyRefusal, match="POLICY_EXPIRED"):
            READ.require_in_force(READ.expires_at + late)


def test_policy_of_a_later_schema_is_a_newer_tools() -> None:
    with pytest.raises(UntrustedInputError) as refusal:
        TrustPolicy.from_bytes(dump_canonical(policy_json() | {"schema": 2, "expires": "2030"}))
    assert refusal.value.code is Code.NEWER_FORMAT


def test_revoked_key_counts_until_its_time_and_never_after() -> None:
    policy = TrustPolicy.from_bytes(dump_canonical(policy_json()))
    revoked, retiring = REVOKED.public_key.keyid, RETIRING.public_key.keyid
    second = timedelta(seconds=1)
    assert revoked in policy.keys_in_force(NOW - second)
    gone = {revoked, REVOKED_TARGET.public_key.keyid}
    assert policy.keys.keys() - policy.keys_in_force(NOW).keys() == gone
    assert retiring in policy.keys_in_force(NOW + timedelta(days=1) - second)
    assert policy.keys.keys() - policy.keys_in_force(NOW + timedelta(days=1)).keys() == gone | {retiring}


MAKERS: dict[str, Callable[[], Any]] = {
    "p-256": lambda: ec.generate_private_key(ec.SECP256R1()),
    "p-384": lambda: ec.generate_private_key(ec.SECP384R1()),
    "ed25519": ed25519.Ed25519PrivateKey.generate,
    "rsa-3072": lambda: rsa.generate_private_key(65537, 3072),
    "ml-dsa-65": mldsa.MLDSA65PrivateKey.generate,
    "ml-dsa-87": mldsa.MLDSA87PrivateKey.generate,
}


@pytest.mark.parametrize("make", MAKERS.values(), ids=MAKERS.keys())
def test_each_accepted_kind_signs_and_verifies(make: Callable[[], Any]) -> None:
    signer = signer_from_pem(pem_of(make()).encode())
    key = public_key_from_pem(public_pem(signer))
    assert key.keyid == signer.public_key.keyid
    assert key.scheme in SCHEMES
    envelope = Envelope.from_bytes(Envelope.sign(b"{}", [signer]).to_bytes())
    assert envelope.check_signatures([key]) == {key.keyid: SignatureCheck.VALID}
    other = Envelope(payload=b"[]", signatures=envelope.signatures)
    assert other.check_signatures([key]) == {key.keyid: SignatureCheck.FORGED}
    assert envelope.check_signatures([P256.public_key]) == {key.keyid: SignatureCheck.UNKNOWN_KEY}


@pytest.mark.parametrize("salt_bytes", [0, 31, 33, 64])
def test_rsa_signature_with_a_salt_of_another_length_is_forged(salt_bytes: int) -> None:
    signer = signer_from_pem(pem_of(RSA).encode())
    sealed = Envelope.sign(b"{}", [signer])
    assert set(sealed.check_signatures([signer.public_key]).values()) == {SignatureCheck.VALID}
    pss = padding.PSS(mgf=padding.MGF1(hashes.SHA256()), salt_length=salt_bytes)
    message = DsseEnvelope(b"{}", PAYLOAD_TYPE, {}).pae()
    salted = replace(sealed, signatures={signer.public_key.keyid: RSA.sign(message, pss, hashes.SHA256())})
    assert set(salted.check_signatures([signer.public_key]).values()) == {SignatureCheck.FORGED}


@pytest.mark.parametrize(
    "private_key",
    [
        rsa.generate_private_key(65537, 2048),
        ec.generate_private_key(ec.SECP521R1()),
        mldsa.MLDSA44PrivateKey.generate(),
    ],
    ids=["rsa-2048", "p-521", "ml-dsa-44"],
)
def test_weak_or_unusual_key_is_refused(private_key: Any) -> None:
    signer = CryptoSigner(private_key)
    with pytest.raises(PolicyRefusal):
        public_key_from_pem(public_pem(signer))
    with pytest.raises(OperatorError):
        signer_from_pem(signer.private_bytes)


def test_private_key_never_shows_in_an_error() -> None:
    secret = P384.private_bytes.replace(b"BEGIN PRIVATE", b"BEGIN PRIVVATE")
    with pytest.raises(OperatorError) as refusal:
        signer_from_pem(secret)
    assert secret.splitlines()[1].decode() not in repr(refusal.value)
    assert refusal.value.__suppress_context__
