"""The long tables of the report: findings, custody timeline, receipts, artifacts; each folded and bounded."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import datetime

from airgap.custody import LoggedEvent
from airgap.custody_event import Action
from airgap.errors import Code, UnknownCode
from airgap.fields import format_time
from offline_mover.amounts import counted, size
from offline_mover.bags.volume_names import volume_name
from offline_mover.outcome import Finding
from offline_mover.paper.facts import ReportFacts, VolumeFacts, newest_events
from offline_mover.paper.markup import Markup, element, joined

MAX_OPEN_ROWS = 200
"""Further rows are folded: on paper, their count stands in their place."""
MAX_FINDINGS = 1000
MAX_TIMELINE = 1000
_MAX_UNBROKEN_ROWS = 12  # a table of so few rows is kept on one page
_MAX_COUNTS = 4

ACTIONS: Mapping[str, str] = {
    Action.PULLED.value: "pulled onto the volume",
    Action.VERIFIED.value: "verified",
    Action.REPAIRED.value: "repaired",
    Action.PUSHED.value: "pushed to the target",
    Action.REPORTED.value: "reported on",
    Action.RECEIPTS_PULLED.value: "receipts fetched",
    Action.RECEIPTS_PUSHED.value: "receipts delivered",
    Action.MERGED.value: "side file brought onto it",
}
"""Events of custody logs as the timeline tells them."""

Column = tuple[str, str | None]
"""A heading and the class of the column's cells."""


def table(caption: str, columns: Sequence[Column], rows: Sequence[Sequence[str]], *, what: str) -> Markup:
    """A table, whose rows beyond the two hundredth are folded away under a line that counts them.

    Args:
        caption: the words for what the table shows, also for whoever cannot see it.
        columns: one for each cell of a row.
        rows: the cells, as text or markup.
        what: the word for the rows, in the plural.
    """
    shown = _table(element("caption", caption), columns, rows[:MAX_OPEN_ROWS])
    folded = rows[MAX_OPEN_ROWS:]
    if not folded:
        return shown
    more = element("summary", f"and {len(folded):,} more {what}")
    return joined((shown, element("details", more, _table("", columns, folded))))


def _table(caption: str, columns: Sequence[Column], rows: Sequence[Sequence[str]]) -> Markup:
    heads = joined(element("th", title, scope="col", class_=kind) for title, kind in columns)
    body = joined(
        element(
            "tr",
            joined(
                # On a narrow screen each cell stands in a line of its own, and says itself what it is.
                element("td", cell, class_=kind, data_head=title or None)
                for cell, (title, kind) in zip(row, columns, strict=True)
            ),
        )
        for row in rows
    )
    kind = "short" if len(rows) <= _MAX_UNBROKEN_ROWS else None
    head = element("thead", element("tr", heads))
    return element("table", caption, head, element("tbody", body), class_=kind)


def section(name: str, title: str, *content: str) -> Markup:
    """A part of the page under a heading of its own."""
    heading = element("h2", title, id=f"h-{name}")
    return element("section", heading, *content, aria_labelledby=f"h-{name}", class_=name)


def state(code: Code | UnknownCode | str | None, good: str = "OK") -> Markup:
    """A result with its sign, such as ``✓ OK`` or ``✗ PART_CORRUPT``."""
    if code is None:
        return element("span", good, class_="state good")
    return element("span", code if isinstance(code, str) else code.name, class_="state bad")


def recorded(code: Code | UnknownCode | str | None) -> Markup:
    """The result of an event in a custody log; that other volumes are still to come is no failure."""
    if code == Code.VOLUME_MISSING.name or code is Code.VOLUME_MISSING:
        return element("span", "right, more volumes to come", class_="state step")
    return state(code)


def volume_marks(volumes: Sequence[VolumeFacts]) -> list[str]:
    """The names that the page has for the volumes given: those of the screen and of their labels.

    Copies of one volume, and those without a number, are told apart by letters, in the order given.
    """
    names = [None if volume.place is None else volume_name(volume.place) for volume in volumes]
    counts = Counter(names)
    marks = []
    for index, name in enumerate(names):
        if name is None:
            marks.append(f"volume {_letters(index)}")
        else:
            marks.append(name if counts[name] == 1 else f"{name} ({_letters(index)})")
    return marks


def _letters(index: int) -> str:
    """The letters of the volume at ``index`` of those given: A, B, …, Z, AA."""
    letters = ""
    while index >= 0:
        letters = chr(ord("A") + index % 26) + letters
        index = index // 26 - 1
    return letters


def moment(at: datetime) -> Markup:
    """A time in UTC, as tables show it."""
    told = format_time(at)
    return element("time", told.replace("T", " ").replace("Z", " UTC"), datetime=told)


def code_text(text: str) -> Markup:
    """A digest, a path or another name, set so that it can be compared letter by letter."""
    return element("code", text)


def _marks(facts: ReportFacts) -> dict[str, str]:
    paths = (volume.path for volume in facts.volumes)
    return dict(zip(paths, volume_marks(facts.volumes), strict=True))


# --- findings ----------------------------------------------------------------------------------------------


def findings(facts: ReportFacts) -> Markup:
    """The table of findings; those that no other volume makes good come first."""
    found = gravest_first(facts)
    if not found:
        return Markup()
    columns: list[Column] = [
        ("Code", None),
        ("Volume", "mark"),
        ("Part or file", "name"),
        ("Bytes of its blob", "number"),
        ("Detail", None),
        ("Replaced", "fixed"),
    ]
    marks = _marks(facts)
    content = [
        table(
            "What is wrong, on which volume, and whether another volume here has the same part whole.",
            columns,
            [_finding_row(finding, marks) for finding in found[:MAX_FINDINGS]],
            what="findings",
        )
    ]
    if (rest := len(found) - MAX_FINDINGS) > 0:
        further = counted(rest, "further finding is", "further findings are")
        content.append(element("p", f"{further} listed in the JSON twin only."))
    return section("findings", f"Findings ({len(found):,})", *content)


def gravest_first(facts: ReportFacts) -> list[Finding]:
    """All findings in the order of the table: those that no other volume makes good come first."""
    return sorted(facts.outcome.findings, key=lambda finding: finding.is_replaced)


def named(finding: Finding, facts: ReportFacts) -> Markup:
    """A finding in one line: what it is, which part or file it is about, on which volume."""
    volume = str(finding.volume)
    where = f" on {_marks(facts).get(volume, 'no volume')} ({volume})"
    return joined((state(finding.damage.code), " ", code_text(finding.damage.name), where))


def _finding_row(finding: Finding, marks: Mapping[str, str]) -> list[str]:
    damage = finding.damage
    where = "-"
    if damage.offset_bytes is not None and damage.size_bytes is not None:
        where = f"{damage.offset_bytes:,} to {damage.offset_bytes + damage.size_bytes - 1:,}"
    return [
        state(damage.code),
        marks.get(str(finding.volume), "-"),
        code_text(damage.name),
        where,
        damage.detail or "-",
        "yes" if finding.is_replaced else "no",
    ]


# --- custody -----------------------------------------------------------------------------------------------


def custody(facts: ReportFacts) -> Markup:
    """The section on custody: the chain of each volume, what is wrong with it, and the timeline of all."""
    heads: list[Column] = [
        ("Volume", "mark"),
        ("Entries", "number"),
        ("Chain", None),
        ("SHA-256 of the last line", None),
    ]
    rows = []
    faults: list[list[str]] = []
    for mark, history in zip(volume_marks(facts.volumes), facts.custody.volumes, strict=True):
        log = history.log
        tampering = sorted({f.fault.value for f in history.findings if f.fault.is_tampering})
        other = sorted({f.fault.value for f in history.findings if not f.fault.is_tampering})
        judged = state(", ".join(tampering + other) or None, "unbroken")
        rows.append(
            [
                mark,
                f"{len(log.entries):,}" + (f" + {len(log.side):,} beside" if log.side else ""),
                judged if log.log_sha256 or history.findings else "no log",
                code_text(log.head.sha256) if log.log_sha256 else "-",
            ]
        )
        faults += [
            [mark, finding.fault.value, str(finding.line or "-"), finding.detail]
            for finding in history.findings
        ]
    content = [
        table(
            "The logs as they were before this report was added to them. Keep this page: a log that was "
            "rewritten since will not have these last lines any more.",
            heads,
            rows,
            what="volumes",
        )
    ]
    if faults:
        kinds: list[Column] = [("Volume", "mark"), ("Fault", None), ("Line", "number"), ("Detail", None)]
        content += [element("h3", "Faults of the logs"), table("", kinds, faults, what="faults")]
    return section("custody", "Custody", *content, _timeline(facts))


def _timeline(facts: ReportFacts) -> Markup:
    """One row for each command, newest last; what logs say that are not believed stands apart from it."""
    caption = "By the clocks of the machines that wrote it."
    told = [_events(facts, "Timeline", caption, is_believed=True)]
    doubted = (
        "Each of these logs has faults, as told above: somebody who had the volume may have written any of "
        "it. It is shown as it stands, as evidence; it is not what happened."
    )
    told.append(_events(facts, "Not believed: what the faulty logs say", doubted, is_believed=False))
    found = joined(one for one in told if one)
    return found or element("p", "Nothing is recorded on these volumes.")


def _events(facts: ReportFacts, title: str, caption: str, *, is_believed: bool) -> Markup:
    """One row for each command; what it wrote to several logs is drawn together.

    What stands on this machine was never on the volume: it is believed whatever became of the log.
    """
    groups: dict[tuple[str, ...], list[str]] = {}
    total = 0
    for mark, history in zip(volume_marks(facts.volumes), facts.custody.volumes, strict=True):
        newest = newest_events(history).log
        own = newest.entries if history.is_believed is is_believed else ()
        total += len(history.log.entries) if own else 0
        total += len(history.log.side) if is_believed else 0
        for is_beside, entries in ((False, own), (True, newest.side if is_believed else ())):
            for entry in entries:
                place = f"{mark} no. {entry.event.number}{' (beside)' if is_beside else ''}"
                groups.setdefault(_event_key(entry, facts.outcome.transfer_id), []).append(place)
    if not groups:
        return Markup()
    kept = sorted(groups.items(), key=lambda item: item[0][0])[-MAX_TIMELINE:]
    rows = [[at, ", ".join(places), *rest] for (at, *rest), places in kept]
    columns: list[Column] = [
        ("Time (UTC)", "fixed"),
        ("Entries", "name"),
        ("Event", "words"),
        ("Result", "words"),
        ("Who, where", None),
        ("Counts", None),
    ]
    listed = sum(len(places) for _, places in kept)
    left = f" The newest {listed:,} of {total:,} entries." if listed < total else ""
    return joined((element("h3", title), table(f"{caption}{left}", columns, rows, what="events")))


def _event_key(entry: LoggedEvent, transfer_id: str) -> tuple[str, ...]:
    """Time, event, result, who, counts: what two entries of one command have in common."""
    body = entry.event.body
    other = f" ({body.transfer_id})" if body.transfer_id not in {None, transfer_id} else ""
    told = [in_words(name, count) for name, count in body.counts.items() if count]
    counts = ", ".join(told[:_MAX_COUNTS])
    return (
        format_time(body.at).replace("T", " ").rstrip("Z"),
        f"{ACTIONS.get(body.action.value, body.action.value)}{other}",
        recorded(body.code),
        f"{body.who} on {body.host}, {body.tool.name} {body.tool.version}",
        counts or "-",
    )


def in_words(name: str, count: int) -> str:
    """A count in words: ``notSeenParts`` and 2 are ``2 parts not seen``."""
    *words, noun = re.sub("([A-Z])", r" \1", name).lower().split()
    if noun == "bytes":
        return " ".join([size(count), *words])
    return " ".join([f"{count:,}", noun.removesuffix("s") if count == 1 else noun, *words])


# --- receipts and artifacts --------------------------------------------------------------------------------


def receipts(facts: ReportFacts) -> Markup:
    """The table of the target's decisions, as far as its receipts are on the volumes."""
    columns: list[Column] = [
        ("Volume", "mark"),
        ("Receipt", "name"),
        ("Signature", None),
        ("Decision", None),
        ("Decided at", "fixed"),
        ("Artifacts proven", "number"),
    ]
    rows: list[list[str]] = []
    marks = _marks(facts)
    for fact in facts.receipts:
        where = [marks.get(fact.volume, "-"), code_text(fact.name)]
        receipt = fact.receipt
        if receipt is None:
            rows.append([*where, state(fact.code), fact.detail or "-", "-", "-"])
            continue
        proven = f"{fact.proven:,} of {len(receipt.artifacts):,}"
        decision = joined((state(receipt.code, "imported"), f" by {receipt.target}"))
        rows.append([*where, state(None), decision, moment(receipt.decided_at), proven])
    if not rows:
        return Markup()
    caption = "Each was verified against the trust policy and compared with the bundle on its volume."
    return section("receipts", "Receipts", table(caption, columns, rows, what="receipts"))


def artifacts(facts: ReportFacts) -> Markup:
    """The table of the artifacts that the bundle carries."""
    if facts.manifest is None:
        return Markup()
    carried = facts.manifest.artifacts
    return section(
        "artifacts",
        f"Artifacts ({len(carried):,})",
        table(
            "By reference in both registries, with the digest that was signed. What nobody ordered, and "
            "travels because it belongs to another artifact, has the kind that it says it is.",
            [("Reference", None), ("Digest", None), ("Kind", None)],
            [
                [
                    code_text(artifact.reference),
                    code_text(artifact.digest),
                    artifact.artifact_type or "as ordered",
                ]
                for artifact in carried
            ],
            what="artifacts",
        ),
    )
