"""The report: one page that needs nothing else, true to what is on the volumes, and its JSON twin."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from datetime import UTC, datetime
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from airgap.custody_event import Action
from airgap.errors import Code
from offline_mover.amounts import size
from offline_mover.bags.bag_texts import Place
from offline_mover.commands.report import report
from offline_mover.custody import log as custody_log
from offline_mover.medium.media_identity import MediaIdentity
from offline_mover.outcome import Outcome
from offline_mover.paper import qr_code
from offline_mover.paper.facts import VolumeFacts
from offline_mover.paper.tables import volume_marks
from offline_mover.progress import Meter
from tests.bundles import make_bundle, make_policy, new_key
from tests.offline_mover.conftest import Bench, flip

_EVIL = '<script>alert("x")</script>&'


def made(bench: Bench, side_dir: Path, *, policy: bytes | None = None) -> tuple[Outcome, str, dict[str, Any]]:
    from airgap.policy import TrustPolicy  # noqa: PLC0415 - only where another policy is asked for

    outcome, page, twin = report(
        [bench.volume],
        transfer_id=None,
        policy=TrustPolicy.from_bytes(policy) if policy else bench.bundle.policy,
        now=datetime.now(UTC),
        concurrency=2,
        meter=Meter(),
        side_dir=side_dir,
    )
    return outcome, page.decode(), json.loads(twin)


class _Resources(HTMLParser):
    """Every attribute that could make a browser fetch something, and every script."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag in {"script", "iframe", "object", "embed", "link", "img", "base", "form"}:
            self.found.append(tag)
        for name, value in attrs:
            is_own = (value or "").startswith(("#", "data:"))
            if (name in {"src", "href", "xlink:href", "action"} and not is_own) or name.startswith("on"):
                self.found.append(f"{tag} {name}={value}")


def test_page_of_a_whole_bundle_says_so_and_asks_for_nothing(loaded: Bench, tmp_path: Path) -> None:
    outcome, page, twin = made(loaded, tmp_path)
    assert (outcome.code, outcome.command) == (None, "report")
    for text in (
        loaded.bundle.transfer_id,
        loaded.bundle.manifest_sha256,
        "target.azurecr.io",
        "team/app001:v1",
    ):
        assert text in page
    resources = _Resources()
    resources.feed(page)
    assert resources.found == []
    assert "url(" not in page
    policy = re.search(r'Content-Security-Policy"\s+content="([^"]+)"', page)
    assert policy
    assert policy[1].startswith("default-src 'none'")
    assert twin["schema"] == 1
    assert json.dumps(twin).count(loaded.bundle.manifest_sha256) >= 1


def test_damage_is_told_with_its_part_and_its_code(loaded: Bench, tmp_path: Path) -> None:
    flip(loaded.part("001/00000002.part"))
    outcome, page, twin = made(loaded, tmp_path)
    assert outcome.code is Code.PART_CORRUPT
    assert "001/00000002.part" in page
    assert "PART_CORRUPT" in page
    assert "001/00000002.part" in json.dumps(twin)


def test_refused_bundle_gets_a_page_too(loaded: Bench, tmp_path: Path) -> None:
    outcome, page, _ = made(loaded, tmp_path, policy=make_policy([new_key()]))
    assert outcome.code is Code.SIGNER_UNKNOWN
    assert Code.SIGNER_UNKNOWN.remedy in page


@pytest.mark.parametrize("where", ["file name", "custody log"])
def test_words_from_outside_stay_words(loaded: Bench, tmp_path: Path, where: str) -> None:
    if where == "file name":
        (loaded.bag / "data" / _EVIL.replace("/", "")).write_bytes(b"")
    else:
        body = custody_log.event_body(Action.VERIFIED, at=datetime.now(UTC), who=_EVIL)
        assert custody_log.record({loaded.volume: body}, side_dir=tmp_path) == []
    _, page, _ = made(loaded, tmp_path)
    assert "<script" not in page
    assert "&lt;script&gt;" in page


def test_history_that_is_not_believed_stands_apart_from_the_timeline(loaded: Bench, tmp_path: Path) -> None:
    for who in ("olga", "piet", "mallory"):
        body = custody_log.event_body(Action.VERIFIED, at=datetime.now(UTC), who=who)
        assert custody_log.record({loaded.volume: body}, side_dir=tmp_path) == []
    _, page, _ = made(loaded, tmp_path)
    assert "Timeline" in page
    assert "Not believed" not in page
    log = loaded.volume / custody_log.LOG_NAME
    lines = log.read_bytes().splitlines(keepends=True)
    log.write_bytes(lines[0] + lines[2])
    outcome, page, _ = made(loaded, tmp_path)
    assert outcome.code is Code.CUSTODY_BROKEN
    assert "Timeline" not in page
    assert "mallory" in page[page.index("Not believed") :]


def test_label_holds_transfer_and_digest_as_a_qr_code(loaded: Bench, tmp_path: Path) -> None:
    _, page, _ = made(loaded, tmp_path)
    assert page.count("<svg") >= 2, "a picture of the parts and a label"
    bundle = loaded.bundle
    text = f"acr-airgap-transfer:{bundle.transfer_id} sha256:{bundle.manifest_sha256} volume 1 of 1"
    assert text in page
    assert qr_code.__doc__


def test_report_writes_nothing_on_the_volume(loaded: Bench, tmp_path: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in loaded.volume.rglob("*")}
    made(loaded, tmp_path)
    assert {path: path.stat().st_mtime_ns for path in loaded.volume.rglob("*")} == before


def test_banner_names_what_is_damaged_and_where(loaded: Bench, tmp_path: Path) -> None:
    flip(loaded.part("001/00000002.part"))
    _, page, _ = made(loaded, tmp_path)
    banner = page.split('<section class="banner', 1)[1].split("</section>", 1)[0]
    for told in (
        "PART_CORRUPT",
        "001/00000002.part",
        "on volume 1 of 1",
        str(loaded.volume),
        'href="#h-findings"',
    ):
        assert told in banner


def test_volumes_have_the_name_of_screen_and_label_everywhere(loaded: Bench, tmp_path: Path) -> None:
    body = custody_log.event_body(Action.VERIFIED, at=datetime.now(UTC), who="Mira")
    assert custody_log.record({loaded.volume: body}, side_dir=tmp_path) == []
    flip(loaded.part("001/00000002.part"))
    _, page, _ = made(loaded, tmp_path)
    name = "volume 1 of 1"
    assert f"{name} no. 1<" in page
    for table in ("volumes", "findings", "custody"):
        part = page.split(f'id="h-{table}"', 1)[1].split("</section>", 1)[0]
        assert f'data-head="Volume">{name}</td>' in part


def test_copies_of_a_volume_and_one_without_a_number_are_told_apart() -> None:
    identity = MediaIdentity()
    places = (Place(number=1, of=3), Place(number=1, of=3), Place(number=1, of=None), None)
    volumes = [VolumeFacts(path="/usb", identity=identity, place=place) for place in places]
    assert volume_marks(volumes) == [
        "volume 1 of 3 (A)",
        "volume 1 of 3 (B)",
        "re-carried parts",
        "volume D",
    ]


def test_one_of_anything_is_told_in_the_singular(tmp_path: Path) -> None:
    tmp_path.joinpath("usb").mkdir()
    bench = Bench(make_bundle(blob_sizes=[5000]), tmp_path / "usb")
    assert bench.pull().code is None
    _, page, _ = made(bench, tmp_path)
    assert "in 1 part of 1 blob<" in page
    assert re.search(r"\b1 (parts|blobs|parity shards|findings|volumes)\b", page) is None


def test_steps_of_a_push_one_by_one_are_no_failures_and_told_in_words(loaded: Bench, tmp_path: Path) -> None:
    body = custody_log.event_body(Action.PUSHED, at=datetime.now(UTC), who="Mira")
    step = replace(
        body, code="VOLUME_MISSING", counts={"sentParts": 1, "skippedParts": 0, "notSeenParts": 20}
    )
    failure = replace(body, code="SERVICE_DENIED", counts={})
    for one in (step, failure):
        assert custody_log.record({loaded.volume: one}, side_dir=tmp_path) == []
    _, page, _ = made(loaded, tmp_path)
    timeline = page.split("Timeline</h3>", 1)[1].split("</section>", 1)[0]
    assert "VOLUME_MISSING" not in timeline
    assert 'class="state bad">SERVICE_DENIED' in timeline
    assert timeline.count('class="state bad"') == 1
    for told in ("right, more volumes to come", "pushed to the target", "20 parts not seen, 1 part sent"):
        assert told in timeline


def test_cells_say_what_they_are_where_a_screen_has_no_room_for_heads(loaded: Bench, tmp_path: Path) -> None:
    _, page, _ = made(loaded, tmp_path)
    heads = set(re.findall(r'<th scope="col"[^>]*>([^<]+)</th>', page))
    assert {"Medium", "Key id", "Digest"} <= heads
    assert heads == set(re.findall(r'<td[^>]* data-head="([^"]+)"', page))
    assert "attr(data-head)" in page


def test_sizes_have_the_one_style_of_the_screen(loaded: Bench, tmp_path: Path) -> None:
    body = custody_log.event_body(Action.VERIFIED, at=datetime.now(UTC), who="Mira")
    body = replace(body, counts={"bytes": 12_500_000, "sentBytes": 999})
    assert custody_log.record({loaded.volume: body}, side_dir=tmp_path) == []
    outcome, page, _ = made(loaded, tmp_path)
    whole = size(loaded.bundle.manifest.size_bytes)
    assert whole in outcome.verdict
    assert page.count(whole) >= 3
    assert "12.5 MB, 999 bytes sent" in page
    assert re.search("[KMGT]iB", page) is None


def test_words_of_the_timeline_are_not_broken_and_long_values_begin_a_row(
    loaded: Bench, tmp_path: Path
) -> None:
    body = custody_log.event_body(Action.VERIFIED, at=datetime.now(UTC), who="Mira")
    assert custody_log.record({loaded.volume: body}, side_dir=tmp_path) == []
    _, page, _ = made(loaded, tmp_path)
    assert re.search(r'<td class="words" data-head="Event">verified', page)
    assert "td.words { overflow-wrap: break-word; }" in page
    assert '<dt class="wide">Audience</dt><dd class="wide">' in page
    assert "dt.wide { grid-column: 1; }" in page


def test_verdict_and_code_can_stand_on_two_lines(loaded: Bench, tmp_path: Path) -> None:
    flip(loaded.part("001/00000002.part"))
    _, page, _ = made(loaded, tmp_path)
    assert re.search(r'class="word">Damaged\s+<span class="code">PART_CORRUPT', page)


def test_what_is_cut_out_comes_last_and_the_footer_is_not_left_alone_on_a_page(
    loaded: Bench, tmp_path: Path
) -> None:
    _, page, _ = made(loaded, tmp_path)
    assert page.index("This page is not signed") < page.index('id="h-labels"')
    assert re.search(r"footer \{[^}]*break-before: avoid", page)


def test_page_names_who_made_it(loaded: Bench, tmp_path: Path) -> None:
    _, page, twin = report(
        [loaded.volume],
        transfer_id=None,
        policy=loaded.bundle.policy,
        now=datetime.now(UTC),
        concurrency=2,
        meter=Meter(),
        side_dir=tmp_path,
        who="Mira Lange",
    )
    assert "by Mira Lange on " in page.decode()
    assert json.loads(twin)["madeBy"]["who"] == "Mira Lange"
