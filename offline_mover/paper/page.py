"""The report as one HTML page that needs nothing else: no script, no fetch, printable on A4."""

from __future__ import annotations

from airgap import __version__
from airgap.manifest import BundleManifest
from airgap.parts import PART_NAME
from airgap.recarry import describe_parts
from offline_mover.amounts import counted, size
from offline_mover.paper import labels as report_labels
from offline_mover.paper import parts_picture, tables
from offline_mover.paper.facts import ReportFacts, Status, VolumeFacts
from offline_mover.paper.markup import Markup, element, joined
from offline_mover.paper.style import STYLE
from offline_mover.paper.tables import code_text, moment, section, state, table

CONTENT_POLICY = (
    "default-src 'none'; style-src 'unsafe-inline'; img-src data:; base-uri 'none'; form-action 'none'"
)
"""So that even a page that somebody has altered fetches and runs nothing in a browser that was told."""

_MAX_NAMED = 5
"""Findings that the banner names; their table has all."""

_ICONS = {
    Status.WHOLE: "M20 2a18 18 0 1 0 0 36a18 18 0 1 0 0-36zm-2.6 26.2-8-8 2.9-2.9 5.1 5.1 10.4-10.4 2.9 2.9z",
    Status.INCOMPLETE: "M20 2a18 18 0 1 0 0 36a18 18 0 1 0 0-36zm0 4v28a14 14 0 0 1 0-28z",
    Status.UNCLEAN: "M20 3 39 37H1zm-2 12v11h4V15zm0 13.500v4h4v-4z",
    Status.DAMAGED: "M20 3 39 37H1zm-2 12v11h4V15zm0 13.500v4h4v-4z",
    Status.TAMPERED: "M20 3 39 37H1zm-2 12v11h4V15zm0 13.500v4h4v-4z",
    Status.REFUSED: "M12.500 2h15L38 12.500v15L27.500 38h-15L2 27.500v-15zM9 17v6h22v-6z",
}
"""Each of another outline, in a square of 40 units."""


_TITLE = "Transfer "
_WITHIN_BYTES = 1024
"""So near its beginning a page has its title."""


def is_page(content: bytes) -> bool:
    """Whether a file looks like a page of this tool, so that the next one may take its place."""
    return content.startswith(b"<!DOCTYPE html>\n") and f"<title>{_TITLE}".encode() in content[:_WITHIN_BYTES]


def page(facts: ReportFacts) -> bytes:
    """The whole page in UTF-8, in which every value is escaped, wherever it comes from."""
    title = f"{_TITLE}{facts.outcome.transfer_id}: {facts.status.value[1]}"
    head = element(
        "head",
        element("meta", charset="utf-8"),
        element("meta", http_equiv="Content-Security-Policy", content=Markup(CONTENT_POLICY)),
        element("meta", name="referrer", content="no-referrer"),
        element("meta", name="viewport", content="width=device-width, initial-scale=1"),
        element("title", f"{title}, {facts.made_at:%Y-%m-%d}"),
        element("style", Markup(STYLE)),
    )
    body = element(
        "body",
        _top(facts),
        element(
            "main",
            _banner(facts),
            _figures(facts),
            _notes(facts),
            _bundle(facts),
            _volumes(facts),
            _picture(facts),
            tables.findings(facts),
            tables.custody(facts),
            tables.receipts(facts),
            tables.artifacts(facts),
            report_labels.signing_lines(),
            _footer(),  # before the labels, which are cut out: alone on a last page it would be lost
            report_labels.labels(facts),
        ),
    )
    return f"<!DOCTYPE html>\n{element('html', head, body, lang='en')}\n".encode()


# --- headline ----------------------------------------------------------------------------------------------


def _top(facts: ReportFacts) -> Markup:
    return element(
        "header",
        element(
            "div",
            element("p", "ACR Airgap Transfer · report of the volumes", class_="kind"),
            element("h1", f"Transfer {facts.outcome.transfer_id}"),
        ),
        element(
            "div",
            moment(facts.made_at),
            element("br"),
            f"by {facts.who} on {facts.host}",
            class_="made",
        ),
    )


def _banner(facts: ReportFacts) -> Markup:
    outcome = facts.outcome
    name, word = facts.status.value
    code = "" if outcome.code is None else f"{outcome.code.name} · exit code {outcome.exit_code}"
    icon = element(
        "svg",
        element("path", d=Markup(_ICONS[facts.status]), fill="currentColor", fill_rule="evenodd"),
        viewBox="0 0 40 40",
        aria_hidden="true",
    )
    told = element(
        "div",
        element("p", word, " ", element("span", code, class_="code"), class_="word"),
        element("p", outcome.verdict),
        _worst(facts),
        element("p", element("b", "Next: "), facts.next_step, class_="next"),
    )
    return element("section", icon, told, class_=f"banner {name}", aria_label="Verdict")


def _worst(facts: ReportFacts) -> Markup:
    """The first findings by name: the verdict above only counts them."""
    found = tables.gravest_first(facts)
    if not found:
        return Markup()
    shown = [tables.named(finding, facts) for finding in found[:_MAX_NAMED]]
    rest = len(found) - len(shown)
    all_of_them = element("a", f"{rest:,} more below" if rest else "more below", href="#h-findings")
    return element("ul", joined(element("li", told) for told in (*shown, all_of_them)), class_="worst")


def _figures(facts: ReportFacts) -> Markup:
    """The counts of the parts at a glance."""
    counts = facts.outcome.counts
    if not counts:
        return Markup()
    wanted = (
        (f"{counts['wholeParts']:,}", f"whole of {counted(counts['parts'], 'part')}", False),
        (f"{counts['damagedParts']:,}", "damaged", counts["damagedParts"] > 0),
        (f"{counts['missingParts']:,}", "missing", counts["missingParts"] > 0),
        (f"{counts['notSeenParts']:,}", "on volumes not shown", False),
        (size(counts["bytes"]), "in the whole bundle", False),
    )
    return element(
        "ul",
        joined(
            element("li", element("b", figure), words, class_="off" if is_off else None)
            for figure, words, is_off in wanted
        ),
        class_="figures",
    )


def _notes(facts: ReportFacts) -> Markup:
    if not facts.notes:
        return Markup()
    return element("ul", joined(element("li", note) for note in facts.notes), class_="notes")


# --- the bundle --------------------------------------------------------------------------------------------


def _bundle(facts: ReportFacts) -> Markup:
    manifest, verdict = facts.manifest, facts.verdict
    if manifest is None or verdict is None:
        why = "No single bundle manifest that a trusted key signed is on these volumes, so none is told."
        return section("bundle", "Bundle", element("p", why))
    is_refused = facts.status is Status.REFUSED
    signers: list[list[str]] = [
        [signer.role, signer.scheme, code_text(signer.keyid)] for signer in verdict.signers
    ]
    whose = (
        table(
            "Whose signatures of the bundle manifest are valid and count.",
            [("Role", "fixed"), ("Scheme", "fixed"), ("Key id", None)],
            signers,
            what="signers",
        )
        if signers
        else element("p", "No signature was counted towards a role.")
    )
    said = "A trusted key signed this, and the trust policy refuses it all the same:"
    return joined(
        (
            section(
                "bundle",
                "Bundle, as refused" if is_refused else "Bundle",
                element("p", said) if is_refused else "",
                _bundle_list(facts, manifest),
            ),
            section("signers", "Signers", whose),
        )
    )


def _bundle_list(facts: ReportFacts, manifest: BundleManifest) -> Markup:
    days = (manifest.expires_at - facts.made_at).days
    left = f", in {counted(days, 'day')}" if days >= 0 else ", past"
    source = manifest.source
    digest = facts.verdict.manifest_sha256 if facts.verdict else None
    parts, blobs = counted(manifest.part_count, "part"), counted(len(manifest.blobs), "blob")
    pairs: list[tuple[str, str]] = [
        ("Channel", manifest.channel),
        ("Sequence", str(manifest.sequence)),
        ("Created", moment(manifest.created_at)),
        ("Expires", joined((moment(manifest.expires_at), left))),
        ("Source", joined((code_text(source.registry), f" ({source.cloud})"))),
        ("Export pipeline", source.export_pipeline),
        ("Size", f"{size(manifest.size_bytes)} in {parts} of {blobs}"),
        ("Ordered by", manifest.requested_by or "not said"),
        ("Made by", f"{manifest.tool.name} {manifest.tool.version}"),
    ]
    wide: list[tuple[str, str]] = [
        ("Audience", joined((code_text(name) for name in manifest.audience), ", ")),
        ("Manifest digest", code_text(f"sha256:{digest}")),
    ]
    if manifest.previous_sha256:
        wide.append(("Preceding digest", code_text(f"sha256:{manifest.previous_sha256}")))
    if manifest.transfer_id != facts.outcome.transfer_id:
        wide.append(("Transfer", code_text(manifest.transfer_id)))
    return element(
        "dl",
        joined(joined((element("dt", term), element("dd", told))) for term, told in pairs),
        joined(
            joined((element("dt", term, class_="wide"), element("dd", told, class_="wide")))
            for term, told in wide
        ),
    )


# --- volumes and parts -------------------------------------------------------------------------------------


def _volumes(facts: ReportFacts) -> Markup:
    is_refused = facts.status is Status.REFUSED
    columns: list[tables.Column] = [("Volume", "mark"), ("Folder", None), ("Medium", None)]
    if is_refused:
        columns += [("Manifest digest", None), ("Verdict", None)]
    else:
        columns += [("Parts", "number"), ("Bytes", "number"), ("Verdict", None)]
    rows = [
        [mark, code_text(volume.path), _medium(volume), *_held(volume, is_refused=is_refused)]
        for mark, volume in zip(tables.volume_marks(facts.volumes), facts.volumes, strict=True)
    ]
    absent = element("p", f"Not shown: {_numbered(facts.absent)}.") if facts.absent else ""
    caption = (
        "The media that were looked at, in the order given. Label and serial are what the file system says."
    )
    return section("volumes", "Volumes", table(caption, columns, rows, what="volumes"), absent)


def _numbered(numbers: tuple[int, ...]) -> str:
    most = 50
    listed = ", ".join(str(number) for number in numbers[:most])
    more = f" and {len(numbers) - most} more" if len(numbers) > most else ""
    return f"volume{'s' if len(numbers) > 1 else ''} {listed}{more}"


def _medium(volume: VolumeFacts) -> Markup:
    identity = volume.identity
    total = None if identity.total_bytes is None else size(identity.total_bytes)
    named = [
        element("b", identity.label) if identity.label else "no label",
        joined(("serial ", code_text(identity.serial))) if identity.serial else "no serial",
        " ".join(word for word in (total, identity.file_system) if word) or "unknown file system",
    ]
    if identity.is_read_only:
        named.append("read-only")
    return joined(named, ", ")


def _held(volume: VolumeFacts, *, is_refused: bool) -> list[str]:
    if is_refused:
        digest = code_text(volume.manifest_sha256) if volume.manifest_sha256 else "none vouched for"
        detail = f" {volume.detail}" if volume.detail else ""
        return [digest, joined((state(volume.code, "accepted by itself"), detail))]
    parity = f" and {counted(volume.shards, 'parity shard')}" if volume.shards else ""
    return [
        f"{volume.whole_parts:,} of {volume.parts:,} whole{parity}",
        f"{volume.size_bytes:,}",
        state(volume.code),
    ]


def _picture(facts: ReportFacts) -> Markup:
    if not facts.blobs:
        return Markup()
    length = parts_picture.run_length(facts.blobs)
    shown = parts_picture.shown_rows(facts.blobs)
    each = (
        "One square is one part"
        if length == 1
        else f"One square stands for {length:,} parts, the worst showing"
    )
    blobs = joined(
        element(
            "div",
            element("h3", f"Blob {row.name} · {size(row.size_bytes)} · {parts_picture.told(row)}"),
            parts_picture.blob_svg(row, length),
            class_="blob",
        )
        for row in shown
    )
    rest = len(facts.blobs) - len(shown)
    further = counted(rest, "further blob is", "further blobs are")
    left = element("p", f"{further} whole and not drawn.") if rest else ""
    return section(
        "parts",
        "Parts",
        element("p", f"{each}, in the order of the blob."),
        parts_picture.legend(),
        blobs,
        left,
        _lost(facts),
    )


def _lost(facts: ReportFacts) -> Markup | str:
    """The parts to bring again, in words: what a picture cannot tell to everybody."""
    names = {
        finding.damage.name
        for finding in facts.outcome.findings
        if not finding.is_replaced and PART_NAME.fullmatch(finding.damage.name)
    }
    if not names:
        return ""
    told = describe_parts(sorted(names), most=100)
    return element("p", element("b", f"Lost parts ({len(names):,}): "), code_text(told))


def _footer() -> Markup:
    return element(
        "footer",
        f"Written by offline-mover {__version__}. This page is not signed: whoever can write a file can "
        "write another one like it. Trust comes from the signed bundle manifest on the volumes and from your "
        "trust policy; to be sure, run verify again.",
    )
