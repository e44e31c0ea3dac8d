"""The label of a volume: a text that names bundle and volume, also as a QR code (ISO/IEC 18004)."""

from __future__ import annotations

from offline_mover.bags.bag_texts import Place
from offline_mover.bags.volume_names import volume_name
from offline_mover.paper.markup import Markup, element

QUIET_ZONE_MODULES = 4
"""Light modules around the symbol (ISO/IEC 18004 §5.3.8)."""


def label_text(transfer_id: str, manifest_sha256: str, place: Place | None) -> str:
    """The text that a scanner shows: ``acr-airgap-transfer:k3v9x2m7q1 sha256:… volume 2 of 3``."""
    return f"acr-airgap-transfer:{transfer_id} sha256:{manifest_sha256} {volume_name(place)}"


def qr_svg(text: str, title: str) -> Markup:
    """A QR code with the text, of error correction level M (15 %), quiet zone included; one inline SVG.

    Args:
        text: ASCII text; that of a label makes a symbol of version 7 to 9.
        title: the words that a screen reader says of it.
    """
    import segno  # noqa: PLC0415 - 100 ms that only a report needs

    code = segno.make_qr(text, error="m", boost_error=False)
    side = len(code.matrix) + 2 * QUIET_ZONE_MODULES
    runs = "".join(
        f"M{QUIET_ZONE_MODULES + start} {QUIET_ZONE_MODULES + y}h{length}v1h-{length}z"
        for y, row in enumerate(code.matrix)
        for start, length in _dark_runs(row)
    )
    return element(
        "svg",
        element("title", title),
        element("path", d=f"M0 0h{side}v{side}H0z", fill="#fff"),
        element("path", d=Markup(runs), fill="#000"),
        class_="qr",
        role="img",
        viewBox=f"0 0 {side} {side}",
        shape_rendering="crispEdges",
    )


def _dark_runs(row: bytes | bytearray) -> list[tuple[int, int]]:
    """Start and length of each run of dark modules."""
    runs: list[tuple[int, int]] = []
    for x, is_dark in enumerate(row):
        if not is_dark:
            continue
        if runs and sum(runs[-1]) == x:
            runs[-1] = (runs[-1][0], runs[-1][1] + 1)
        else:
            runs.append((x, 1))
    return runs
