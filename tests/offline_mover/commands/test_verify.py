from __future__ import annotations

import json
import os
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from airgap.envelope import MAX_ENVELOPE_BYTES
from airgap.errors import AirgapError, Code
from airgap.manifest import ENVELOPE_NAME
from tests.bundles import make_bundle, make_policy, new_key
from tests.offline_mover.conftest import Bench, flip

_FIRST, _SHORT, _OTHER = "001/00000001.part", "001/00000003.part", "002/00000001.part"


def findings(bench: Bench) -> list[tuple[str, str]]:
    return [(damage.code.name, damage.name) for damage in bench.verify().damages]


def refusal(bench: Bench) -> Code:
    with pytest.raises(AirgapError) as caught:
        bench.verify()
    return caught.value.code


def test_untouched_volume_is_accepted(loaded: Bench) -> None:
    outcome = loaded.verify()
    assert (outcome.code, outcome.damages, outcome.exit_code) == (None, (), 0)
    assert outcome.counts["parts"] == 4
    assert outcome.signers[0].keyid == loaded.bundle.keys[0].keyid


@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_any_flipped_byte_names_its_part(loaded: Bench, data: st.DataObject) -> None:
    part = data.draw(st.sampled_from(loaded.bundle.parts))
    offset = data.draw(st.integers(0, part.size_bytes - 1))
    flip(loaded.part(part.name), offset)
    assert findings(loaded) == [("PART_CORRUPT", part.name)]
    flip(loaded.part(part.name), offset)


def test_damage_tells_where_in_the_blob_it_is(loaded: Bench) -> None:
    flip(loaded.part("001/00000002.part"))
    (damage,) = loaded.verify().damages
    assert (damage.offset_bytes, damage.size_bytes) == (4194304, 4194304)


def test_all_damage_is_listed_in_one_pass_and_the_gravest_decides(loaded: Bench) -> None:
    loaded.part(_FIRST).unlink()
    os.truncate(loaded.part("001/00000002.part"), 100)
    with loaded.part(_SHORT).open("ab") as file:
        file.write(b"x")
    flip(loaded.part(_OTHER))
    (loaded.bag / "data" / "payload.exe").write_bytes(b"MZ")
    (loaded.bag / "bagit.txt").unlink()
    outcome = loaded.verify()
    assert {(damage.code.name, damage.name) for damage in outcome.damages} == {
        ("PART_MISSING", _FIRST),
        ("PART_TRUNCATED", "001/00000002.part"),
        ("PART_TRUNCATED", _SHORT),
        ("PART_CORRUPT", _OTHER),
        ("UNDECLARED_FILE", "data/payload.exe"),
        ("BAG_MALFORMED", "bagit.txt"),
    }
    assert outcome.exit_code == Code.PART_MISSING.exit_code
    assert outcome.next_step.startswith("Take recarry.json to the source")


def test_swapped_parts_are_both_named(loaded: Bench) -> None:
    first, second = loaded.part(_FIRST), loaded.part("001/00000002.part")
    spare = first.with_suffix(".spare")
    first.rename(spare)
    second.rename(first)
    spare.rename(second)
    assert findings(loaded) == [("PART_CORRUPT", _FIRST), ("PART_CORRUPT", "001/00000002.part")]


def test_link_in_place_of_a_part_is_not_followed(loaded: Bench, tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    loaded.part(_FIRST).rename(elsewhere)  # right content, wrong place
    loaded.part(_FIRST).symlink_to(elsewhere)
    assert findings(loaded) == [("PART_MISSING", _FIRST), ("UNSAFE_NAME", f"data/{_FIRST}")]


def test_link_in_place_of_a_folder_is_not_followed(loaded: Bench, tmp_path: Path) -> None:
    (loaded.bag / "data" / "002").rename(tmp_path / "002")
    (loaded.bag / "data" / "002").symlink_to(tmp_path / "002")
    assert findings(loaded) == [("PART_MISSING", _OTHER), ("UNSAFE_NAME", "data/002")]


def test_link_with_the_name_of_litter_is_still_a_link(loaded: Bench) -> None:
    (loaded.bag / ".DS_Store").symlink_to("/etc/passwd")
    assert findings(loaded) == [("UNSAFE_NAME", ".DS_Store")]


def test_pipe_in_place_of_a_part_does_not_hang(loaded: Bench) -> None:
    loaded.part(_FIRST).unlink()
    os.mkfifo(loaded.part(_FIRST))
    assert findings(loaded) == [("PART_MISSING", _FIRST), ("UNSAFE_NAME", f"data/{_FIRST}")]


def test_name_that_would_write_to_the_terminal_is_escaped(loaded: Bench) -> None:
    (loaded.bag / "data" / "a\x1b[2Jb\n").write_bytes(b"")
    assert findings(loaded) == [("UNSAFE_NAME", "data/a\\x1b[2Jb\\n")]


def test_name_that_is_not_utf8_is_escaped(loaded: Bench) -> None:
    Path(os.fsdecode(os.fsencode(loaded.bag) + b"/\xff\xfe")).write_bytes(b"")
    ((code, name),) = findings(loaded)
    assert code == "UNSAFE_NAME"
    assert name.isprintable()


@pytest.mark.parametrize(
    "litter",
    [
        *("System Volume Information", ".Trashes", ".Spotlight-V100", ".fseventsd", "$RECYCLE.BIN"),
        *(".DS_Store", "._00000001.part", "Thumbs.db", "desktop.ini"),
    ],
)
def test_litter_of_operating_systems_is_tolerated(loaded: Bench, litter: str) -> None:
    for folder in (loaded.bag, loaded.bag / "data", loaded.bag / "data" / "001"):
        (folder / litter).mkdir()
        (folder / litter / "anything").write_bytes(b"x")
    assert findings(loaded) == []


def test_litter_on_the_volume_is_no_bag(loaded: Bench) -> None:
    (loaded.volume / "lost0found").mkdir()
    (loaded.volume / "readme.txt").write_text("hello")
    assert loaded.verify().code is None


@pytest.mark.parametrize(
    "name", ["bagit.txt", "bag-info.txt", "manifest-sha256.txt", "tagmanifest-sha256.txt"]
)
@pytest.mark.parametrize(
    "harm",
    [
        pytest.param(lambda path: path.unlink(), id="missing"),
        pytest.param(flip, id="flipped"),
        pytest.param(lambda path: path.write_bytes(b""), id="empty"),
        pytest.param(lambda path: path.write_bytes(b"\xff\xfe\x00"), id="not-text"),
        pytest.param(lambda path: os.truncate(path, path.stat().st_size // 2), id="truncated"),
        pytest.param(lambda path: os.truncate(path, 17 * 1024 * 1024), id="huge"),
    ],
)
def test_damaged_bag_file_is_named(loaded: Bench, name: str, harm: Callable[[Path], None]) -> None:
    harm(loaded.bag / name)
    assert ("BAG_MALFORMED", name) in findings(loaded)


def test_bag_of_another_bundle_disagrees(loaded: Bench) -> None:
    """The parts are right, but what other BagIt tools would read says something else."""
    path = loaded.bag / "manifest-sha256.txt"
    path.write_text(path.read_text().replace("0", "1"))
    names = [name for _, name in findings(loaded)]
    assert names == ["manifest-sha256.txt"]


def test_envelope_that_is_missing_means_an_unfinished_pull(loaded: Bench) -> None:
    (loaded.bag / ENVELOPE_NAME).unlink()
    assert refusal(loaded) is Code.BAG_MALFORMED


def test_envelope_of_100_mb_is_refused_unread(loaded: Bench) -> None:
    os.truncate(loaded.bag / ENVELOPE_NAME, 100_000_000)
    assert refusal(loaded) is Code.TOO_LARGE


def test_envelope_as_a_link_is_refused(loaded: Bench, tmp_path: Path) -> None:
    (loaded.bag / ENVELOPE_NAME).rename(tmp_path / "envelope")
    (loaded.bag / ENVELOPE_NAME).symlink_to(tmp_path / "envelope")
    assert refusal(loaded) is Code.UNSAFE_NAME


@pytest.mark.parametrize("text", [b"", b"{", b"[]", b"<xml/>", b"\x00" * 100, b'{"payload": 1}'])
def test_envelope_that_is_not_json_is_refused(loaded: Bench, text: bytes) -> None:
    (loaded.bag / ENVELOPE_NAME).write_bytes(text)
    assert refusal(loaded) is Code.ENVELOPE_MALFORMED
    assert len(text) < MAX_ENVELOPE_BYTES


def test_envelope_with_a_flipped_payload_is_forged(loaded: Bench) -> None:
    path = loaded.bag / ENVELOPE_NAME
    envelope = json.loads(path.read_bytes())
    envelope["payload"] = "A" * 4 + envelope["payload"][4:]
    path.write_text(json.dumps(envelope))
    assert refusal(loaded) is Code.SIGNATURE_INVALID


def test_envelope_by_an_unknown_key_is_refused(empty: Bench) -> None:
    stranger = make_bundle(keys=[new_key()])
    mine = Bench(stranger, empty.volume)
    assert mine.pull().code is None
    with pytest.raises(AirgapError) as caught:
        Bench(empty.bundle, empty.volume).verify()
    assert caught.value.code is Code.SIGNER_UNKNOWN


@pytest.mark.parametrize(
    ("bundle", "code"),
    [
        pytest.param(
            make_bundle(created_at=datetime.now(UTC) - timedelta(days=31), lifetime=timedelta(days=30)),
            Code.EXPIRED,
            id="expired",
        ),
        pytest.param(
            make_bundle(created_at=datetime.now(UTC) + timedelta(days=1)), Code.NOT_YET_VALID, id="future"
        ),
        pytest.param(
            make_bundle(
                audience=["other.azurecr.io"], keys=[key := new_key()], policy_json=make_policy([key])
            ),
            Code.AUDIENCE_MISMATCH,
            id="audience",
        ),
    ],
)
def test_envelope_that_is_not_allowed_here_and_now(tmp_path: Path, bundle: object, code: Code) -> None:
    from tests.bundles import Bundle  # noqa: PLC0415 - the name is used only here

    assert isinstance(bundle, Bundle)
    bench = Bench(bundle, tmp_path)
    bench.bag.mkdir()
    (bench.bag / ENVELOPE_NAME).write_bytes(bundle.envelope)
    assert refusal(bench) is code


def test_bag_under_the_name_of_another_transfer_is_refused(loaded: Bench) -> None:
    loaded.bag.rename(loaded.volume / "another0transfer")
    assert refusal(loaded) is Code.BAG_MALFORMED


def test_volume_that_is_not_there(empty: Bench) -> None:
    empty.volume.rmdir()
    assert refusal(empty) is Code.VOLUME_NOT_FOUND


def test_volume_without_a_bag(empty: Bench) -> None:
    assert refusal(empty) is Code.VOLUME_EMPTY


def test_the_bag_itself_given_as_the_volume(loaded: Bench) -> None:
    with pytest.raises(AirgapError, match="name the one above") as caught:
        Bench(loaded.bundle, loaded.bag).verify()
    assert caught.value.code is Code.VOLUME_EMPTY


def test_volume_with_two_bags_asks_which(loaded: Bench) -> None:
    other = Bench(make_bundle(transfer_id="0therTransfer".lower(), blob_sizes=[10]), loaded.volume)
    assert other.pull().code is None
    with pytest.raises(AirgapError, match="--transfer 0thertransfer or k3v9x2m7q1") as caught:
        loaded.verify()
    assert caught.value.code is Code.VOLUME_AMBIGUOUS
    assert loaded.verify(transfer_id=loaded.bundle.transfer_id).code is None
    assert loaded.verify(transfer_id="0thertransfer").counts["bytes"] == 10
