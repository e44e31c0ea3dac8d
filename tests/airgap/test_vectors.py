"""The golden vectors: what was written once must be written the same and read the same for ever."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from airgap.checks import CheckAnswer
from airgap.cosigning import KeptSignature
from airgap.custody import Fault, verify_log
from airgap.custody_event import Head
from airgap.envelope import Envelope
from airgap.errors import AirgapError, Code, UnknownCode, UntrustedInputError
from airgap.journal import JournalEntry
from airgap.ledger import LedgerEntry, VoidEntry
from airgap.manifest import BundleManifest, manifest_digest
from airgap.media_plan import SavedPlan
from airgap.override import Override
from airgap.parity import ParityLayout
from airgap.policy import TrustPolicy
from airgap.policy_chain import PolicyVersion, UsedPolicy
from airgap.recarry import RecarryRequest
from airgap.receipt import Receipt
from airgap.release import ReleaseStatement, verify_release
from airgap.signatures import DsseEnvelope
from airgap.signed_check import CheckStatement
from airgap.signed_check import read_answer as read_answer_of
from airgap.ticket import Ticket
from airgap.verify import verify_bundle
from offline_mover.bags.bag_texts import TAG_MANIFEST, TEXT_FILES, Place, read_texts
from tests.vectors import generate as vectors

MANIFEST = vectors.full_manifest()
MANIFEST_SHA256 = manifest_digest(MANIFEST.to_bytes())


def vector(name: str) -> bytes:
    return (vectors.FOLDER / name).read_bytes()


def read_parity(raw: bytes) -> bytes:
    layout = ParityLayout.from_bytes(raw, manifest_sha256=MANIFEST_SHA256, part_count=MANIFEST.part_count)
    return layout.to_bytes(MANIFEST_SHA256)


def read_log(raw: bytes) -> bytes:
    """The lines written again; any sign of tampering refuses."""
    check = verify_log(raw, head=vectors.custody_head(raw.splitlines(keepends=True)))
    if not check.is_intact:
        raise UntrustedInputError(Code.CUSTODY_BROKEN, str(check.findings))
    return b"".join(entry.event.to_line() for entry in check.entries)


def read_policy(raw: bytes) -> bytes:
    """A policy is never written by the product; that it was read is all."""
    TrustPolicy.from_bytes(raw)
    return raw


def read_answer(raw: bytes) -> bytes:
    """An answer is never written by the product."""
    CheckAnswer.from_bytes(raw, vectors.check_question())
    return raw


def read_bag_text(name: str) -> Callable[[bytes], bytes]:
    """One text of the recorded bag, beside the others as they are; what is wrong with it refuses.

    The list of the tag files is left out: a text that is not as listed would be refused for that alone.
    """

    def read(raw: bytes) -> bytes:
        held = {file: listed.size_bytes for file, listed in vectors.bag_files().items()}
        texts = {one: text for one, text in vectors.bag().items() if one != TAG_MANIFEST} | {name: raw}
        for damage in read_texts(MANIFEST, texts, held).damages:
            assert isinstance(damage.code, Code)
            raise UntrustedInputError(damage.code, str(damage))
        return raw

    return read


BAG_TEXTS = {name.removesuffix(".txt"): read_bag_text(name) for name in TEXT_FILES}
"""Their version is that of BagIt."""

READERS: dict[str, Callable[[bytes], bytes]] = {
    "statement": lambda raw: BundleManifest.from_bytes(raw).to_bytes(),
    "manifest": lambda raw: BundleManifest.from_bytes(raw).to_bytes(),
    "release": lambda raw: ReleaseStatement.from_bytes(raw).to_bytes(),
    "check-answer": read_answer,
    "check-statement": lambda raw: CheckStatement.from_bytes(raw).to_bytes(),
    "receipt": lambda raw: Receipt.from_bytes(raw).to_bytes(),
    "envelope": lambda raw: Envelope.from_bytes(raw).to_bytes(),
    "policy": read_policy,
    "policy-version": lambda raw: PolicyVersion.from_bytes(raw).to_bytes(),
    "used-policy": lambda raw: UsedPolicy.from_bytes(raw).to_bytes(),
    "ledger-entry": lambda raw: LedgerEntry.from_bytes(raw).to_bytes(),
    "override": lambda raw: Override.from_bytes(raw).to_bytes(),
    "void-entry": lambda raw: VoidEntry.from_bytes(raw).to_bytes(),
    "kept-signature": lambda raw: KeptSignature.from_bytes(raw).to_bytes(),
    "recarry": lambda raw: RecarryRequest.from_bytes(raw).to_bytes(),
    "ticket": lambda raw: Ticket.from_bytes(raw).to_bytes(),
    "parity": read_parity,
    "plan": lambda raw: SavedPlan.from_bytes(raw).to_bytes(),
    "custody-log": read_log,
    "custody-head": lambda raw: Head.from_bytes(raw).to_bytes(),
    "journal": lambda raw: JournalEntry.from_bytes(raw).to_bytes(),
    **BAG_TEXTS,
}


def reader(name: str) -> Callable[[bytes], bytes]:
    """By the longest beginning of the file's name."""
    file = Path(name).name
    return READERS[max((kind for kind in READERS if file.startswith(kind)), key=len)]


WRITTEN_ONLY = {"pae.json", "check-question.json"}
ACCEPTED = sorted(n for n in vectors.names(vectors.FOLDER) if "/" not in n and n not in WRITTEN_ONLY)
REFUSED = sorted(name for name in vectors.names(vectors.FOLDER) if name.startswith("refused/"))


def test_vectors_made_today_are_those_that_were_recorded(tmp_path: Path) -> None:
    vectors.write(tmp_path)
    assert vectors.differences(tmp_path) == []


def test_difference_and_a_vector_that_nobody_makes_are_told(tmp_path: Path) -> None:
    vectors.write(tmp_path)
    (tmp_path / "plan.json").write_bytes(b"{}")
    (tmp_path / "stray.json").write_bytes(b"{}")
    told = "\n".join(vectors.differences(tmp_path))
    assert "plan.json is not as recorded" in told
    assert "stray.json is not as recorded" in told


@pytest.mark.parametrize("name", ACCEPTED)
def test_vector_is_read_and_written_again_the_same(name: str) -> None:
    assert reader(name)(vector(name)) == vector(name)


@pytest.mark.parametrize("name", REFUSED)
def test_vector_is_refused_with_the_code_of_its_folder(name: str) -> None:
    with pytest.raises(AirgapError) as refusal:
        reader(name)(vector(name))
    assert refusal.value.code is Code[name.split("/")[1]]


def test_each_format_with_a_version_has_a_vector_of_a_later_one() -> None:
    later = {Path(name).stem for name in REFUSED if name.startswith("refused/NEWER_FORMAT/")}
    told = {Path(name).stem.removesuffix("-schema") for name in vectors.PAYLOADS if "newer/" in name}
    assert later | told >= READERS.keys() - {"envelope", *BAG_TEXTS}


def test_recorded_bag_is_read_with_nothing_wrong_as_the_volume_that_it_is() -> None:
    texts = {name: vector(f"bag/{name}") for name in TEXT_FILES}
    held = {name: listed.size_bytes for name, listed in vectors.bag_files().items()}
    found = read_texts(MANIFEST, {**vectors.bag(), **texts}, held)
    assert found.damages == ()
    assert found.place == Place(number=2, of=3)
    assert found.listed == {name: listed.sha256 for name, listed in vectors.bag_files().items()}


def test_receipt_with_a_code_of_a_newer_tool_is_read() -> None:
    raw = vector("newer/receipt-code.json")
    assert Receipt.from_bytes(raw).code == UnknownCode("QUANTUM_BROKEN")
    assert Receipt.from_bytes(raw).to_bytes() == raw


@pytest.mark.parametrize("what", ["action", "code", "schema"])
def test_custody_log_of_a_newer_tool_is_unbroken_and_says_so(what: str) -> None:
    raw = vector(f"newer/custody-log-{what}.jsonl")
    assert read_log(raw) == raw
    assert [finding.fault for finding in verify_log(raw).findings] == [Fault.NEWER]


def test_head_file_of_a_newer_tool_still_says_where_the_log_ends() -> None:
    lines = vector("newer/custody-log-schema.jsonl").splitlines(keepends=True)
    head = Head.from_bytes(vector("newer/custody-head.json"))
    assert head == vectors.custody_head(lines)
    assert not verify_log(b"".join(lines[:-1]), head=head).is_intact


def test_recorded_release_still_verifies() -> None:
    release = verify_release(
        vector("envelope-release.dsse.json"),
        bundle=vectors.release_statement().bundle,
        policy=TrustPolicy.from_bytes(vector("policy.json")),
        now=vectors.NOW,
    )
    assert release.keys.keys() == {vectors.OFFICER.public_key.keyid}


def test_recorded_answer_of_a_check_still_counts() -> None:
    policy = TrustPolicy.from_bytes(vector("policy.json"))
    answer = read_answer_of(
        vector("envelope-check.dsse.json"),
        vectors.check_question(),
        role=policy.channels["prod"].check_roles["scan"],
        policy=policy,
        now=vectors.NOW,
    )
    assert answer.passed
    assert [one.keyid for one in answer.signers] == [vectors.SCANNER.public_key.keyid]


NO_BUNDLES = {"envelope-release.dsse.json", "envelope-check.dsse.json"}


@pytest.mark.parametrize("name", sorted(vectors.ENVELOPES.keys() - NO_BUNDLES))
def test_recorded_envelope_still_verifies(name: str) -> None:
    policy = TrustPolicy.from_bytes(vector("policy.json"))
    verdict = verify_bundle(vector(name), policy=policy, now=vectors.NOW, target=vectors.TARGET)
    expected = Code.THRESHOLD_NOT_MET if name == "envelope-ed25519.dsse.json" else None
    assert verdict.code is expected, verdict


def test_pre_authentication_encoding_counts_bytes_not_characters() -> None:
    for case in json.loads(vector("pae.json")):
        payload_type, payload = case["payloadType"], bytes.fromhex(case["payloadHex"])
        by_hand = b" ".join(
            [
                b"DSSEv1",
                str(len(payload_type.encode())).encode(),
                payload_type.encode(),
                str(len(payload)).encode(),
                payload,
            ]
        )
        assert bytes.fromhex(case["paeHex"]) == by_hand == DsseEnvelope(payload, payload_type, {}).pae()
