"""``list``: what is at a storage or on volumes, judged by the trust policy, without reading parts."""

from __future__ import annotations

import shutil
from datetime import UTC, datetime, timedelta

import pytest

from airgap.envelope import MAX_ENVELOPE_BYTES
from airgap.errors import Code, MediaError, ServiceError
from airgap.manifest import ENVELOPE_NAME
from airgap.policy import TrustPolicy
from offline_mover.amounts import size
from offline_mover.commands import list_transfers as module
from offline_mover.commands.list_transfers import list_carried, list_stored
from offline_mover.outcome import Outcome
from tests.bundles import default_key, make_bundle, make_policy, new_key
from tests.offline_mover.conftest import Bench
from tests.offline_mover.memory_container import HeldBlob, MemoryContainer

POLICY = TrustPolicy.from_bytes(make_policy([default_key()]))
URL = "https://acct.blob.core.windows.net/transfer"


def stored(container: MemoryContainer, *, later: timedelta = timedelta()) -> Outcome:
    return list_stored(container, URL, policy=POLICY, now=datetime.now(UTC) + later)


def test_each_transfer_is_told_with_size_state_and_expiry() -> None:
    bundle = make_bundle(transfer_id="ready000000")
    container = MemoryContainer.holding(bundle)
    stranger = make_bundle(transfer_id="foreign0000", keys=[new_key()])
    container.blobs[f"foreign0000/{ENVELOPE_NAME}"] = HeldBlob(content=stranger.envelope)
    container.blobs["begun0000000/001"] = HeldBlob(content=b"x")
    container.blobs["custody/begun0000000/log.jsonl"] = HeldBlob(content=b"x")
    container.blobs["../x/y"] = HeldBlob(content=b"x")
    outcome = stored(container)
    assert outcome.code is None
    assert outcome.verdict == f"3 transfers at {URL}: 1 ready, 1 refused, 1 unfinished"
    unfinished, refused, ready = outcome.lines
    assert unfinished == "begun0000000: no bundle manifest yet, its export or push is not finished"
    assert refused.startswith("foreign0000: refused, SIGNER_UNKNOWN")
    share = f"{size(bundle.manifest.size_bytes)} in 4 parts"
    for told in ("channel prod no. 1", share, "for target.azurecr.io", "days left)"):
        assert told in ready
    listed = {one["transferId"]: one for one in outcome.facts["transferList"]}
    assert listed["ready000000"]["bytes"] == bundle.manifest.size_bytes
    assert listed["ready000000"]["manifestDigest"] == f"sha256:{bundle.manifest_sha256}"
    assert (listed["foreign0000"]["refusal"], listed["foreign0000"]["channel"]) == ("SIGNER_UNKNOWN", None)
    assert container.count("read_range") == 0


def test_one_of_several_is_chosen_by_a_command_that_can_be_pasted(loaded: Bench) -> None:
    container = MemoryContainer.holding(make_bundle(transfer_id="ready000000"))
    more = MemoryContainer.holding(make_bundle(transfer_id="ready000001"))
    container.blobs |= more.blobs
    step = stored(container).next_command
    assert step is not None
    assert (step.verb, step.words) == ("plan", {"source": (f"{URL}/ID",)})
    other = loaded.volume / "other000000"
    other.mkdir()
    (other / ENVELOPE_NAME).write_bytes(make_bundle(transfer_id="other000000").envelope)
    outcome = list_carried([loaded.volume], policy=loaded.bundle.policy, now=datetime.now(UTC))
    step = outcome.next_command
    assert step is not None
    assert (step.verb, step.words) == ("verify", {"volumes": (str(loaded.volume),)})
    assert step.options == {"transfer": "ID"}


def test_where_nothing_is_ready_no_command_is_named() -> None:
    container = MemoryContainer()
    container.blobs["begun0000000/001"] = HeldBlob(content=b"x")
    outcome = stored(container)
    assert (outcome.next_command, outcome.next_step) == (None, "Nothing here is ready: each line says why.")


def test_expired_bundle_is_told_as_such() -> None:
    container = MemoryContainer.holding(make_bundle())
    outcome = stored(container, later=timedelta(days=4000))
    assert outcome.counts["refused"] == 1
    assert "EXPIRED" in outcome.lines[0]
    assert "(expired)" in outcome.lines[0]


@pytest.mark.parametrize(
    ("content", "code"),
    [(b"{}", "ENVELOPE_MALFORMED"), (bytes(MAX_ENVELOPE_BYTES + 1), "TOO_LARGE")],
    ids=["malformed", "too large"],
)
def test_what_is_no_bundle_manifest_hides_no_other(content: bytes, code: str) -> None:
    container = MemoryContainer.holding(make_bundle())
    container.blobs[f"aaaaaaaaaaa/{ENVELOPE_NAME}"] = HeldBlob(content=content)
    outcome = stored(container)
    assert (outcome.counts["ready"], outcome.counts["refused"]) == (1, 1)
    assert outcome.facts["transferList"][0]["refusal"] == code


def test_manifest_under_the_id_of_another_transfer_is_refused() -> None:
    bundle = make_bundle()
    container = MemoryContainer.holding(bundle)
    container.blobs[f"aaaaaaaaaaa/{ENVELOPE_NAME}"] = HeldBlob(content=bundle.envelope)
    assert stored(container).facts["transferList"][0]["refusal"] == "BLOB_MISMATCH"


def test_listing_is_bounded_and_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_NAMES", 5)
    container = MemoryContainer()
    for number in range(9):
        container.blobs[f"transfer{number:03d}/001"] = HeldBlob(content=b"x")
    outcome = stored(container)
    assert outcome.counts["transfers"] == 5
    assert outcome.verdict.endswith("there is more, which was not looked at")
    assert outcome.facts["isCut"] is True


def test_nothing_there_is_told() -> None:
    with pytest.raises(ServiceError) as caught:
        stored(MemoryContainer())
    assert caught.value.code is Code.NOT_FOUND


def test_volumes_tell_what_is_on_them(loaded: Bench) -> None:
    outcome = list_carried([loaded.volume], policy=loaded.bundle.policy, now=datetime.now(UTC))
    (line,) = outcome.lines
    assert "volume 1 of 1" in line
    (listed,) = outcome.facts["transferList"]
    assert (listed["state"], listed["bytesHere"]) == ("ready", loaded.bundle.manifest.size_bytes)
    assert outcome.next_command is not None
    assert outcome.next_command.verb == "verify"
    other = loaded.volume.with_name("usb2")
    shutil.copytree(loaded.volume, other)
    both = list_carried([loaded.volume, other], policy=loaded.bundle.policy, now=datetime.now(UTC))
    assert both.verdict == f"1 transfer at {loaded.volume}, {other}: 1 ready"
    assert [line.split(": ")[0] for line in both.lines] == [str(loaded.volume), str(other)]
    assert both.next_command is not None
    assert both.next_command.words == {"volumes": (str(loaded.volume), str(other))}
    (loaded.bag / ENVELOPE_NAME).write_bytes(b"{}")
    outcome = list_carried([loaded.volume], policy=loaded.bundle.policy, now=datetime.now(UTC))
    assert outcome.counts == {"transfers": 1, "ready": 0, "refused": 1, "unfinished": 0}
    shutil.rmtree(loaded.bag)
    with pytest.raises(MediaError) as caught:
        list_carried([loaded.volume], policy=loaded.bundle.policy, now=datetime.now(UTC))
    assert caught.value.code is Code.VOLUME_EMPTY
