"""Releases by people at the target: who must say yes has said so, about this very bundle, and in time.

Each test hands releases in as people do, through the API, while the import waits; what is asserted is what
became of the import.
"""

import asyncio
import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import azure.functions as func
import pytest

from airgap.envelope import Envelope
from airgap.errors import Code, UntrustedInputError
from airgap.manifest import Tool
from airgap.receipt import ReceiptVerdict
from airgap.release import MAX_RELEASE_BYTES, ReleasedBundle, ReleaseStatement
from airgap.states import Kind
from function_app.durable.stopping import stop
from function_app.journal.store import JournalStore
from function_app.target import http_api
from function_app.target.closing import record_decision
from tests.bundles import (
    AUDIENCE,
    CHANNEL,
    TRANSFER_ID,
    Bundle,
    SigningKey,
    default_key,
    make_policy,
    new_key,
)
from tests.function_app.test_acceptance import with_policy
from tests.function_app.test_caller import principal
from tests.function_app.test_closing import closing
from tests.function_app.test_import import RECEIPT_KEY, Target, bundle_of, flip

ADA, EVA = new_key(), new_key()
POLICY = make_policy([default_key()], receipt_keys=[RECEIPT_KEY], release_keys=[ADA, EVA], order="rising")
IMPORT = "import0001"


class Office:
    """A target whose channel asks two officers, and their way to it."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.target = Target(POLICY)
        self.rounds: list[Callable[[], object]] = []
        """What people do, one after the other, each before the app counts once more."""
        self.answers: list[tuple[int, dict[str, Any]]] = []
        host = self.target.host

        def next_round() -> None:
            host.before["clear_bundle"] = next_round
            if self.rounds:
                self.rounds.pop(0)()

        host.before["clear_bundle"] = next_round
        monkeypatch.setattr(http_api, "target_side", lambda: host.side)

        class Clock:
            @staticmethod
            def now(_: object) -> datetime:
                return host.now

        monkeypatch.setattr(http_api, "datetime", Clock)

    def statement(self, bundle: Bundle, **other: Any) -> ReleaseStatement:
        about = ReleasedBundle.of(bundle.manifest, bundle.manifest_sha256, target=AUDIENCE[0])
        return ReleaseStatement(
            bundle=replace(about, **other),
            released_at=self.target.host.now.replace(microsecond=0),
            tool=Tool(name="tests", version="0"),
        )

    def sign(self, bundle: Bundle, *keys: SigningKey, **other: Any) -> bytes:
        payload = self.statement(bundle, **other).to_bytes()
        return Envelope.sign(payload, [key.signer for key in keys]).to_bytes()

    def post(
        self, body: bytes, import_id: str = IMPORT, headers: dict[str, str] | None = None
    ) -> tuple[int, dict[str, Any]]:
        request = func.HttpRequest(
            method="POST",
            url=f"https://app/api/imports/{import_id}/release",
            headers=headers or {},
            params={},
            route_params={"importId": import_id},
            body=body,
        )
        response = asyncio.run(http_api.release_import._function.get_user_function()(req=request))
        answer = (response.status_code, json.loads(response.get_body()))
        self.answers.append(answer)
        return answer

    def receive(self, bundle: Bundle, *rounds: Callable[[], object]) -> dict[str, Any]:
        self.rounds += rounds
        return self.target.receive(bundle)

    def kept(self) -> list[str]:
        return [name for name in self.target.blobs.names("ledger") if name.startswith("releases/")]

    def history(self) -> list[str]:
        side = self.target.side
        journal = JournalStore(side.blobs, side.projection).read(Kind.IMPORTS, IMPORT)
        return [entry.state.value for entry in journal.entries]

    def assert_nothing_promoted(self) -> None:
        assert self.target.pipelines.requests == {}
        assert self.target.blobs.names("transfer") == []
        assert "promoting" not in self.history()

    def assert_not_released(self, outcome: dict[str, Any]) -> None:
        """It waited until the time was over, and was refused whole: with its number, and nothing imported."""
        assert outcome["code"] == Code.RELEASE_EXPIRED.name, outcome
        self.assert_nothing_promoted()
        receipt = self.target.receipt(outcome)
        assert (receipt.verdict, receipt.code) == (ReceiptVerdict.REFUSED, Code.RELEASE_EXPIRED)
        assert receipt.ledger is not None
        assert self.target.blobs.names("work") == []  # the turn, too


@pytest.fixture
def office(monkeypatch: pytest.MonkeyPatch) -> Office:
    return Office(monkeypatch)


def test_bundle_is_imported_once_both_officers_have_released_it_and_both_are_on_record(
    office: Office,
) -> None:
    bundle = bundle_of()
    outcome = office.receive(
        bundle,
        lambda: office.post(office.sign(bundle, ADA)),
        office.assert_nothing_promoted,
        lambda: office.post(office.sign(bundle, EVA)),
    )
    assert outcome["outcome"] == "imported"
    (first, waiting), (second, done) = office.answers
    assert (first, second) == (200, 200)
    assert waiting["state"] == "awaiting-release"
    assert [one["holder"] for one in waiting["release"]["releases"]] == ["officer 1"]
    assert waiting["release"]["missing"] == ["role officer: 1 of 2"]
    assert waiting["release"]["until"] == "2026-11-23T10:00:00Z"
    assert done["release"]["missing"] == []
    receipt = office.target.receipt(outcome)
    assert receipt.is_imported
    assert {(one.keyid, one.holder, one.role) for one in receipt.releases} == {
        (ADA.keyid, "officer 1", "officer"),
        (EVA.keyid, "officer 2", "officer"),
    }
    side = office.target.side
    (promoting,) = (
        entry
        for entry in JournalStore(side.blobs, side.projection).read(Kind.IMPORTS, IMPORT).entries
        if entry.state.value == "promoting"
    )
    assert {one["holder"] for one in promoting.facts["releases"]} == {"officer 1", "officer 2"}
    assert {one["postedBy"] for one in promoting.facts["releases"]} == {"caller"}
    assert office.history().index("awaiting-release") < office.history().index("promoting")


def test_release_that_came_before_the_turn_counts(office: Office) -> None:
    bundle = bundle_of()
    release = office.sign(bundle, ADA, EVA)
    office.target.host.before["take_turn"] = lambda: office.post(release)
    started = office.target.host.now
    assert office.receive(bundle)["outcome"] == "imported"
    assert office.answers[0][0] == 200
    assert office.target.host.now - started < timedelta(minutes=5)


def test_channel_without_release_roles_asks_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    target = Target()
    monkeypatch.setattr(http_api, "target_side", lambda: target.side)
    assert target.receive(bundle_of())["outcome"] == "imported"
    side = target.side
    journal = JournalStore(side.blobs, side.projection).read(Kind.IMPORTS, IMPORT)
    assert "awaiting-release" not in [entry.state.value for entry in journal.entries]


Forge = Callable[[Office, Bundle], bytes]


def forged(office: Office, bundle: Bundle) -> bytes:
    """In the name of an officer, by somebody else."""
    envelope = Envelope.from_bytes(office.sign(bundle, new_key()))
    (signature,) = envelope.signatures.values()
    return Envelope(payload=envelope.payload, signatures={EVA.keyid: signature}).to_bytes()


def beside_a_forgery(office: Office, bundle: Bundle) -> bytes:
    envelope = Envelope.from_bytes(office.sign(bundle, ADA, new_key()))
    (honest, other) = envelope.signatures.values()
    signatures = {ADA.keyid: honest, EVA.keyid: other}
    return Envelope(payload=envelope.payload, signatures=signatures).to_bytes()


def of_tomorrow(office: Office, bundle: Bundle) -> bytes:
    statement = office.statement(bundle)
    later = replace(statement, released_at=statement.released_at + timedelta(minutes=6))
    return Envelope.sign(later.to_bytes(), [EVA.signer]).to_bytes()


ATTACKS: dict[str, tuple[Forge, int, Code]] = {
    "another manifest": (lambda o, b: o.sign(b, EVA, manifest_sha256="0" * 64), 400, Code.RELEASE_MISMATCH),
    "another channel": (lambda o, b: o.sign(b, EVA, channel="another"), 400, Code.RELEASE_MISMATCH),
    "another target": (lambda o, b: o.sign(b, EVA, target="other.azurecr.io"), 400, Code.RELEASE_MISMATCH),
    "another transfer": (lambda o, b: o.sign(b, EVA, transfer_id="another0001"), 400, Code.RELEASE_MISMATCH),
    "another number": (lambda o, b: o.sign(b, EVA, sequence=7), 400, Code.RELEASE_MISMATCH),
    "an earlier import": (lambda o, _: o.sign(bundle_of(seed=9), EVA), 400, Code.RELEASE_MISMATCH),
    "a bundle role's key": (lambda o, b: o.sign(b, default_key()), 403, Code.SIGNER_UNKNOWN),
    "a receipt role's key": (lambda o, b: o.sign(b, RECEIPT_KEY), 403, Code.SIGNER_UNKNOWN),
    "a stranger's key": (lambda o, b: o.sign(b, new_key()), 403, Code.SIGNER_UNKNOWN),
    "forged": (forged, 400, Code.SIGNATURE_INVALID),
    "beside a forgery": (beside_a_forgery, 400, Code.SIGNATURE_INVALID),
    "the future": (of_tomorrow, 400, Code.NOT_YET_VALID),
    "the bundle's own envelope": (lambda _, b: b.envelope, 403, Code.SIGNER_UNKNOWN),
    "a manifest signed by an officer": (
        lambda _, b: Envelope.sign(b.payload, [EVA.signer]).to_bytes(),
        400,
        Code.RELEASE_MALFORMED,
    ),
    "no envelope": (lambda _o, _b: b"{}", 400, Code.ENVELOPE_MALFORMED),
    "nothing": (lambda _o, _b: b"", 400, Code.ENVELOPE_MALFORMED),
    "too much": (lambda _o, _b: b" " * (MAX_RELEASE_BYTES + 1), 413, Code.REQUEST_INVALID),
}


@pytest.mark.parametrize("attack", ATTACKS)
def test_release_is_refused_and_counts_for_nothing_that_is_for_or_by(attack: str, office: Office) -> None:
    forge, status, code = ATTACKS[attack]
    bundle = bundle_of()
    outcome = office.receive(
        bundle,
        lambda: office.post(office.sign(bundle, ADA)),
        lambda: office.post(forge(office, bundle)),
    )
    _, (found, problem) = office.answers
    assert (found, problem["code"]) == (status, code.name), problem
    assert ("an empty body where" in problem["detail"]) == (attack == "nothing")
    assert [name.rsplit("/", 1)[1] for name in office.kept()] == [f"{ADA.keyid}.dsse.json"]
    office.assert_not_released(outcome)
    assert [one.holder for one in office.target.receipt(outcome).releases] == ["officer 1"]
    assert "role officer: 1 of 2" in outcome["detail"]


def two_keys_of_ada() -> bytes:
    policy = json.loads(POLICY)
    policy["keys"].append({"holder": "officer 1", "publicKey": TWIN.public_pem})
    policy["channels"][CHANNEL]["releaseRoles"]["officer"]["keyids"].append(TWIN.keyid)
    return json.dumps(policy).encode()


TWIN = new_key()


def test_one_holder_with_two_keys_is_still_one(office: Office) -> None:
    bundle = bundle_of()
    with_policy(office.target, two_keys_of_ada())
    outcome = office.receive(
        bundle,
        lambda: office.post(office.sign(bundle, ADA)),
        lambda: office.post(office.sign(bundle, TWIN)),
        lambda: office.post(office.sign(bundle, ADA, TWIN)),
    )
    assert [status for status, _ in office.answers] == [200, 200, 200]
    office.assert_not_released(outcome)


def test_thousand_releases_of_one_officer_are_one_thing_to_read_and_block_nobody(office: Office) -> None:
    bundle = bundle_of()

    def flood() -> None:
        statement = office.statement(bundle)
        for number in range(1000):
            moment = statement.released_at - timedelta(seconds=number)
            payload = replace(statement, released_at=moment).to_bytes()
            assert office.post(Envelope.sign(payload, [ADA.signer]).to_bytes())[0] == 200

    def look() -> None:
        assert len(office.kept()) == 1
        assert len([n for n in office.target.blobs.names("work") if "/posted/" in n]) == 1

    outcome = office.receive(bundle, flood, look, lambda: office.post(office.sign(bundle, EVA)))
    assert outcome["outcome"] == "imported"


def test_what_somebody_puts_beside_the_releases_costs_and_counts_nothing(office: Office) -> None:
    bundle = bundle_of()
    folder = f"releases/{bundle.manifest_sha256}"
    read: list[str] = []

    def plant() -> None:
        blobs = office.target.blobs
        for number in range(1000):
            blobs.put("ledger", f"{folder}/{number:064x}.dsse.json", office.sign(bundle, new_key()))
        blobs.put("ledger", f"{folder}/{EVA.keyid}.dsse.json", b"junk")
        original = blobs.read

        def watched(container: str, name: str, **more: Any) -> bytes | None:
            read.append(name)
            return original(container, name, **more)

        blobs.read = watched  # type: ignore[method-assign]

    outcome = office.receive(bundle, lambda: office.post(office.sign(bundle, ADA)), plant)
    office.assert_not_released(outcome)
    assert {name for name in read if name.startswith(folder)} == {
        f"{folder}/{key.keyid}.dsse.json" for key in (ADA, EVA)
    }


def revoked(*keys: SigningKey, since: str = "2026-11-01T00:00:00Z") -> bytes:
    policy = json.loads(POLICY) | {"version": 2}
    policy["revoked"] = [{"keyid": key.keyid, "from": since} for key in keys]
    return json.dumps(policy).encode()


def test_release_by_a_revoked_key_is_refused(office: Office) -> None:
    bundle = bundle_of()
    with_policy(office.target, revoked(EVA))
    outcome = office.receive(bundle, lambda: office.post(office.sign(bundle, EVA)))
    assert (office.answers[0][0], office.answers[0][1]["code"]) == (403, "KEY_REVOKED")
    office.assert_not_released(outcome)


def test_release_whose_key_is_revoked_in_the_wait_counts_no_more(office: Office) -> None:
    bundle = bundle_of()
    outcome = office.receive(
        bundle,
        lambda: office.post(office.sign(bundle, ADA)),
        lambda: with_policy(office.target, revoked(ADA)),
        lambda: office.post(office.sign(bundle, EVA)),
    )
    office.assert_not_released(outcome)
    assert [one.holder for one in office.target.receipt(outcome).releases] == ["officer 2"]


def test_release_counts_by_the_clock_of_the_moment_and_not_of_when_the_wait_began(office: Office) -> None:
    bundle = bundle_of()
    with_policy(office.target, revoked(ADA, since="2026-11-23T09:30:00Z"))

    def time_passes() -> None:
        office.target.host.now += timedelta(minutes=40)

    outcome = office.receive(
        bundle,
        lambda: office.post(office.sign(bundle, ADA)),
        time_passes,
        lambda: office.post(office.sign(bundle, EVA)),
    )
    office.assert_not_released(outcome)


def assert_went_bad(office: Office, outcome: dict[str, Any], code: Code) -> None:
    """Refused in the round in which that was so, not after all the time that people would have had."""
    assert outcome["code"] == code.name, outcome
    office.assert_nothing_promoted()
    assert office.target.receipt(outcome).verdict is ReceiptVerdict.REFUSED
    assert office.rounds == []
    assert office.target.host.called.count("clear_bundle") == 2


@pytest.mark.parametrize("is_released", [True, False])
def test_bundle_whose_key_is_revoked_while_people_are_waited_for_is_not_imported(
    is_released: object, office: Office
) -> None:
    bundle = bundle_of()

    def revoke() -> None:
        if is_released:
            assert office.post(office.sign(bundle, ADA, EVA))[1]["release"]["missing"] == []
        with_policy(office.target, revoked(default_key()))

    assert_went_bad(office, office.receive(bundle, lambda: None, revoke), Code.KEY_REVOKED)


@pytest.mark.parametrize("is_released", [True, False])
def test_bundle_that_expires_while_people_are_waited_for_is_not_imported(
    is_released: object, office: Office
) -> None:
    bundle = bundle_of(lifetime=timedelta(days=2))
    office.target.release_timeout_s = 7 * 24 * 3600

    def days_pass() -> None:
        office.target.host.now += timedelta(days=3)

    def release() -> None:
        if is_released:
            assert office.post(office.sign(bundle, ADA, EVA))[1]["release"]["missing"] == []

    assert_went_bad(office, office.receive(bundle, days_pass, release), Code.EXPIRED)


def test_release_before_the_admission_is_refused_and_nothing_of_it_is_kept(office: Office) -> None:
    bundle = bundle_of()
    early = office.sign(bundle, ADA, EVA)
    office.target.host.before["admit_bundle"] = lambda: office.post(early)
    outcome = office.receive(bundle)
    assert (office.answers[0][0], office.answers[0][1]["code"]) == (409, "TRANSITION_REFUSED")
    assert office.kept() == []
    office.assert_not_released(outcome)


def test_release_after_the_decision_is_refused_and_a_repeat_of_what_counted_is_not(office: Office) -> None:
    bundle = bundle_of()
    both = office.sign(bundle, ADA, EVA)
    assert office.receive(bundle, lambda: office.post(both))["outcome"] == "imported"
    status, body = office.post(both)
    assert (status, body["state"]) == (200, "closed")
    assert {one["holder"] for one in body["release"]["releases"]} == {"officer 1", "officer 2"}


def test_release_after_the_time_is_over_is_refused(office: Office) -> None:
    bundle = bundle_of()
    outcome = office.receive(bundle, lambda: office.post(office.sign(bundle, ADA)))
    office.assert_not_released(outcome)
    status, problem = office.post(office.sign(bundle, EVA))
    assert (status, problem["code"]) == (409, "TRANSITION_REFUSED")
    assert len(office.kept()) == 1
    assert office.target.receive(bundle)["code"] == "REPLAYED"


@pytest.mark.parametrize("import_id", ["import9999", "../x", ""])
def test_release_of_an_unknown_import_is_not_found(import_id: str, office: Office) -> None:
    bundle = bundle_of()
    assert office.post(office.sign(bundle, ADA), import_id)[0] == 404


@pytest.mark.parametrize(
    ("roles", "status"),
    [((), 403), (("Transfer.Order",), 403), (("Transfer.Release",), 200), (("Transfer.Admin",), 200)],
)
def test_of_those_who_have_signed_in_only_some_hand_in_releases(
    roles: Sequence[str], status: int, office: Office
) -> None:
    bundle, target = bundle_of(), office.target
    side = target.side
    target.host.side = target.side = replace(
        side, settings=replace(side.settings, callers_are_signed_in=True)
    )
    claims = [("preferred_username", "olga@contoso.com"), *(("roles", role) for role in roles)]
    outcome = office.receive(
        bundle, lambda: office.post(office.sign(bundle, ADA, EVA), headers=principal(*claims))
    )
    assert office.answers[0][0] == status
    if status == 200:
        assert outcome["outcome"] == "imported"
        journal = JournalStore(side.blobs, side.projection).read(Kind.IMPORTS, IMPORT)
        (facts,) = (entry.facts for entry in journal.entries if entry.state.value == "promoting")
        assert {one["postedBy"] for one in facts["releases"]} == {"olga@contoso.com"}
    else:
        assert office.answers[0][1]["code"] == "CALLER_REFUSED"
        office.assert_not_released(outcome)
        assert office.kept() == []


def test_release_is_told_in_words_while_it_waits_though_the_policy_counts_nothing_any_more(
    office: Office,
) -> None:
    bundle, told = bundle_of(), list[dict[str, Any]]()

    def look() -> None:
        policy = json.loads(POLICY) | {"version": 2, "expiresAt": "2026-11-24T00:00:00Z"}
        with_policy(office.target, json.dumps(policy).encode())
        office.target.host.now += timedelta(days=2)
        request = func.HttpRequest(
            method="GET", url="https://app", params={}, route_params={"importId": IMPORT}, body=b""
        )
        response = asyncio.run(http_api.get_import._function.get_user_function()(req=request))
        told.append(json.loads(response.get_body()))

    office.receive(bundle, look)
    assert told[0]["release"]["missing"] == ["POLICY_EXPIRED: version 2, expired at 2026-11-24T00:00:00Z"]


def test_turn_of_the_channel_is_kept_while_people_are_waited_for(office: Office) -> None:
    bundle = bundle_of()

    def look() -> None:
        turn = office.target.blobs.containers["work"][f"channels/{CHANNEL}/turn"]
        assert turn.content == IMPORT.encode()

    office.receive(bundle, look, lambda: office.post(office.sign(bundle, ADA, EVA)))
    assert office.rounds == []


def test_other_methods_of_a_release_are_refused() -> None:
    request = func.HttpRequest(method="GET", url="https://app", params={}, route_params={}, body=b"")
    response = asyncio.run(http_api.refuse_release_method._function.get_user_function()(req=request))
    assert (response.status_code, response.headers["Allow"]) == (405, "POST")


@pytest.mark.parametrize("is_given_up", [True, False])
def test_releases_of_an_import_that_was_called_off_are_counted_no_more(
    office: Office, is_given_up: object
) -> None:
    side, bundle = office.target.side, bundle_of()
    given_up = closing(outcome="failed", code=Code.SERVICE_UNEXPECTED.name)

    def end() -> None:
        if is_given_up:
            record_decision(side, given_up)
        else:
            stop(side.blobs, IMPORT)

    def both() -> None:
        office.post(office.sign(bundle, ADA, EVA))
        end()

    outcome = office.receive(bundle, both)
    assert outcome["code"] == Code.TRANSITION_REFUSED.name
    office.assert_nothing_promoted()


def test_policy_version_of_a_newer_tool_is_not_the_releasers_fault(
    office: Office, monkeypatch: pytest.MonkeyPatch
) -> None:
    def newer(*_: Any) -> None:
        raise UntrustedInputError(Code.NEWER_FORMAT, "trust-policy of version 2")

    def post() -> None:
        with monkeypatch.context() as patch:
            patch.setattr("function_app.storage.policies.follow", newer)
            office.post(office.sign(bundle, ADA))

    bundle = bundle_of()
    office.receive(bundle, post)
    ((status, answer),) = office.answers
    assert (status, answer["code"]) == (500, Code.NEWER_FORMAT.name)


def test_release_of_an_upload_that_is_held_leaves_nothing_behind(office: Office) -> None:
    target, bundle = office.target, bundle_of()
    raw = target.upload(bundle)
    target.blobs.upload("incoming", f"{TRANSFER_ID}/001", flip(bundle.blobs["001"], 7))
    assert target.run(raw)["code"] == Code.PART_CORRUPT.name
    before = target.blobs.names("work")
    assert office.post(office.sign(bundle, ADA))[0] == 200
    assert len(office.kept()) == 1
    assert target.blobs.names("work") == before
