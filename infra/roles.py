"""Who may do what: ``roles.json``, from which the table of the README is written.

Each of its rows has an identity (side and ``app`` or ``pipeline``), what the role is ``on``, the role's name
in Azure, why it is there, and what becomes of the app without it. The tests hold the templates to it.
"""

import json
from pathlib import Path

FOLDER = Path(__file__).parent
PAGE = FOLDER / "README.md"
_BEGIN, _END = "<!-- roles: written by `./dev infra compile` from roles.json -->\n", "<!-- /roles -->\n"


def table() -> str:
    """The rows as a table of the README; those that both sides have are one row."""
    rows = json.loads((FOLDER / "roles.json").read_text(encoding="utf-8"))
    seen: dict[tuple[str, ...], list[str]] = {}
    for row in rows:
        on = ", ".join(f"`{name}`" for name in row["on"])
        seen.setdefault((on, row["role"], row["why"], row["without"]), []).append(row["identity"])
    lines = [f"| {' and '.join(who)} | {' | '.join(cells)} |" for cells, who in seen.items()]
    return "\n".join(["| identity | on | role | why | without it |", "|---|---|---|---|---|", *lines, ""])


def page() -> str:
    """The README with its table written anew; what stands round it stays."""
    text = PAGE.read_text(encoding="utf-8")
    before, _, rest = text.partition(_BEGIN)
    _, _, after = rest.partition(_END)
    return before + _BEGIN + table() + _END + after
