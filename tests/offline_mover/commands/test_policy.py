"""``policy`` as an officer and an operator type it: signed by two, carried on a stick, used by every verb."""

import json
import os
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from airgap.errors import Code, PolicyRefusal, ServiceError, UntrustedInputError
from airgap.fields import format_time
from airgap.override import override_name, verify_override
from airgap.policy import TrustPolicy
from airgap.policy_chain import Chain, version_name
from airgap.policy_words import changes, describe
from airgap.verify import verify_bundle
from offline_mover import cli
from offline_mover.commands.policy import PolicyContainer, policy_pull, policy_push, policy_show
from offline_mover.commands.policy_sign import policy_sign
from offline_mover.medium.policy_folder import PolicyFolder
from tests.airgap.test_override import with_overriders
from tests.bundles import SigningKey, default_key, make_bundle
from tests.offline_mover.conftest import Bench
from tests.offline_mover.memory_container import HeldBlob, MemoryContainer
from tests.policies import ADA, BOB, CLEO, DAN, policy_version, signed

V1, V2, V3 = (policy_version(number) for number in (1, 2, 3))
NOW = datetime.now(UTC)


class Desk:
    """A folder with a pinned policy, and another that is carried from place to place."""

    def __init__(self, folder: Path, pinned: bytes = V1) -> None:
        self.folder = folder
        self.trust = folder / "policy.json"
        self.trust.write_bytes(pinned)
        self.own = PolicyFolder.beside(self.trust)
        self.stick = folder / "stick"
        self.stick.mkdir()

    def file(self, name: str, content: bytes) -> Path:
        path = self.folder / name
        path.write_bytes(content)
        return path

    def key(self, key: SigningKey) -> Path:
        return self.file(f"{key.keyid[:8]}.pem", key.private_pem)

    def run(self, *words: object) -> int:
        return cli.main(["policy", *map(str, words), "--trust", str(self.trust)])

    def sign(self, policy: bytes, key: SigningKey) -> int:
        return self.run("sign", self.file("next.json", policy), self.stick, "--key", self.key(key))

    @property
    def chain(self) -> Chain:
        return Chain(links=(TrustPolicy.from_bytes(self.trust.read_bytes()),))


@pytest.fixture
def desk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Desk:
    for name in os.environ:
        if name.startswith("OFFLINE_MOVER_"):
            monkeypatch.delenv(name)
    return Desk(tmp_path)


def container_of(versions: dict[int, bytes]) -> MemoryContainer:
    container = MemoryContainer()
    container.blobs = {version_name(number): HeldBlob(content=raw) for number, raw in versions.items()}
    return container


def test_version_is_signed_by_two_carried_and_in_force(
    desk: Desk, capsys: pytest.CaptureFixture[str]
) -> None:
    assert desk.sign(V2, ADA) == 0
    assert "not enough yet: THRESHOLD_NOT_MET: role officer: 1 of 2" in capsys.readouterr().out
    assert desk.run("pull", desk.stick) == Code.THRESHOLD_NOT_MET.exit_code
    assert desk.sign(V2, BOB) == 0
    told = capsys.readouterr().out
    assert "which is enough" in told
    assert told.splitlines()[-1] == f"  offline-mover policy pull {desk.stick} --trust {desk.trust}"
    assert desk.run("pull", desk.stick) == 0
    assert desk.run("show") == 0
    told = capsys.readouterr().out
    assert "version 2 is in force, pinned is version 1" in told
    assert "the next version: 2 of officer signs: Ada" in told


def test_signatures_of_two_officers_add_up_in_any_order(desk: Desk) -> None:
    for key in (CLEO, ADA, ADA):
        desk.sign(V2, key)
    raw = PolicyFolder.below(desk.stick).find(2)
    assert raw is not None
    assert sorted(one["keyid"] for one in json.loads(raw)["signatures"]) == sorted([CLEO.keyid, ADA.keyid])
    assert desk.run("pull", desk.stick) == 0


def test_officer_signs_no_other_policy_than_his_own_file(desk: Desk) -> None:
    desk.sign(policy_version(2, threshold=1), BOB)  # somebody else's, under the same name
    before = PolicyFolder.below(desk.stick).find(2)
    assert desk.sign(V2, ADA) == Code.VOLUME_CONFLICT.exit_code
    assert PolicyFolder.below(desk.stick).find(2) == before


@pytest.mark.parametrize("key", [DAN, default_key()], ids=["of nobody", "of a bundle role"])
def test_key_of_no_officer_signs_no_policy(
    desk: Desk, key: SigningKey, capsys: pytest.CaptureFixture[str]
) -> None:
    assert desk.sign(V2, key) == Code.USAGE.exit_code
    told = capsys.readouterr().err
    assert f"{key.keyid} is in no policy role of version 1 or 2" in told
    assert "who may sign: Ada, Bob, Cleo" in told
    assert not (desk.stick / "policy").exists()


def test_revoked_officer_signs_no_policy_and_new_officer_does(
    desk: Desk, capsys: pytest.CaptureFixture[str]
) -> None:
    def revoke(policy: dict[str, Any]) -> None:
        policy["revoked"] = [{"keyid": ADA.keyid, "from": "2020-01-01T00:00:00Z"}]

    desk.trust.write_bytes(policy_version(1, change=revoke))
    officers = {"Bob": BOB, "Cleo": CLEO, "Dan": DAN}
    following = policy_version(2, officers=officers)
    assert desk.sign(following, ADA) == Code.USAGE.exit_code
    assert desk.sign(following, DAN) == 0
    assert "not enough yet: THRESHOLD_NOT_MET: nobody yet who counts for the" in capsys.readouterr().out
    assert [desk.sign(following, key) for key in (BOB, CLEO)] == [0, 0]
    assert "signed by 3, which is enough" in capsys.readouterr().out


def test_officer_with_two_keys_is_one(desk: Desk, capsys: pytest.CaptureFixture[str]) -> None:
    officers = {"Ada": ADA, "Ada, again": DAN, "Bob": BOB}
    desk.trust.write_bytes(policy_version(1, officers=officers))
    for key in (ADA, DAN):
        assert desk.sign(policy_version(2, officers=officers), key) == 0
    assert "signed by 1; not enough yet: THRESHOLD_NOT_MET" in capsys.readouterr().out.splitlines()[-2]


def test_signature_that_somebody_forged_is_not_left_to_the_next_officer(desk: Desk) -> None:
    assert desk.sign(V2, ADA) == 0
    folder = PolicyFolder.below(desk.stick)
    envelope = json.loads(folder.find(2) or b"")
    envelope["signatures"].append({"keyid": CLEO.keyid, "sig": envelope["signatures"][0]["sig"]})
    forged = json.dumps(envelope).encode()
    folder.keep(2, forged)
    assert desk.sign(V2, BOB) == Code.SIGNATURE_INVALID.exit_code
    assert folder.find(2) == forged


@pytest.mark.parametrize(
    ("there", "words"),
    [
        (b"garbage", "it is no policy version"),
        (signed(V1, V2, DAN), "nobody signed it whom the version before names"),
        (signed(V1, V2, ADA), "offline-mover policy sign"),
    ],
    ids=["garbage", "a stranger's", "half signed"],
)
def test_version_that_does_not_follow_is_named_with_a_step_of_its_own(
    desk: Desk, there: bytes, words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    PolicyFolder.below(desk.stick).keep(2, there)
    assert desk.run("pull", desk.stick) != 0
    told = capsys.readouterr().out
    assert f"{desk.stick / 'policy'}: 00000002.dsse.json" in told
    assert words in told
    desk.own.keep(2, there)
    assert desk.run("show") != 0
    told = capsys.readouterr().out
    assert f"{desk.own.path}: 00000002.dsse.json" in told
    assert words in told
    assert "bundle" not in told.splitlines()[-1]


def test_what_cannot_be_signed_beside_is_named_with_a_step_of_its_own(
    desk: Desk, capsys: pytest.CaptureFixture[str]
) -> None:
    path = desk.stick / "policy" / version_name(2)
    PolicyFolder.below(desk.stick).keep(2, b"garbage")
    assert desk.sign(V2, ADA) == Code.ENVELOPE_MALFORMED.exit_code
    told = capsys.readouterr().err
    assert f"{path}: " in told
    assert "it is no policy version" in told
    path.write_bytes(signed(V1, policy_version(2, threshold=1), BOB))
    assert desk.sign(V2, ADA) == Code.VOLUME_CONFLICT.exit_code
    told = capsys.readouterr().err
    assert f"{path}: others have signed something else" in told
    assert "Compare your file with theirs" in told


def test_signing_tells_of_a_later_version_that_is_not_used(
    desk: Desk, capsys: pytest.CaptureFixture[str]
) -> None:
    desk.own.keep(2, b"garbage")
    assert desk.sign(V2, ADA) == 0
    assert "trust policy: version 2 is not used: ENVELOPE_MALFORMED" in capsys.readouterr().err


def test_file_in_place_of_the_folder_of_versions_is_named(
    desk: Desk, loaded: Bench, capsys: pytest.CaptureFixture[str]
) -> None:
    desk.trust.write_bytes(loaded.bundle.policy_json)
    desk.own.path.write_bytes(b"")
    verify = ["verify", str(loaded.volume), "--trust", str(desk.trust)]
    assert cli.main(verify) == Code.MEDIA_UNREADABLE.exit_code
    told = capsys.readouterr().err
    assert f"{desk.own.path}: a file, and must be a folder" in told
    assert "Move that file away" in told


def test_policy_that_nobody_could_follow_is_not_signed(desk: Desk) -> None:
    orphan = policy_version(2, change=lambda policy: policy.update(policyRoles={}))
    assert desk.sign(orphan, ADA) == Code.POLICY_MALFORMED.exit_code
    assert not (desk.stick / "policy").exists()


def test_officer_signs_no_policy_that_skips_a_number(desk: Desk) -> None:
    assert desk.sign(V3, ADA) == Code.POLICY_NOT_NEXT.exit_code
    assert not (desk.stick / "policy").exists()


@pytest.mark.parametrize("verb", ["sign", "permit"])
def test_key_may_be_in_a_vault_and_then_only_in_one_of_azures(
    verb: str, desk: Desk, capsys: pytest.CaptureFixture[str]
) -> None:
    more = ["--lift", "EXPIRED", "--reason", "flood", "--until", "2099-01-31T08:00:00Z"]
    key = ["--key", "https://evil.example/keys/ada", *(more if verb == "permit" else [])]
    assert desk.run(verb, desk.file("next.json", V2), desk.stick, *key) == Code.USAGE.exit_code
    assert "evil.example is no vault" in capsys.readouterr().err


def test_signing_without_a_key_is_told(desk: Desk, capsys: pytest.CaptureFixture[str]) -> None:
    assert desk.run("sign", desk.file("next.json", V2), desk.stick) == Code.USAGE.exit_code
    assert "--key" in capsys.readouterr().err


@pytest.mark.parametrize("view", ["pull", "push"])
def test_address_of_no_container_is_told_by_the_name_of_its_argument(
    desk: Desk, view: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert desk.run(view, "https://acct.blob.core.windows.net/") == Code.USAGE.exit_code
    assert "PLACE does not name one container" in capsys.readouterr().err


def test_private_key_is_in_no_message(desk: Desk, capsys: pytest.CaptureFixture[str]) -> None:
    key = desk.file("broken.pem", ADA.private_pem[:-40])
    assert desk.run("sign", desk.file("next.json", V2), desk.stick, "--key", key) == 2
    said = capsys.readouterr()
    assert ADA.private_pem.decode().splitlines()[1] not in said.out + said.err


def test_every_verb_uses_the_last_version(
    desk: Desk, loaded: Bench, capsys: pytest.CaptureFixture[str]
) -> None:
    def revoke(policy: dict[str, Any]) -> None:
        policy["revoked"] = [{"keyid": default_key().keyid, "from": "2020-01-01T00:00:00Z"}]

    base = loaded.bundle.policy_json
    pinned = policy_version(1, base=base)
    desk.trust.write_bytes(pinned)
    verify = ["verify", str(loaded.volume), "--trust", str(desk.trust)]
    assert cli.main(verify) == 0
    revoking = policy_version(2, base=base, change=revoke)
    desk.own.keep(2, signed(pinned, revoking, ADA))
    assert cli.main(verify) == 0
    assert "version 2 is not used: THRESHOLD_NOT_MET" in capsys.readouterr().err
    desk.own.keep(2, signed(pinned, revoking, ADA, BOB))
    assert cli.main(verify) == Code.KEY_REVOKED.exit_code


def test_versions_on_a_volume_disturb_no_bundle(loaded: Bench, desk: Desk) -> None:
    PolicyFolder.below(loaded.volume).keep(2, signed(V1, V2, ADA, BOB))
    desk.trust.write_bytes(loaded.bundle.policy_json)
    for words in (["verify", str(loaded.volume)], ["list", str(loaded.volume)]):
        assert cli.main([*words, "--trust", str(desk.trust)]) == 0


def test_link_on_a_stick_in_place_of_a_version_is_not_followed(desk: Desk) -> None:
    secret = desk.file("elsewhere", signed(V1, V2, ADA, BOB))
    (desk.stick / "policy").mkdir()
    (desk.stick / "policy" / version_name(2)).symlink_to(secret)
    assert desk.run("pull", desk.stick) == Code.UNSAFE_NAME.exit_code
    assert desk.own.find(2) is None


def test_link_on_a_stick_in_place_of_the_folder_is_not_followed(desk: Desk) -> None:
    elsewhere = desk.folder / "elsewhere"
    elsewhere.mkdir()
    (desk.stick / "policy").symlink_to(elsewhere)
    desk.own.keep(2, signed(V1, V2, ADA, BOB))
    assert desk.run("push", desk.stick) == Code.UNSAFE_NAME.exit_code
    assert list(elsewhere.iterdir()) == []


def test_pull_takes_from_a_container_what_follows_and_tells_what_changed(desk: Desk) -> None:
    wider = policy_version(3, change=lambda p: p["channels"]["prod"].update(repositories=["team/**"]))
    container = container_of({2: signed(V1, V2, ADA, BOB), 3: signed(V2, wider, ADA, CLEO)})
    outcome = policy_pull(PolicyContainer(container), desk.chain, desk.own)
    assert (outcome.code, outcome.counts["taken"], outcome.facts["policyVersion"]) == (None, 2, 3)
    assert "- channel prod, carries: **" in outcome.lines
    assert "+ channel prod, carries: team/**" in outcome.lines
    again = policy_pull(PolicyContainer(container), chain_with(desk, V2, wider), desk.own)
    assert again.counts["taken"] == 0


def chain_with(desk: Desk, *policies: bytes) -> Chain:
    return Chain(links=(*desk.chain.links, *(TrustPolicy.from_bytes(policy) for policy in policies)))


@pytest.mark.parametrize(
    "garbage",
    [b"", b"{}", signed(V1, V2, DAN), b" " * (512 * 1024)],
    ids=["nothing", "no envelope", "a stranger's", "too large"],
)
def test_pull_keeps_nothing_that_does_not_follow(desk: Desk, garbage: bytes) -> None:
    outcome = policy_pull(PolicyContainer(container_of({2: garbage})), desk.chain, desk.own)
    assert outcome.code is not None
    assert outcome.findings[0].damage.name == "00000002.dsse.json"
    assert not desk.own.path.exists()


def test_pull_from_a_storage_that_is_away_is_no_empty_one(desk: Desk) -> None:
    container = MemoryContainer()

    def away(_method: str, name: str) -> None:
        raise ServiceError(Code.SERVICE_UNREACHABLE, name)

    container.before = away
    with pytest.raises(ServiceError):
        policy_pull(PolicyContainer(container), desk.chain, desk.own)


def test_push_brings_what_is_missing_and_replaces_nothing(desk: Desk) -> None:
    desk.own.keep(2, signed(V1, V2, ADA, BOB))
    desk.own.keep(3, signed(V2, V3, ADA, BOB))
    container = MemoryContainer()
    chain = chain_with(desk, V2, V3)
    assert policy_push(PolicyContainer(container), chain, desk.own).counts["taken"] == 2
    assert sorted(container.blobs) == ["00000002.dsse.json", "00000003.dsse.json"]
    assert policy_push(PolicyContainer(container), chain, desk.own).counts["taken"] == 0
    container.blobs["00000002.dsse.json"] = HeldBlob(content=signed(V1, V2, BOB, CLEO))
    assert policy_push(PolicyContainer(container), chain, desk.own).code is None  # signed by others, the same
    fork = signed(V1, policy_version(2, threshold=1), ADA, BOB)
    for other in (fork, b"garbage"):
        container.blobs = {"00000002.dsse.json": HeldBlob(content=other)}
        outcome = policy_push(PolicyContainer(container), chain, desk.own)
        assert (outcome.code, len(container.blobs)) == (Code.POLICY_FORKED, 1)
        assert container.blobs["00000002.dsse.json"].content == other


def test_version_that_was_exchanged_beside_the_pinned_policy_is_not_pushed(desk: Desk) -> None:
    container = MemoryContainer()
    for other in (None, signed(V1, policy_version(2, threshold=1), ADA, BOB)):
        if other is not None:
            desk.own.keep(2, other)
        with pytest.raises(UntrustedInputError, match="BLOB_CHANGED"):
            policy_push(PolicyContainer(container), chain_with(desk, V2), desk.own)
    assert container.blobs == {}


def test_show_tells_an_expired_policy_by_its_code(desk: Desk) -> None:
    expired = policy_version(1, change=lambda p: p.update(expiresAt="2020-01-01T00:00:00Z"))
    chain = Chain(links=(TrustPolicy.from_bytes(expired),))
    assert policy_show(chain, now=NOW).code is Code.POLICY_EXPIRED
    assert policy_show(desk.chain, now=NOW).code is None


def test_show_says_who_may_sign_what() -> None:
    def full(policy: dict[str, Any]) -> None:
        keyid = DAN.keyid
        policy["keys"].append({"holder": "Dan", "publicKey": DAN.public_pem})
        policy["revoked"] = [{"keyid": keyid, "from": "2030-01-01T00:00:00Z"}]
        rules = policy["channels"]["prod"]
        rules["releaseRoles"] = {"keeper": {"threshold": 1, "keyids": [keyid]}}
        rules["bundleRoles"]["source"]["requiredAlgorithms"] = ["ecdsa-sha2-nistp256"]

    told = describe(TrustPolicy.from_bytes(policy_version(1, change=full)))
    key = default_key().keyid
    assert "channel prod, for: target.azurecr.io" in told
    assert (
        f"channel prod, bundles: 1 of source signs: source 1 ({key[:8]}), each with ecdsa-sha2-nistp256"
        in told
    )
    assert f"channel prod, releases: 1 of keeper signs: Dan ({DAN.keyid[:8]})" in told
    assert f"key of Dan: ecdsa-sha2-nistp256 {DAN.keyid}, revoked from 2030-01-01T00:00:00Z on" in told
    assert "channel prod, order any, gaps record, jumps of 1000" in told
    assert "channel prod, at most 7776000 s old, clocks 300 s apart" in told
    assert told[0] == "good until 2100-01-01T00:00:00Z"


def test_policy_that_is_pinned_by_hand_says_so(loaded: Bench) -> None:
    assert "the next version: nobody may sign it, it is pinned by hand" in describe(loaded.bundle.policy)


def late_bundle(desk: Desk, threshold: int = 2) -> Path:
    """The manifest of a bundle that has expired, under a policy whose officers may lift that."""
    bundle = make_bundle(created_at=NOW - timedelta(days=5), lifetime=timedelta(days=1))
    desk.trust.write_bytes(with_overriders(bundle.policy_json, threshold))
    return desk.file("bundle-manifest.dsse.json", bundle.envelope)


def permit(desk: Desk, bundle: Path, key: SigningKey, *more: str, lift: str = "EXPIRED") -> int:
    words = ("--lift", lift, "--reason", "flood", "--until", "2090-01-31T08:00:00Z", "--key", desk.key(key))
    return desk.run("permit", bundle, desk.stick, *words, *more)


def test_override_is_signed_by_two_and_is_what_the_target_takes(
    desk: Desk, capsys: pytest.CaptureFixture[str]
) -> None:
    bundle = late_bundle(desk)
    assert permit(desk, bundle, ADA) == 0
    assert "not enough yet: THRESHOLD_NOT_MET" in capsys.readouterr().out
    assert permit(desk, bundle, BOB) == 0
    assert "lifting EXPIRED at target.azurecr.io; signed by 2, which is enough" in capsys.readouterr().out
    policy = TrustPolicy.from_bytes(desk.trust.read_bytes())
    sha256 = str(verify_bundle(bundle.read_bytes(), policy=policy, now=NOW).manifest_sha256)
    raw = (desk.stick / "policy" / override_name(sha256)).read_bytes()
    _, use = verify_override(
        raw, manifest_sha256=sha256, channel="prod", target="target.azurecr.io", policy=policy, now=NOW
    )
    assert use.lifts == ("EXPIRED",)


@pytest.mark.parametrize("key", [DAN, default_key()], ids=["of nobody", "of a bundle role"])
def test_key_of_no_override_role_permits_nothing(
    desk: Desk, key: SigningKey, capsys: pytest.CaptureFixture[str]
) -> None:
    assert permit(desk, late_bundle(desk), key) == Code.USAGE.exit_code
    told = capsys.readouterr().err
    assert f"{key.keyid} is in no override role of the channel prod" in told
    assert "who may sign: Ada, Bob, Cleo" in told
    assert not (desk.stick / "policy").exists()


@pytest.mark.parametrize("until", ["2020-01-01T00:00:00Z", "the time now"])
def test_override_that_would_be_over_is_not_signed(
    desk: Desk, until: str, capsys: pytest.CaptureFixture[str]
) -> None:
    if until == "the time now":  # not in the test's name, which each process must know by itself
        until = format_time(NOW)
    assert permit(desk, late_bundle(desk), ADA, "--until", until) == Code.USAGE.exit_code
    assert f"--until {until}: it is " in capsys.readouterr().err
    assert not (desk.stick / "policy").exists()


def test_override_of_other_words_is_not_mixed_with_it(desk: Desk, capsys: pytest.CaptureFixture[str]) -> None:
    bundle = late_bundle(desk)
    assert permit(desk, bundle, ADA, lift="EXPIRED,TOO_OLD") == 0
    capsys.readouterr()
    assert permit(desk, bundle, BOB) == Code.VOLUME_CONFLICT.exit_code
    told = capsys.readouterr().err
    assert f"{desk.stick / 'policy' / 'overrides'}" in told
    assert "Sign with the very words of the others" in told
    for path in (desk.stick / "policy" / "overrides").iterdir():
        path.write_bytes(b"garbage")
    assert permit(desk, bundle, BOB) == Code.ENVELOPE_MALFORMED.exit_code
    assert "it is no override" in capsys.readouterr().err


def test_nothing_is_permitted_that_the_override_would_not_let_pass(desk: Desk) -> None:
    bundle = late_bundle(desk)
    assert permit(desk, bundle, ADA, lift="TOO_OLD") == Code.EXPIRED.exit_code
    assert permit(desk, bundle, ADA, lift="SIGNATURE_INVALID") == Code.USAGE.exit_code
    assert permit(desk, bundle, ADA, "--target", "other.azurecr.io") == Code.USAGE.exit_code
    assert permit(desk, bundle, ADA, "--until", "tomorrow") == Code.USAGE.exit_code
    assert desk.run("permit", bundle, desk.stick, "--lift", "EXPIRED") == Code.USAGE.exit_code
    assert not (desk.stick / "policy").exists()


def test_changes_are_those_of_the_rules() -> None:
    before, after = TrustPolicy.from_bytes(V1), TrustPolicy.from_bytes(policy_version(2, threshold=3))
    assert changes(before, before) == ()
    gone, come = changes(before, after)
    assert (gone[:27], come[:27]) == ("- the next version: 2 of of", "+ the next version: 3 of of")


def test_policy_of_the_same_officers_is_signed_only_one_further(desk: Desk) -> None:
    before = TrustPolicy.from_bytes(V1)
    with pytest.raises(PolicyRefusal, match="POLICY_NOT_NEXT"):
        policy_sign(before, before, [ADA.signer], PolicyFolder.below(desk.stick))
