from __future__ import annotations

import subprocess
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import bagit
import pytest

from airgap.manifest import ENVELOPE_NAME
from offline_mover.bags.bag_texts import (
    BAG_INFO,
    DECLARATION,
    PAYLOAD_MANIFEST,
    TAG_MANIFEST,
    BagTexts,
    Contents,
    ListedFile,
    Place,
    bag_texts,
    read_texts,
)
from tests.bundles import Bundle
from tests.offline_mover.conftest import Bench, flip

# bagit 1.9 uses what Python 3.13 deprecates.
pytestmark = pytest.mark.filterwarnings(
    "ignore::DeprecationWarning:bagit", "ignore:.*count:DeprecationWarning"
)

_NOW = datetime(2026, 1, 31, 8, tzinfo=UTC)


def contents(bundle: Bundle) -> dict[str, bytes]:
    files = {part.name: ListedFile(sha256, part.size_bytes) for part, sha256 in bundle.manifest.parts()}
    whole = Contents(place=Place(number=1, of=1), files=files)
    return bag_texts(bundle.manifest, bundle.envelope, whole, now=_NOW) | {ENVELOPE_NAME: bundle.envelope}


def read(bundle: Bundle, texts: dict[str, bytes]) -> BagTexts:
    return read_texts(
        bundle.manifest, texts, {part.name: part.size_bytes for part, _ in bundle.manifest.parts()}
    )


def open_bag(folder: Path) -> Any:
    library: Any = bagit  # it has no types
    return library.Bag(str(folder))


def test_library_of_congress_tool_accepts_the_bag(loaded: Bench) -> None:
    checked = open_bag(loaded.bag)
    checked.validate()
    assert checked.info["Bag-Group-Identifier"] == loaded.bundle.transfer_id
    assert checked.info["Bag-Count"] == "1 of 1"
    assert checked.info["Payload-Oxum"] == f"{loaded.bundle.manifest.size_bytes}.4"


def test_library_of_congress_tool_sees_our_damage_too(loaded: Bench) -> None:
    flip(loaded.part("001/00000001.part"))
    with pytest.raises(bagit.BagValidationError, match=r"001/00000001\.part"):
        open_bag(loaded.bag).validate()


@pytest.mark.parametrize("name", [PAYLOAD_MANIFEST, TAG_MANIFEST])
def test_coreutils_accept_the_manifests(loaded: Bench, name: str) -> None:
    done = subprocess.run(
        ["sha256sum", "--strict", "-c", name],  # noqa: S607 - coreutils, wherever they are
        cwd=loaded.bag,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.count(": OK") == 4


def test_nothing_in_the_bag_is_executable(loaded: Bench) -> None:
    assert not [path for path in loaded.bag.rglob("*") if path.is_file() and path.stat().st_mode & 0o111]


def test_names_fit_fat32(loaded: Bench) -> None:
    names = [path.name for path in loaded.bag.rglob("*")]
    assert not [name for name in names if set(name) & set('<>:"\\|?*') or name.endswith((".", " "))]
    assert len({name.casefold() for name in names}) == len(set(names))


def test_texts_of_ours_have_no_findings(sealed: Bundle) -> None:
    reading = read(sealed, contents(sealed))
    assert reading.damages == ()
    assert reading.place == Place(number=1, of=1)
    assert reading.listed == {part.name: sha256 for part, sha256 in sealed.manifest.parts()}


def test_manifest_rewritten_by_a_windows_tool_is_accepted(sealed: Bundle) -> None:
    texts = contents(sealed)
    del texts[TAG_MANIFEST]
    texts[PAYLOAD_MANIFEST] = (
        (texts[PAYLOAD_MANIFEST].upper().replace(b"DATA", b"data").replace(b".PART", b".part"))
        .replace(b"\n", b"\r\n")
        .replace(b"  ", b" *")
    )
    assert read(sealed, texts).damages == ()


@pytest.mark.parametrize(
    ("name", "old", "new"),
    [
        (DECLARATION, b"1.0", b"0.97"),
        (DECLARATION, b"UTF-8", b"UTF-16"),
        (BAG_INFO, b"k3v9x2m7q1", b"k3v9x2m7q2"),
        (BAG_INFO, b"Payload-Oxum: 8", b"Payload-Oxum: 9"),
        (BAG_INFO, b"1 of 1", b"one of one"),
        (BAG_INFO, b"Bag-Count:", b"Bag-Count"),
        (PAYLOAD_MANIFEST, b"data/002/", b"data/003/"),
        (PAYLOAD_MANIFEST, b"  data/002/00000001.part\n", b"  data/002/00000001.part\nx\n"),
        (TAG_MANIFEST, b"bagit.txt", b"fetch.txt"),
        (TAG_MANIFEST, b"  bag", b"  ../bag"),
    ],
)
def test_text_that_disagrees_is_named(sealed: Bundle, name: str, old: bytes, new: bytes) -> None:
    texts = contents(sealed)
    assert old in texts[name]
    texts[name] = texts[name].replace(old, new)
    assert [damage.name for damage in read(sealed, texts).damages] == [name]
