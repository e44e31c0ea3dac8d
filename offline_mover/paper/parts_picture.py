"""A picture of the parts as inline SVG: one cell for each part or run of parts, with damage in its place.

Colour helps but is not needed: each state has a form of its own, which a black-and-white print keeps.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import Enum

from offline_mover.bags.bag_group import Inspection, PartState
from offline_mover.paper.markup import Markup, element, joined

MAX_CELLS = 2500
"""Of all blobs together; with more parts than this, a cell stands for a run of them.

One blob of so many fits on a printed page.
"""
MAX_BLOBS = 24
"""So many blobs are always drawn; of the others only those in which something is not whole."""

_COLUMNS = 50
_PITCH = 10  # units from cell to cell
_SIDE = 8  # units of a cell's side


class Cell(Enum):
    """The states that a cell can show: each with its words, and the path of its form in a square of 8 units.

    In rising order of gravity: of a run of parts, the gravest is shown. The path is relative throughout.
    """

    WHOLE = ("whole", "h8v8h-8z")
    REPLACED = ("whole, beside a damaged copy", "h8v8h-8zm4.6 0v3.4h3.4v-3.4z")
    NOT_SEEN = ("on a volume not shown", "h8v8h-8zm.7 .7v6.6h6.6v-6.6zm2.3 2.3h2v2h-2z")
    MISSING = ("missing", "h8v8h-8zm1.5 1.5v5h5v-5z")
    DAMAGED = (
        "damaged",
        "h8v8h-8zm1 2.2l1.8 1.8-1.8 1.8 1.2 1.2 1.8-1.8 1.8 1.8 1.2-1.2-1.8-1.8 1.8-1.8-1.2-1.2-1.8 1.8z",
    )

    @property
    def words(self) -> str:
        """The cell's words for the legend."""
        return self.value[0]

    @property
    def form(self) -> str:
        """The SVG path of the cell's form, after the ``M`` to its corner."""
        return self.value[1]

    @property
    def css_class(self) -> str:
        """The cell's CSS class, such as ``cell-damaged``."""
        return f"cell-{self.name.lower().replace('_', '-')}"


_CELLS = {
    PartState.WHOLE: Cell.WHOLE,
    PartState.NOT_SEEN: Cell.NOT_SEEN,
    PartState.MISSING: Cell.MISSING,
    PartState.DAMAGED: Cell.DAMAGED,
}
_GRAVITY = {cell: rank for rank, cell in enumerate(Cell)}


@dataclass(frozen=True, slots=True, kw_only=True)
class BlobRow:
    """A transfer blob in the picture: its name, size in bytes, and a cell for each part in order."""

    name: str
    size_bytes: int
    cells: tuple[Cell, ...]

    @property
    def is_whole(self) -> bool:
        """Whether every part of the blob is whole, so that there is nothing to show."""
        return all(cell is Cell.WHOLE for cell in self.cells)

    def runs(self) -> Iterator[tuple[int, int, Cell]]:
        """The runs of parts in one state: numbers of the first and the last part, from 1, and the state."""
        first = 1
        for number, cell in enumerate(self.cells, start=1):
            if number == len(self.cells) or self.cells[number] is not cell:
                yield first, number, cell
                first = number + 1

    def drawn(self, run_length: int) -> list[Cell]:
        """The cells to draw, one for each ``run_length`` parts: the gravest among them."""
        return [
            max(self.cells[at : at + run_length], key=_GRAVITY.__getitem__)
            for at in range(0, len(self.cells), run_length)
        ]


def blob_rows(inspection: Inspection) -> tuple[BlobRow, ...]:
    """The rows of the picture that an inspection makes, one for each blob."""
    doubtful = {finding.damage.name for finding in inspection.findings if finding.is_replaced}
    rows = []
    for blob in inspection.group.manifest.blobs:
        cells = (
            Cell.REPLACED
            if inspection.states[part.name] is PartState.WHOLE and part.name in doubtful
            else _CELLS[inspection.states[part.name]]
            for part, _ in blob.parts()
        )
        rows.append(BlobRow(name=blob.name, size_bytes=blob.size_bytes, cells=tuple(cells)))
    return tuple(rows)


def run_length(rows: Sequence[BlobRow]) -> int:
    """The number of parts for which one cell stands in a picture of these rows."""
    return -(-sum(len(row.cells) for row in rows) // MAX_CELLS) or 1


def shown_rows(rows: Sequence[BlobRow]) -> list[BlobRow]:
    """The rows that are drawn: the first blobs, and each other in which something is not whole."""
    return [row for index, row in enumerate(rows) if index < MAX_BLOBS or not row.is_whole]


def blob_svg(row: BlobRow, length: int) -> Markup:
    """The picture of one blob; ``length`` parts make a cell in the whole picture, so that rows compare.

    A line of text says the same to whoever cannot see it.
    """
    cells = row.drawn(length)
    lines = -(-len(cells) // _COLUMNS)
    paths = []
    for state in Cell:
        marks = "".join(
            f"M{index % _COLUMNS * _PITCH} {index // _COLUMNS * _PITCH}{state.form}"
            for index, cell in enumerate(cells)
            if cell is state
        )
        if marks:
            paths.append(_path(marks, state))
    width, height = _COLUMNS * _PITCH - (_PITCH - _SIDE), lines * _PITCH - (_PITCH - _SIDE)
    return element(
        "svg",
        element("title", f"Blob {row.name}: {told(row)}"),
        *paths,
        class_="cells",
        role="img",
        viewBox=f"0 0 {width} {height}",
    )


def told(row: BlobRow) -> str:
    """The row in words: ``20000 parts: 19998 whole, 2 damaged``."""
    counts = [(cell, sum(found is cell for found in row.cells)) for cell in Cell]
    listed = ", ".join(f"{count} {cell.words}" for cell, count in counts if count)
    return f"{len(row.cells)} part{'' if len(row.cells) == 1 else 's'}: {listed}"


def legend() -> Markup:
    """The legend of the picture: each form with its words."""
    return element("ul", joined(element("li", _sample(cell), cell.words) for cell in Cell), class_="legend")


def _sample(cell: Cell) -> Markup:
    return element("svg", _path(f"M0 0{cell.form}", cell), viewBox="0 0 8 8", aria_hidden="true")


def _path(marks: str, cell: Cell) -> Markup:
    return element("path", d=Markup(marks), class_=cell.css_class, fill_rule="evenodd")
