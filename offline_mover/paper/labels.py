"""The parts of the report that leave the page: lines signed by hand, and labels put on the volumes."""

from __future__ import annotations

from offline_mover.bags.volume_names import capitalised, volume_name
from offline_mover.paper import qr_code
from offline_mover.paper.facts import ReportFacts, VolumeFacts
from offline_mover.paper.markup import Markup, element, joined
from offline_mover.paper.tables import moment, section


def signing_lines() -> Markup:
    """The lines for the signatures of the two persons of a handover."""
    lines = ("Handed over by: name, date, signature", "Received by: name, date, signature")
    return element("div", joined(element("div", line) for line in lines), class_="sign")


def labels(facts: ReportFacts) -> Markup:
    """The labels to cut out, one for each volume of an accepted bundle."""
    found = [_label(facts, volume, text) for volume in facts.volumes if (text := facts.label(volume))]
    if not found:
        return Markup()
    why = (
        "To cut out, one for each volume. The code says the same as the text beside it. A label tells which "
        "volume it is, not that the volume is right; for that, verify it."
    )
    return section("labels", "Labels", element("p", why), *found)


def _label(facts: ReportFacts, volume: VolumeFacts, text: str) -> Markup:
    digest = volume.manifest_sha256 or ""
    manifest = facts.manifest
    identity = volume.identity
    known_by = ", ".join(name for name in (identity.label, identity.serial) if name)
    route = "" if manifest is None else f"{manifest.source.registry} to {', '.join(manifest.audience[:3])}"
    till = "" if manifest is None else joined(("expires ", moment(manifest.expires_at)))
    return element(
        "div",
        qr_code.qr_svg(text, text),
        element(
            "div",
            element("p", element("strong", capitalised(volume_name(volume.place)))),
            element("p", "Transfer ", element("b", facts.outcome.transfer_id)),
            element("p", route),
            element("p", till),
            element("p", known_by) if known_by else "",
            element(
                "p",
                "Manifest digest sha256:",
                *(element("code", _grouped(half), class_="digest") for half in (digest[:32], digest[32:])),
            ),
        ),
        class_="label",
    )


def _grouped(digits: str) -> str:
    """Eight digits at a time, for whoever compares them by eye."""
    return " ".join(digits[at : at + 8] for at in range(0, len(digits), 8))
