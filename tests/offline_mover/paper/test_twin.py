"""The JSON twin and the page say the same: every member of the twin is found on the page, row by row."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime, timedelta
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from airgap.custody_event import Action
from offline_mover.amounts import size
from offline_mover.commands.report import report
from offline_mover.custody import log as custody_log
from offline_mover.paper import tables
from offline_mover.progress import Meter
from tests.bundles import make_bundle, make_policy, new_key
from tests.offline_mover.commands.test_receipts import INSTANCE, imported, signed
from tests.offline_mover.conftest import Bench, flip

Say = Callable[[Any, Mapping[str, Any]], str]
"""From a value and the object it stands in, the words that the page has for it."""


def _as_is(value: Any, _: Mapping[str, Any]) -> str:
    return str(value)


def _moment(value: str, _: Mapping[str, Any]) -> str:
    return value.replace("T", " ").replace("Z", " UTC")


def _size(value: int, _: Mapping[str, Any]) -> str:
    return size(value)


def _fixed(words: str) -> Say:
    """``words`` with the members of the object filled in, numbers with their commas."""

    def say(_value: Any, holder: Mapping[str, Any]) -> str:
        return words.format_map(holder)

    return say


def _if_so(words: str) -> Say:
    return lambda value, _: words if value else ""


_HEADLINES = {
    "whole": "Whole",
    "unclean": "Whole, not clean",
    "damaged": "Damaged",
    "refused": "Refused",
    "incomplete": "Incomplete",
}
_CELLS = {
    "WHOLE": "whole",
    "REPLACED": "whole, beside a damaged copy",
    "NOT_SEEN": "not shown",
    "MISSING": "missing",
    "DAMAGED": "damaged",
}

ON_THE_PAGE: Mapping[str, Say] = {
    "madeAt": _moment,
    "madeBy.who": _fixed("by {who} on"),
    "madeBy.host": _fixed("on {host}"),
    "madeBy.tool.name": _fixed("Written by {name} {version}"),
    "madeBy.tool.version": _fixed("Written by {name} {version}"),
    "status": lambda value, _: _HEADLINES[value],
    "code": lambda value, _: f"{value} · exit code",
    "exitCode": lambda value, holder: f"exit code {value}" if holder["code"] else "",
    "verdict": _as_is,
    "next": lambda value, _: f"Next: {value}",
    "notes[]": _as_is,
    "transferId": lambda value, _: f"Transfer {value}",
    "bundle.manifestDigest": lambda value, _: f"Manifest digest {value}",
    "bundle.isAccepted": lambda value, _: "Bundle Channel" if value else "Bundle, as refused",
    "bundle.transferId": _as_is,
    "bundle.channel": lambda value, _: f"Channel {value}",
    "bundle.sequence": lambda value, _: f"Sequence {value}",
    "bundle.previous": lambda value, _: f"Preceding digest {value}",
    "bundle.createdAt": lambda value, _: f"Created {_moment(value, {})}",
    "bundle.expiresAt": lambda value, _: f"Expires {_moment(value, {})}",
    "bundle.source.cloud": _fixed("Source {registry} ({cloud})"),
    "bundle.source.registry": _fixed("Source {registry} ({cloud})"),
    "bundle.source.exportPipeline": lambda value, _: f"Export pipeline {value}",
    "bundle.audience[]": lambda value, _: f"Audience {value}",
    "bundle.requestedBy": lambda value, _: f"Ordered by {value}",
    "bundle.tool.name": _fixed("Made by {name} {version}"),
    "bundle.tool.version": _fixed("Made by {name} {version}"),
    "bundle.bytes": lambda value, holder: f"Size {size(value)} in {holder['parts']:,} parts",
    "bundle.parts": lambda value, _: f"in {value:,} part",
    "bundle.blobs[].name": _fixed("Blob {name} ·"),
    "bundle.blobs[].size": lambda value, holder: f"Blob {holder['name']} · {size(value)} ·",
    "bundle.blobs[].parts": lambda value, _: f"· {value} part",
    "signers[].keyid": _as_is,
    "signers[].role": _fixed("{role} {scheme} {keyid}"),
    "signers[].scheme": _fixed("{role} {scheme} {keyid}"),
    "artifacts[].reference": _fixed("{reference} {digest}"),
    "artifacts[].digest": _fixed("{reference} {digest}"),
    "artifacts[].artifactType": _fixed("{reference} {digest} {artifactType}"),
    "counts.parts": _fixed("{wholeParts:,} whole of {parts:,} parts"),
    "counts.wholeParts": _fixed("{wholeParts:,} whole of {parts:,} parts"),
    "counts.damagedParts": lambda value, _: f"{value:,} damaged",
    "counts.missingParts": lambda value, _: f"{value:,} missing",
    "counts.notSeenParts": lambda value, _: f"{value:,} on volumes not shown",
    "counts.bytes": lambda value, _: f"{size(value)} in the whole bundle",
    "volumes[].path": _as_is,
    "volumes[].label": _as_is,
    "volumes[].serial": lambda value, _: f"serial {value}",
    "volumes[].fileSystem": _as_is,
    "volumes[].isReadOnly": _if_so("read-only"),
    "volumes[].totalBytes": _size,
    "volumes[].number": _fixed("{number} of {of}"),
    "volumes[].of": _fixed("volume {number} of {of}"),
    "volumes[].manifestDigest": _as_is,
    "volumes[].code": _as_is,
    "volumes[].detail": _as_is,
    "volumes[].parts": _fixed("{wholeParts:,} of {parts:,} whole"),
    "volumes[].wholeParts": _fixed("{wholeParts:,} of {parts:,} whole"),
    "volumes[].parityShards": lambda value, _: f"and {value:,} parity shard" if value else "",
    "volumes[].bytes": lambda value, _: f"{value:,}",
    "volumes[].labelText": _as_is,
    "absentVolumes[]": lambda value, _: f"Not shown: volume {value}",
    "damage[].code": lambda value, holder: f"{value} volume 1 of 1 {holder['name']}",
    "damage[].name": lambda value, holder: f"{holder['code']} volume 1 of 1 {value}",
    "damage[].detail": lambda value, holder: f"{value} {'yes' if holder['isReplaced'] else 'no'}",
    "damage[].offset": lambda value, _: f"{value:,} to",
    "damage[].size": lambda value, holder: f"to {holder['offset'] + value - 1:,}",
    "damage[].volume": _as_is,
    "damage[].isReplaced": lambda value, holder: f"{holder['detail']} {'yes' if value else 'no'}",
    "partStates[].state": lambda value, _: _CELLS[value],
    "partStates[].blob": lambda value, _: f"Blob {value} ·",
    "custody.code": _as_is,
    "custody.volumes[].volume": _as_is,
    "custody.volumes[].label": _as_is,
    "custody.volumes[].serial": _as_is,
    "custody.volumes[].entryCount": lambda value, _: f"volume 1 of 1 {value:,}",
    "custody.volumes[].sideCount": lambda value, _: f"+ {value:,} beside" if value else "",
    "custody.volumes[].head.sha256": _as_is,
    "custody.volumes[].head.count": lambda value, _: f"volume 1 of 1 {value:,}",
    "custody.volumes[].findings[].fault": _fixed("volume 1 of 1 {fault}"),
    "custody.volumes[].findings[].line": lambda value, holder: (
        f"volume 1 of 1 {holder['fault']} {value or '-'}"
    ),
    "custody.volumes[].findings[].detail": _as_is,
    "custody.volumes[].entries[].at": lambda value, holder: (
        f"{value.replace('T', ' ').rstrip('Z')} volume 1 of 1 no. {holder['number']}"
    ),
    "custody.volumes[].entries[].number": lambda value, _: f"volume 1 of 1 no. {value}",
    "custody.volumes[].entries[].isBeside": _if_so("(beside)"),
    "custody.volumes[].entries[].event": lambda value, holder: (
        f"{tables.ACTIONS.get(value, value)} {holder['code'] or 'OK'}"
    ),
    "custody.volumes[].entries[].code": _as_is,
    "custody.volumes[].entries[].who": _fixed("{who} on {host}, {tool[name]} {tool[version]}"),
    "custody.volumes[].entries[].host": _fixed("{who} on {host}, {tool[name]} {tool[version]}"),
    "custody.volumes[].entries[].tool.name": _fixed(", {name} {version}"),
    "custody.volumes[].entries[].tool.version": _fixed(", {name} {version}"),
    "custody.volumes[].entries[].counts.parts": lambda value, _: f"{value:,} parts",
    "custody.volumes[].entries[].transferId": _as_is,
    "receipts[].volume": _as_is,
    "receipts[].name": lambda value, _: f"volume 1 of 1 {value}",
    "receipts[].code": _as_is,
    "receipts[].detail": _as_is,
    "receipts[].receipt.verdict": lambda value, holder: f"{value} by {holder['target']}",
    "receipts[].receipt.target": _fixed("by {target}"),
    "receipts[].receipt.decidedAt": lambda value, holder: (
        f"{_moment(value, {})} {holder['provenArtifacts']:,} of {holder['artifacts']:,}"
    ),
    "receipts[].receipt.artifacts": _fixed("{provenArtifacts:,} of {artifacts:,}"),
    "receipts[].receipt.provenArtifacts": _fixed("{provenArtifacts:,} of {artifacts:,}"),
}

FOR_PROGRAMS_ONLY = {
    "schema": "of the twin itself",
    "bundle.blobs[].partSize": "follows from the offsets",
    "bundle.blobs[].pipelineRun": "for the automation owner",
    "artifacts[].mediaType": "the reference says enough to a person",
    "artifacts[].tags[]": "the reference has the tag",
    "artifacts[].subject": "that it belongs to an artifact says enough to a person",
    "partStates[].first": "drawn as a picture",
    "partStates[].last": "drawn as a picture",
    "custody.verdict": "told among the notes where it is not good",
    "custody.absentLogs": "told among the notes where there are any",
    "custody.volumes[].log": "the digest of the first line; the page has the last one's",
    "custody.volumes[].vouchedCount": "what it comes to is among the faults",
    "custody.volumes[].entries[].schema": "of the line itself",
    "custody.volumes[].entries[].previous": "the chain is judged as a whole",
    "custody.volumes[].entries[].manifestDigest": "the timeline is about the transfer",
    "custody.volumes[].entries[].volume.label": "as the volumes' own table has it",
    "custody.volumes[].entries[].volume.serial": "likewise",
    "custody.volumes[].entries[].volume.number": "likewise",
    "custody.volumes[].entries[].volume.of": "likewise",
    "receipts[].receipt.code": "stands in the verdict's place when it was refused",
    "receipts[].receipt.damageCount": "the receipt itself lists them",
}
"""Members of the twin that a person does not need, and why."""

ROWS: Mapping[str, Callable[[Mapping[str, Any]], int]] = {
    "signers": lambda twin: len(twin["signers"]),
    "volumes": lambda twin: len(twin["volumes"]),
    "findings": lambda twin: len(twin["damage"]),
    "receipts": lambda twin: len(twin["receipts"]),
    "artifacts": lambda twin: len(twin["artifacts"]),
    "custody": lambda twin: sum(
        1 + len(volume["findings"]) + len(volume["entries"]) for volume in twin["custody"]["volumes"]
    ),
}
"""How many rows the tables of each section have, by the twin."""


class _Page(HTMLParser):
    """The words of a page in order, and the rows of the tables of each section."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self._words: list[str] = []
        self._sections: list[str] = []
        self._is_hidden = self._is_body = False
        self.rows: Counter[str] = Counter()
        self.feed(page)
        self.text = re.sub(r" ([,.)])", r"\1", " ".join(" ".join(self._words).split()).replace("( ", "("))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag == "section":
            self._sections.append(dict(attrs).get("class") or "")
        self._is_hidden = tag in {"style", "head"} or self._is_hidden
        self._is_body = tag == "tbody" or self._is_body
        if tag == "tr" and self._is_body:
            self.rows[self._sections[-1]] += 1

    def handle_endtag(self, tag: str) -> None:
        if tag == "section":
            self._sections.pop()
        self._is_hidden = self._is_hidden and tag != "head"
        self._is_body = self._is_body and tag != "tbody"

    def handle_data(self, data: str) -> None:
        if not self._is_hidden:
            self._words.append(data)


def leaves(value: Any, path: str, holder: Mapping[str, Any]) -> Iterator[tuple[str, Any, Mapping[str, Any]]]:
    """Every member that is no object or list: its path without numbers, its value, and what it stands in."""
    if isinstance(value, dict):
        for name, member in value.items():
            yield from leaves(member, f"{path}.{name}".lstrip("."), value)
    elif isinstance(value, list):
        for member in value:
            yield from leaves(member, f"{path}[]", holder)
    else:
        yield path, value, holder


def not_said(twin: Mapping[str, Any], page: str) -> list[str]:
    """What the twin has and the page does not, and sections whose rows are more or fewer than the twin's."""
    read = _Page(page)
    missing = []
    for path, value, holder in leaves(twin, "", twin):
        if path in FOR_PROGRAMS_ONLY or value is None:
            continue
        words = " ".join(ON_THE_PAGE[path](value, holder).split())
        if words not in read.text:
            missing.append(f"{path}: {words}")
    return missing + [
        f"{name}: {read.rows[name]} rows, not {count(twin)}"
        for name, count in ROWS.items()
        if read.rows[name] != count(twin)
    ]


def told(bench: Bench, side_dir: Path) -> tuple[str, dict[str, Any]]:
    _, page, twin = report(
        [bench.volume],
        transfer_id=None,
        policy=bench.bundle.policy,
        now=datetime.now(UTC),
        concurrency=2,
        meter=Meter(),
        side_dir=side_dir,
    )
    return page.decode(), json.loads(twin)


@pytest.fixture
def eventful(tmp_path: Path) -> tuple[Bench, Path]:
    """A volume with damage, a stranger, custody here and beside, a good receipt and a bad one."""
    target, source = new_key(), new_key()
    bundle = make_bundle(keys=(source,), policy_json=make_policy((source,), receipt_keys=[target]))
    volume, side_dir = tmp_path / "usb", tmp_path / "state"
    volume.mkdir()
    bench = Bench(bundle, volume)
    assert bench.pull().code is None
    flip(bench.part("001/00000002.part"))
    (bench.bag / "data" / "stranger").write_bytes(b"x")
    at = datetime.now(UTC)
    for who, later, read_only in (("olga", 0, False), ("piet", 1, False), ("ann", 2, True)):
        event = custody_log.event_body(
            Action.VERIFIED,
            at=at + timedelta(seconds=later),
            who=who,
            transfer_id=bundle.transfer_id,
            counts={"parts": 4},
        )
        assert custody_log.record({volume: event}, side_dir=side_dir, read_only=read_only) == []
    folder = volume / "receipts" / bundle.transfer_id
    folder.mkdir(parents=True)
    (folder / f"{INSTANCE}.dsse.json").write_bytes(signed(imported(bundle), target))
    (folder / f"{INSTANCE[:-1]}1.dsse.json").write_bytes(signed(imported(bundle), new_key()))
    return bench, side_dir


def test_page_says_all_of_the_twin_of_an_eventful_volume(eventful: tuple[Bench, Path]) -> None:
    page, twin = told(*eventful)
    assert (len(twin["damage"]), len(twin["receipts"]), twin["receipts"][1]["receipt"]) == (2, 2, None)
    assert not_said(twin, page) == []


def test_page_says_all_of_the_twin_of_a_whole_volume(loaded: Bench, tmp_path: Path) -> None:
    page, twin = told(loaded, tmp_path)
    assert twin["status"] == "whole"
    assert not_said(twin, page) == []


def test_page_says_all_of_the_twin_of_a_torn_log_and_a_late_bundle(loaded: Bench, tmp_path: Path) -> None:
    event = custody_log.event_body(Action.PULLED, at=datetime.now(UTC), who="olga")
    assert custody_log.record({loaded.volume: event}, side_dir=tmp_path) == []
    with (loaded.volume / custody_log.LOG_NAME).open("ab") as log:
        log.write(b'{"at":"20')
    page, twin = told(loaded, tmp_path)
    assert twin["custody"]["volumes"][0]["findings"]
    assert not_said(twin, page) == []


def test_every_way_of_saying_is_of_a_member_that_some_twin_has(eventful: tuple[Bench, Path]) -> None:
    assert not ON_THE_PAGE.keys() & FOR_PROGRAMS_ONLY.keys()
    _, twin = told(*eventful)
    members = {path for path, _, _ in leaves(twin, "", twin)}
    empty_here = {"absentVolumes[]", *(path for path in ON_THE_PAGE if ".findings[]" in path)}
    assert (ON_THE_PAGE.keys() | FOR_PROGRAMS_ONLY.keys()) - members == empty_here


@pytest.mark.parametrize("drop", ["3 whole of 4 parts", "stranger", "piet"])
def test_words_that_are_not_on_the_page_are_missed(eventful: tuple[Bench, Path], drop: str) -> None:
    page, twin = told(*eventful)
    first, _, rest = drop.partition(" whole")
    altered = page.replace(drop if not rest else f"<b>{first}</b>", "")
    assert altered != page
    assert not_said(twin, altered)
