"""``sign``: only what the policy accepts is released, by whoever may, for one registry, and told in words."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from airgap.envelope import Envelope
from airgap.errors import AirgapError, Code
from airgap.policy import TrustPolicy
from airgap.release import ReleasedBundle, count_releases
from airgap.verify import verify_bundle
from offline_mover.cli import main
from offline_mover.commands.sign import sign
from offline_mover.outcome import Outcome
from tests.bundles import AUDIENCE, Bundle, SigningKey, default_key, make_bundle, make_policy, new_key
from tests.offline_mover.conftest import Bench

OFFICER, OTHER_OFFICER = new_key(), new_key()
POLICY = make_policy([default_key()], release_keys=[OFFICER, OTHER_OFFICER])


def signed(
    bundle: Bundle, key: SigningKey = OFFICER, *, policy: bytes = POLICY, target: str | None = None
) -> tuple[bytes, Outcome]:
    return sign(
        bundle.envelope,
        policy=TrustPolicy.from_bytes(policy),
        signer=key.signer,
        target=target,
        now=datetime.now(UTC),
        saved_as=Path("release.dsse.json"),
    )


def refusal(bundle: Bundle, key: SigningKey = OFFICER, **more: Any) -> AirgapError:
    with pytest.raises(AirgapError) as caught:
        signed(bundle, key, **more)
    return caught.value


def test_release_counts_at_the_target_and_says_what_was_released() -> None:
    bundle = make_bundle()
    raw, outcome = signed(bundle)
    tally = count_releases(
        [raw, signed(bundle, OTHER_OFFICER)[0]],
        bundle=ReleasedBundle.of(bundle.manifest, bundle.manifest_sha256, target=AUDIENCE[0]),
        policy=TrustPolicy.from_bytes(POLICY),
        now=datetime.now(UTC),
    )
    assert tally.is_complete
    told = "\n".join(outcome.lines)
    for word in (
        "prod, number 1",
        bundle.transfer_id,
        "ada@contoso.com",
        "source 1 (source)",
        "team/app001:v1",
    ):
        assert word in told
    assert "officer 1, as officer" in outcome.verdict
    assert AUDIENCE[0] in outcome.verdict
    assert outcome.facts["release"]["target"] == AUDIENCE[0]


def test_key_of_no_role_signs_nothing() -> None:
    refused = refusal(make_bundle(), new_key())
    assert refused.code is Code.USAGE
    assert "(officer)" in refused.detail


APPROVER = new_key()


def with_approver(policy: bytes = POLICY) -> bytes:
    """A policy whose bundles a person must sign at the source, beside the source."""
    made = json.loads(policy)
    made["keys"].append({"holder": "ada", "publicKey": APPROVER.public_pem})
    roles = made["channels"]["prod"]["bundleRoles"]
    roles["approver"] = {"threshold": 1, "keyids": [APPROVER.keyid]}
    return json.dumps(made).encode()


def test_key_of_a_bundle_role_signs_the_manifest_that_waits_for_it() -> None:
    bundle = make_bundle()
    raw, outcome = signed(bundle, APPROVER, policy=with_approver())
    signature, own = Envelope.from_bytes(raw), Envelope.from_bytes(bundle.envelope)
    assert (signature.payload, [*signature.signatures]) == (own.payload, [APPROVER.keyid])
    whole = Envelope(payload=own.payload, signatures={**own.signatures, **signature.signatures})
    policy = TrustPolicy.from_bytes(with_approver())
    assert not verify_bundle(bundle.envelope, policy=policy, now=datetime.now(UTC)).is_accepted
    assert verify_bundle(whole.to_bytes(), policy=policy, now=datetime.now(UTC)).is_accepted
    assert "Signed by ada, as approver" in outcome.verdict
    assert f"/api/transfers/{bundle.transfer_id}/signatures" in str(outcome.next_step)
    assert "signed by source 1" in "\n".join(outcome.lines)


def test_bundle_that_still_awaits_a_signature_is_not_released() -> None:
    assert refusal(make_bundle(), policy=with_approver()).code is Code.THRESHOLD_NOT_MET


def test_manifest_that_nobody_of_a_bundle_role_signed_is_signed_by_nobody() -> None:
    bundle = make_bundle(keys=[OFFICER])
    assert refusal(bundle, APPROVER, policy=with_approver()).code is Code.THRESHOLD_NOT_MET


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"audience": ["elsewhere.azurecr.io"]}, Code.AUDIENCE_MISMATCH),
        ({"created_at": datetime.now(UTC).replace(microsecond=0) + timedelta(days=1)}, Code.NOT_YET_VALID),
    ],
    ids=["for another registry", "of the future"],
)
def test_manifest_that_the_target_would_refuse_is_not_signed(changes: dict[str, Any], code: Code) -> None:
    assert refusal(make_bundle(**changes), APPROVER, policy=with_approver()).code is code


def test_key_of_no_role_is_what_is_wrong_although_signatures_are_missing_too() -> None:
    refused = refusal(make_bundle(), new_key(), policy=make_policy([default_key(), new_key()]))
    assert refused.code is Code.USAGE
    assert "bundle roles (source), release roles (none)" in refused.detail


def test_channel_that_asks_nobody_is_told() -> None:
    refused = refusal(make_bundle(), policy=make_policy([default_key()]))
    assert (refused.code, "release roles (none)" in refused.detail) == (Code.USAGE, True)


@pytest.mark.parametrize(
    ("bundle", "code"),
    [
        (make_bundle(keys=[new_key()]), Code.SIGNER_UNKNOWN),
        (make_bundle(created_at=datetime.now(UTC) - timedelta(days=40)), Code.EXPIRED),
        (make_bundle(channel="another"), Code.CHANNEL_UNKNOWN),
    ],
    ids=["stranger", "expired", "channel"],
)
def test_bundle_that_the_policy_refuses_is_not_released(bundle: Bundle, code: Code) -> None:
    assert refusal(bundle).code is code


def test_revoked_officer_signs_nothing() -> None:
    policy = json.loads(POLICY)
    policy["revoked"] = [{"keyid": OFFICER.keyid, "from": "2020-01-01T00:00:00Z"}]
    assert refusal(make_bundle(), policy=json.dumps(policy).encode()).code is Code.KEY_REVOKED


def test_registry_must_be_named_where_there_are_several_and_be_one_of_them() -> None:
    several = ("a.azurecr.io", "b.azurecr.io", "c.azurecr.io")
    bundle = make_bundle(audience=several)
    policy = make_policy([default_key()], audience=several[:2], release_keys=[OFFICER])
    refused = refusal(bundle, policy=policy)
    assert (refused.code, refused.detail) == (Code.USAGE, "--target: one of a.azurecr.io, b.azurecr.io")
    assert refusal(bundle, policy=policy, target=several[2]).code is Code.AUDIENCE_MISMATCH
    _, outcome = signed(bundle, policy=policy, target=several[1])
    assert outcome.facts["release"]["target"] == several[1]


def test_many_artifacts_are_counted_for_people_and_listed_for_programs() -> None:
    bundle = make_bundle(contents=[bytes([number]) for number in range(60)])
    _, outcome = signed(bundle)
    assert outcome.lines[-1].strip() == "and 10 more: --json tells all"
    assert len(outcome.facts["artifacts"]) == 60


def run(bundle: Path, tmp_path: Path, *more: str, key: bytes = OFFICER.private_pem) -> int:
    (tmp_path / "policy.json").write_bytes(POLICY)
    (tmp_path / "officer.pem").write_bytes(key)
    words = ["sign", str(bundle), "--trust", str(tmp_path / "policy.json")]
    return main([*words, "--key", str(tmp_path / "officer.pem"), "--out", str(tmp_path / "out.json"), *more])


def test_volume_and_file_are_released_alike(
    loaded: Bench, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(loaded.volume, tmp_path) == 0
    assert json.loads((tmp_path / "out.json").read_bytes())["signatures"][0]["keyid"] == OFFICER.keyid
    told = capsys.readouterr().out
    assert loaded.bundle.manifest_sha256 in told
    assert "PRIVATE" not in told
    (tmp_path / "out.json").unlink()
    assert run(loaded.bag / "bundle-manifest.dsse.json", tmp_path, "--json") == 0
    result = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert result["release"]["holder"] == "officer 1"
    assert (tmp_path / "out.json").exists()


@pytest.mark.parametrize("key", [b"", b"no key", default_key().public_pem.encode()])
def test_what_is_no_private_key_is_a_usage_error_that_shows_nothing_of_it(
    key: bytes, loaded: Bench, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(loaded.volume, tmp_path, key=key) == Code.USAGE.exit_code
    told = capsys.readouterr().err
    assert "officer.pem" in told
    assert "no key" not in told
    assert not (tmp_path / "out.json").exists()


@pytest.mark.parametrize("name", ["officer.pem", "policy.json", "bundle.json"])
def test_release_is_written_over_no_key_policy_or_bundle(
    name: str, loaded: Bench, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bundle = tmp_path / "bundle.json"
    bundle.write_bytes(loaded.bundle.envelope)
    assert run(bundle, tmp_path) == 0
    before = (tmp_path / name).read_bytes()
    capsys.readouterr()
    assert run(bundle, tmp_path, "--out", str(tmp_path / name)) == Code.USAGE.exit_code
    assert (tmp_path / name).read_bytes() == before
    told = capsys.readouterr()
    assert told.out == ""
    refusal, step, command, _ = told.err.splitlines()
    assert refusal == f"USAGE: --out {tmp_path / name}: another file has that name; it stays as it is"
    assert step == "Next: Give another name, or move away what is there:"
    assert command.startswith(f"  offline-mover sign {bundle} --key {tmp_path / 'officer.pem'} --out FILE ")


def test_release_of_another_officer_or_bundle_is_not_replaced(loaded: Bench, tmp_path: Path) -> None:
    out = tmp_path / "out.json"
    assert run(loaded.volume, tmp_path, key=OTHER_OFFICER.private_pem) == 0
    other = make_bundle()
    for held in (out.read_bytes(), signed(other)[0]):
        out.write_bytes(held)
        assert run(loaded.volume, tmp_path) == Code.USAGE.exit_code
        assert out.read_bytes() == held


def test_release_that_the_same_officer_has_signed_before_is_replaced(loaded: Bench, tmp_path: Path) -> None:
    assert run(loaded.volume, tmp_path) == 0
    assert run(loaded.volume, tmp_path) == 0
