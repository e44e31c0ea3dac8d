"""The trust policy in force at an app: the pinned one, those that follow, and whoever meddles with them."""

import json
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from functools import lru_cache
from typing import Any

import pytest

from airgap.errors import AirgapError, Code, PolicyRefusal, ServiceError, UntrustedInputError
from airgap.fields import format_time
from airgap.ledger import LedgerEntry
from airgap.policy import TrustPolicy
from airgap.policy_chain import MAX_VERSION_BYTES, UsedPolicy, version_name
from airgap.receipt import ReceiptVerdict
from airgap.states import Kind, State
from airgap.verify import Verdict
from function_app.journal.store import JournalStore
from function_app.ports import TargetSide
from function_app.preflight import check_side
from function_app.storage.ledger import Ledger
from function_app.storage.policies import policy_chain, policy_in_force
from function_app.storage.work_folder import WorkFolder
from function_app.target import acceptance
from function_app.target.acceptance import accept_bundle
from function_app.target.admission import VERDICT, judged_last, note_policy_version
from function_app.target.judging import judge_bundle
from function_app.target.wire import ACCEPT_BUNDLE, Judging, VerdictNote
from tests.bundles import default_key
from tests.function_app.memory import START, STEPS, MemoryBlobs, make_target
from tests.function_app.test_import import POLICY, Target, bundle_of
from tests.policies import ADA, BOB, CLEO, DAN, Change, chain_of, policy_version, signed

V1 = policy_version(1, base=POLICY)
V2 = policy_version(2, base=POLICY)
V3 = policy_version(3, base=POLICY)
FORKED_V2 = policy_version(2, base=POLICY, change=lambda p: p.update(expiresAt="2099-01-01T00:00:00Z"))


def revoke_the_source(policy: dict[str, Any], since: str = "2026-11-01T00:00:00Z") -> None:
    policy["revoked"] = [{"keyid": default_key().keyid, "from": since}]


def put(blobs: MemoryBlobs, version: int, envelope: bytes) -> None:
    blobs.upload("policy", version_name(version), envelope)


def put_chain(blobs: MemoryBlobs, *policies: bytes) -> None:
    for version, envelope in chain_of(policies, ADA, BOB).items():
        put(blobs, version, envelope)


def side_of(pinned: bytes = V1) -> tuple[TargetSide, MemoryBlobs]:
    return make_target(pinned)


def restarted(side: TargetSide, pinned: bytes = V1) -> TargetSide:
    """As another process sees it: nothing is remembered but what the storage has."""
    blobs = MemoryBlobs()
    assert isinstance(side.blobs, MemoryBlobs)
    blobs.containers = side.blobs.containers
    settings = replace(side.settings, trust_policy=TrustPolicy.from_bytes(pinned))
    return replace(side, blobs=blobs, settings=settings)


def test_pinned_policy_is_in_force_where_no_other_is() -> None:
    side, blobs = side_of()
    assert policy_in_force(side) == TrustPolicy.from_bytes(V1)
    assert blobs.names("ledger") == ["policies/00000001.json"]


def test_version_that_arrives_is_in_force_from_then_on() -> None:
    side, blobs = side_of()
    policy_in_force(side)
    put_chain(blobs, V1, V2, V3)
    assert policy_in_force(side).version == 3
    assert policy_in_force(restarted(side)).version == 3
    assert blobs.names("ledger") == ["policies/00000001.json", "policies/00000003.json"]


def test_version_that_was_in_force_is_in_the_way_of_an_older_one() -> None:
    side, blobs = side_of()
    put_chain(blobs, V1, V2)
    policy_in_force(side)
    blobs.delete("policy", version_name(2))
    with pytest.raises(PolicyRefusal, match="POLICY_ROLLED_BACK"):
        policy_in_force(restarted(side))
    put_chain(blobs, V1, V2)
    assert policy_in_force(restarted(side)).version == 2


def test_pinning_an_older_policy_by_the_setting_is_no_way_back() -> None:
    side, _ = side_of(V3)
    policy_in_force(side)
    with pytest.raises(PolicyRefusal, match="POLICY_ROLLED_BACK"):
        policy_in_force(restarted(side, V1))


def test_policy_that_was_changed_and_kept_its_number_is_refused() -> None:
    side, _ = side_of()
    policy_in_force(side)
    with pytest.raises(PolicyRefusal, match="POLICY_FORKED"):
        policy_in_force(restarted(side, policy_version(1, base=POLICY, threshold=1)))


def test_forked_version_is_refused_though_it_is_signed() -> None:
    side, blobs = side_of()
    put_chain(blobs, V1, V2)
    policy_in_force(side)
    put_chain(blobs, V1, FORKED_V2)
    with pytest.raises(PolicyRefusal, match="POLICY_FORKED"):
        policy_in_force(restarted(side))


def test_of_two_processes_with_two_policies_of_one_number_one_goes_on(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    side, blobs = side_of()
    create = blobs.create

    def overtaken(container: str, name: str, content: bytes) -> bool:
        create(container, name, UsedPolicy(version=1, sha256="0" * 64).to_bytes())
        return create(container, name, content)

    monkeypatch.setattr(blobs, "create", overtaken)
    with pytest.raises(PolicyRefusal, match="POLICY_FORKED"):
        policy_in_force(side)


def test_fast_forward_is_recovered_from_by_pinning_a_later_version() -> None:
    side, blobs = side_of()
    hostile = policy_version(2, base=POLICY, officers={"Dan": DAN}, threshold=1)
    put(blobs, 2, signed(V1, hostile, ADA, BOB, DAN))
    assert policy_in_force(side).version == 2
    put(blobs, 3, signed(hostile, policy_version(3, base=POLICY, officers={"Dan": DAN}, threshold=1), DAN))
    put(blobs, 5, signed(hostile, policy_version(3, base=POLICY, officers={"Dan": DAN}, threshold=1), DAN))
    assert policy_in_force(restarted(side, policy_version(4, base=POLICY))).version == 4


def test_record_that_somebody_planted_stops_everything_and_says_so() -> None:
    side, blobs = side_of()
    blobs.put("ledger", "policies/00000009.json", b"{}")
    with pytest.raises(PolicyRefusal, match="POLICY_MALFORMED"):
        policy_in_force(side)


@pytest.mark.parametrize(
    "name",
    [
        *("policies/9.json", "policies/00000009.json.bak", "policies/a/00000009.json"),
        "policies/0000000000000001.json",  # the first number of a channel of that name
    ],
)
def test_other_blobs_beside_the_records_are_none(name: str) -> None:
    side, blobs = side_of()
    blobs.put("ledger", name, b"{}")
    assert policy_in_force(side).version == 1


GARBAGE: dict[str, tuple[int, bytes]] = {
    "nothing": (2, b""),
    "a page": (2, b"<html>"),
    "too large to be read": (2, b" " * (MAX_VERSION_BYTES + 1)),
    "signed by one officer": (2, signed(V1, V2, ADA)),
    "signed by a stranger": (2, signed(V1, V2, DAN)),
    "a later version": (3, signed(V2, V3, ADA, BOB)),
    "the highest number": (99_999_999, b"{}"),
}


@pytest.mark.parametrize("name", GARBAGE)
def test_garbage_among_the_versions_holds_nobody_up(name: str) -> None:
    target, bundle = Target(V1), bundle_of()
    put(target.blobs, *GARBAGE[name])
    outcome = target.receive(bundle)
    assert target.receipt(outcome).is_imported
    assert target.receipt(outcome).policy_version == 1


def test_storage_that_does_not_answer_is_no_absent_version(monkeypatch: pytest.MonkeyPatch) -> None:
    side, blobs = side_of()
    read = blobs.read

    def away(container: str, name: str, **more: Any) -> bytes | None:
        if container == "policy":
            raise ServiceError(Code.SERVICE_UNREACHABLE, "storage")
        return read(container, name, **more)

    monkeypatch.setattr(blobs, "read", away)
    with pytest.raises(ServiceError):
        policy_in_force(side)
    assert blobs.names("ledger") == []


def test_what_was_read_once_is_not_read_again(monkeypatch: pytest.MonkeyPatch) -> None:
    side, blobs = side_of()
    put_chain(blobs, V1, V2, V3)
    policy_in_force(side)
    reads: list[str] = []
    read = blobs.read

    def counted(container: str, name: str, **more: Any) -> bytes | None:
        reads.append(f"{container}/{name}")
        return read(container, name, **more)

    monkeypatch.setattr(blobs, "read", counted)
    assert policy_in_force(side).version == 3
    assert reads == ["policy/00000004.dsse.json"]


def test_looking_at_the_chain_records_nothing() -> None:
    side, blobs = side_of()
    put_chain(blobs, V1, V2)
    assert policy_chain(side).last.version == 2
    assert blobs.names("ledger") == []


# what is judged by it


def test_receipt_and_journal_tell_the_version_in_force() -> None:
    target, bundle = Target(V1), bundle_of()
    put_chain(target.blobs, V1, V2)
    outcome = target.receive(bundle)
    assert target.receipt(outcome).policy_version == 2
    journal = JournalStore(target.side.blobs, target.side.projection).read(Kind.IMPORTS, "import0001")
    for state in (State.ADMITTED, State.PROVEN):
        entry = journal.newest(state)
        assert entry is not None
        assert entry.facts["policyVersion"] == 2


@pytest.mark.parametrize("activity", ["admit_bundle", "take_turn", "accept_bundle"])
def test_key_that_a_later_version_revokes_brings_nothing_in(activity: str) -> None:
    target, bundle = Target(V1), bundle_of()
    target.host.before[activity] = lambda: put_chain(target.blobs, V1, REVOKING)
    receipt = target.assert_refused(target.receive(bundle), Code.KEY_REVOKED)
    assert receipt.policy_version == 2
    assert target.pipelines.requests == {}
    assert target.numbers() == []


REVOKING = policy_version(2, base=POLICY, change=revoke_the_source)


def test_key_that_is_revoked_between_the_last_look_and_the_ledger_takes_its_number_for_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """What is held up says when it was judged; the storage, that it came later."""
    target = Target(V1)
    take = Ledger.take
    just_now = format_time(target.host.now + timedelta(hours=1))
    revoking = policy_version(2, base=POLICY, change=lambda policy: revoke_the_source(policy, just_now))

    def held_up(ledger: Ledger, entry: LedgerEntry) -> LedgerEntry:
        put_chain(target.blobs, V1, revoking)
        target.blobs.now = target.host.now + timedelta(hours=2)
        return take(ledger, entry)

    monkeypatch.setattr(Ledger, "take", held_up)
    outcome = target.receive(bundle_of())
    receipt = target.receipt(outcome)
    assert (receipt.verdict, receipt.code) == (ReceiptVerdict.REFUSED, Code.KEY_REVOKED)
    assert (receipt.policy_version, len(target.numbers())) == (2, 1)
    assert target.blobs.names("transfer") == []
    assert target.pipelines.requests == {}


def test_acceptance_that_nobody_heard_of_is_judged_again_when_it_is_delivered_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    target = Target(V1)

    def twice(side: TargetSide, order: Judging) -> object:
        accept_bundle(side, order)
        put_chain(target.blobs, V1, REVOKING)
        return accept_bundle(side, order)

    monkeypatch.setitem(STEPS, ACCEPT_BUNDLE.name, (ACCEPT_BUNDLE, twice))
    assert target.receive(bundle_of())["code"] == Code.KEY_REVOKED.name
    assert target.pipelines.requests == {}


LETS_NO_GAP_PASS = policy_version(
    2, base=POLICY, change=lambda policy: policy["channels"]["prod"].update(onGap="refuse")
)
HOLDS_AT_A_GAP = policy_version(
    2, base=POLICY, change=lambda policy: policy["channels"]["prod"].update(onGap="hold")
)
KNOWS_NO_CHANNEL = policy_version(
    2, base=POLICY, change=lambda policy: policy["channels"].update(other=policy["channels"].pop("prod"))
)


@pytest.mark.parametrize(
    ("policy", "code"),
    [
        (LETS_NO_GAP_PASS, Code.SEQUENCE_GAP),
        (HOLDS_AT_A_GAP, Code.SEQUENCE_GAP),
        (KNOWS_NO_CHANNEL, Code.CHANNEL_UNKNOWN),
    ],
    ids=["refuses", "holds until it is too late", "channel unknown"],
)
def test_version_that_came_before_the_turn_and_refused_there_is_named_by_the_decision(
    policy: bytes, code: Code
) -> None:
    target = Target(V1)
    target.host.before["take_turn"] = lambda: put_chain(target.blobs, V1, policy)
    assert_decided_by_the_second(target, target.receive(bundle_of(sequence=2)), code)


def assert_decided_by_the_second(target: Target, outcome: dict[str, Any], code: Code) -> None:
    """Receipt and journal name version 2, which came after the admission."""
    assert outcome["code"] == code.name, outcome
    assert target.receipt(outcome).policy_version == 2
    journal = JournalStore(target.side.blobs, target.side.projection).read(Kind.IMPORTS, "import0001")
    admitted, refused = journal.newest(State.ADMITTED), journal.newest(State.REFUSED)
    assert admitted is not None
    assert refused is not None
    assert (admitted.facts["policyVersion"], refused.facts["policyVersion"]) == (1, 2)


def test_version_that_came_between_the_judgement_and_the_order_of_numbers_is_named_by_the_decision(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    target = Target(V1)

    def judged_just_before(*args: Any) -> Verdict:
        verdict = replace(judge_bundle(*args), policy_version=1)  # also where it is delivered again
        put_chain(target.blobs, V1, LETS_NO_GAP_PASS)
        return verdict

    monkeypatch.setattr(acceptance, "judge_bundle", judged_just_before)
    assert_decided_by_the_second(target, target.receive(bundle_of(sequence=2)), Code.SEQUENCE_GAP)


def test_bundle_is_released_that_was_accepted_by_the_version_that_first_wants_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It comes while the bundle is accepted, and the receipt names it."""
    target = Target(V1)
    officer = {"officer": {"threshold": 1, "keyids": [ADA.keyid]}}
    wants = policy_version(
        2, base=POLICY, change=lambda policy: policy["channels"]["prod"].update(releaseRoles=officer)
    )

    def judged_just_after(*args: Any) -> Verdict:
        put_chain(target.blobs, V1, wants)
        return judge_bundle(*args)

    once = lru_cache(maxsize=None)(lambda order: accept_bundle(target.side, order))
    monkeypatch.setattr(acceptance, "judge_bundle", judged_just_after)
    monkeypatch.setitem(STEPS, ACCEPT_BUNDLE.name, (ACCEPT_BUNDLE, lambda _, order: once(order)))
    assert_decided_by_the_second(target, target.receive(bundle_of()), Code.RELEASE_EXPIRED)


def test_decision_and_receipt_name_the_same_version_whatever_is_noted_in_between() -> None:
    """A late delivery of the turn, after the decision, finds a version that came since."""
    target = Target(V1)
    target.host.before["take_turn"] = lambda: put_chain(target.blobs, V1, LETS_NO_GAP_PASS)
    work = WorkFolder(target.blobs, "import0001")
    target.host.before["issue_receipt"] = lambda: note_policy_version(work, 3, is_accepted=False)
    assert_decided_by_the_second(target, target.receive(bundle_of(sequence=2)), Code.SEQUENCE_GAP)


def test_key_of_a_later_version_brings_a_bundle_in() -> None:
    def add_the_source(policy: dict[str, Any]) -> None:
        policy["channels"] |= json.loads(POLICY)["channels"]

    elsewhere: Change = lambda policy: policy["channels"].update(other=policy["channels"].pop("prod"))  # noqa: E731
    pinned = policy_version(1, base=POLICY, change=elsewhere)
    target, bundle = Target(pinned), bundle_of()
    target.policy_json = V2
    assert target.receive(bundle)["code"] == "CHANNEL_UNKNOWN"
    put_chain(target.blobs, pinned, policy_version(2, base=POLICY, change=add_the_source))
    assert target.receive(bundle)["outcome"] == "imported"


@pytest.mark.parametrize(
    ("meddle", "code"),
    [
        (lambda blobs: blobs.delete("policy", version_name(2)), "POLICY_ROLLED_BACK"),
        (
            lambda blobs: put_chain(blobs, V1, FORKED_V2),
            "POLICY_FORKED",
        ),
    ],
    ids=["rollback", "fork"],
)
def test_nothing_is_imported_by_a_policy_that_was_exchanged(
    meddle: Callable[[MemoryBlobs], object], code: str
) -> None:
    target = Target(V1)
    put_chain(target.blobs, V1, V2)
    target.receive(bundle_of())
    meddle(target.blobs)
    target.host.side = restarted(target.side)
    target.blobs = target.host.side.blobs  # type: ignore[assignment]  # the double's
    later = bundle_of(transfer_id="later0000", sequence=2, previous_sha256=bundle_of().manifest_sha256)
    outcome = target.receive(later)
    assert (outcome["outcome"], outcome["code"]) == ("failed", code)
    assert len(target.numbers()) == 1
    assert target.blobs.names("transfer") == []
    put_chain(target.blobs, V1, V2)
    assert target.receive(later)["outcome"] == "imported"


def told(side: TargetSide) -> dict[str, tuple[bool, str]]:
    checks = check_side("target", side, {}, now=START)
    return {check.id: (check.is_ok, check.detail) for check in checks}


def test_preflight_tells_what_is_pinned_and_what_is_in_force() -> None:
    side, blobs = side_of()
    put_chain(blobs, V1, V2)
    found = told(side)
    assert found["policy-chain"] == (True, "pinned version 1, in force version 2")
    assert found["trust-policy"][1].startswith("version 2, until")
    assert blobs.names("ledger") == []


def test_preflight_tells_of_a_version_that_is_not_used() -> None:
    side, blobs = side_of()
    put(blobs, 2, signed(V1, V2, CLEO))
    is_ok, detail = told(side)["policy-chain"]
    assert not is_ok
    assert "version 2 is there and not used: THRESHOLD_NOT_MET: role officer: 1 of 2" in detail


def test_preflight_tells_of_a_rollback() -> None:
    side, blobs = side_of()
    put_chain(blobs, V1, V2)
    policy_in_force(side)
    blobs.delete("policy", version_name(2))
    is_ok, detail = told(restarted(side))["policy-chain"]
    assert (is_ok, detail) == (False, "POLICY_ROLLED_BACK: version 1, after version 2 was in force")


def test_preflight_asks_the_policy_in_force_whose_keys_count() -> None:
    side, blobs = side_of()
    before = told(side)["trust-policy-keys"]

    def take_our_receipts(policy: dict[str, Any]) -> None:
        (own,) = side.signing.signers()
        public_pem = own.public_key.keyval["public"]
        policy["keys"].append({"holder": "this target", "publicKey": public_pem})
        policy["channels"]["prod"]["receiptRoles"]["target"]["keyids"].append(own.public_key.keyid)

    put_chain(blobs, V1, policy_version(2, base=POLICY, change=take_our_receipts))
    assert (before[0], told(side)["trust-policy-keys"][0]) == (False, True)


def test_version_of_a_newer_tool_stops_the_target_and_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    side, _ = side_of()

    def newer(*_: Any) -> None:
        raise UntrustedInputError(Code.NEWER_FORMAT, "trust-policy of version 2")

    monkeypatch.setattr("function_app.storage.policies.follow", newer)
    with pytest.raises(AirgapError, match="NEWER_FORMAT"):
        policy_in_force(side)
    assert not told(side)["policy-chain"][0]


def test_late_repeat_by_another_policy_changes_nothing_about_which_version_judged() -> None:
    """It found version 2 rolled back, or was refused by version 4, long after the bundle was accepted."""
    target, bundle = Target(V1), bundle_of()
    put_chain(target.blobs, V1, V2)
    target.receive(bundle)
    work = WorkFolder(target.side.blobs, "import0001")
    noted = VerdictNote(
        manifest_etag="",
        transfer_id=None,
        channel=None,
        sequence=None,
        manifest_sha256=None,
        policy_version=2,
        signers=(),
    )
    work.put(VERDICT, noted)
    for version, code in ((1, Code.POLICY_ROLLED_BACK), (3, None), (4, Code.KEY_REVOKED)):
        verdict = Verdict(
            code=code, detail="", manifest=None, manifest_sha256=None, signers=(), policy_version=version
        )
        note_policy_version(work, verdict.policy_version, is_accepted=verdict.is_accepted)
    assert work.get(VERDICT, VerdictNote) == noted
    assert judged_last(work, noted, is_refused=False) == 3
    assert judged_last(work, noted, is_refused=True) == 4
