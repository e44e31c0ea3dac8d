"""The labels' QR codes are read back by a decoder that knows nothing of how they were drawn."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import UTC, datetime
from html.parser import HTMLParser

import pytest
import zxingcpp

from offline_mover.bags.bag_texts import Place
from offline_mover.commands.report import report
from offline_mover.paper.qr_code import label_text, qr_svg
from offline_mover.progress import Meter
from tests.offline_mover.conftest import Bench

_SCALE = 4  # pixels a module
_RECTANGLE = re.compile(r"M(\d+) (\d+)[hH](\d+)v(\d+)(?:h-\d+|H\d+)z")
_GREY = {"#fff": 255, "#000": 0}


class _Symbols(HTMLParser):
    """The pictures of class ``qr`` on a page: side in modules, and their rectangles in order of painting."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[tuple[int, list[tuple[int, int, int, int, int]]]] = []
        self._is_inside = False

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = {name: value or "" for name, value in attrs}
        if tag == "svg":
            self._is_inside = values.get("class") == "qr"
            if self._is_inside:
                left, top, width, height = values["viewbox"].split()
                assert (left, top, width) == ("0", "0", height)
                self.found.append((int(width), []))
        elif tag == "path" and self._is_inside:
            self.found[-1][1].extend(_rectangles(values["d"], _GREY[values["fill"]]))

    def handle_endtag(self, tag: str) -> None:
        self._is_inside = self._is_inside and tag != "svg"


def _rectangles(path: str, grey: int) -> Iterator[tuple[int, int, int, int, int]]:
    assert not _RECTANGLE.sub("", path), "more than rectangles"
    for x, y, width, height in _RECTANGLE.findall(path):
        yield int(x), int(y), int(width), int(height), grey


def read_codes(page: str) -> list[str]:
    """What a scanner held before the page shows, code by code."""
    symbols = _Symbols()
    symbols.feed(page)
    texts = []
    for side, rectangles in symbols.found:
        pixels = bytearray(b"\x80" * (side * _SCALE) ** 2)
        for x, y, width, height, grey in rectangles:
            for row in range(y * _SCALE, (y + height) * _SCALE):
                start = row * side * _SCALE + x * _SCALE
                pixels[start : start + width * _SCALE] = bytes([grey]) * (width * _SCALE)
        seen = zxingcpp.read_barcode(memoryview(pixels).cast("B", (side * _SCALE, side * _SCALE)))
        assert seen is not None, "no code in the picture"
        assert seen.format == zxingcpp.BarcodeFormat.QRCode
        texts.append(seen.text)
    return texts


def test_label_on_the_page_is_scanned_as_what_the_twin_says_of_it(loaded: Bench) -> None:
    bundle = loaded.bundle
    _, page, _ = report(
        [loaded.volume],
        transfer_id=None,
        policy=bundle.policy,
        now=datetime.now(UTC),
        concurrency=2,
        meter=Meter(),
    )
    assert read_codes(page.decode()) == [
        f"acr-airgap-transfer:{bundle.transfer_id} sha256:{bundle.manifest_sha256} volume 1 of 1"
    ]


@pytest.mark.parametrize(
    ("transfer_id", "place"),
    [
        ("k3v9x2m7", Place(number=1, of=1)),
        ("k3v9x2m7q1", None),
        ("k3v9x2m7q1", Place(number=2, of=None)),
        ("a" * 40, Place(number=9999, of=9999)),
    ],
    ids=["shortest", "no place", "of re-carried parts", "longest"],
)
def test_every_length_of_label_is_read_back(transfer_id: str, place: Place | None) -> None:
    text = label_text(transfer_id, "0123456789abcdef" * 4, place)
    assert read_codes(qr_svg(text, text)) == [text]
