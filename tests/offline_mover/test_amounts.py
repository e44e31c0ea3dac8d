from __future__ import annotations

import pytest

from airgap.errors import Code
from offline_mover.amounts import counted, duration, rate, size
from offline_mover.bags.bag_texts import Place
from offline_mover.bags.volume_names import capitalised, volume_name
from offline_mover.paper.facts import Status


@pytest.mark.parametrize(
    ("size_bytes", "words"),
    [
        (0, "0 bytes"),
        (1, "1 byte"),
        (999, "999 bytes"),
        (1000, "1.0 kB"),
        (999_949, "999.9 kB"),
        (999_950, "1.0 MB"),
        (1_500_000_000, "1.5 GB"),
        (10**16, "10000.0 TB"),
    ],
)
def test_sizes_count_in_thousands(size_bytes: int, words: str) -> None:
    assert size(size_bytes) == words
    assert rate(size_bytes) == f"{words}/s"


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (0, "0 s"),
        (0.01, "0.1 s"),
        (0.44, "0.4 s"),
        (9.9, "9.9 s"),
        (12.7, "12 s"),
        (125, "2 min 5 s"),
        (6000, "1 h 40 min"),
    ],
)
def test_times(seconds: float, words: str) -> None:
    assert duration(seconds) == words


def test_plurals_and_thousands() -> None:
    words = [counted(count, "part") for count in (0, 1, 2, 80_000)]
    assert words == ["0 parts", "1 part", "2 parts", "80,000 parts"]


def test_volume_has_one_name_and_a_patch_is_called_what_it_is() -> None:
    places = (Place(number=2, of=3), Place(number=1, of=None), Place(number=2, of=None))
    assert [capitalised(volume_name(place)) for place in places] == [
        "Volume 2 of 3",
        "Re-carried parts",
        "Re-carried parts, no. 2",
    ]


def test_report_calls_damaged_only_what_has_damaged_parts() -> None:
    foreign = Code.UNDECLARED_FILE
    assert Status.of(foreign, is_refused=False, is_all_whole=True) is Status.UNCLEAN
    assert Status.of(foreign, is_refused=False, is_all_whole=False) is Status.DAMAGED
    assert Status.of(Code.CUSTODY_BROKEN, is_refused=False, is_all_whole=True) is Status.TAMPERED
