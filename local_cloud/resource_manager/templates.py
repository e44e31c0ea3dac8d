"""JSON as ARM reads templates: with comments, texts over several lines, and names without quotes.

`az` sends the file as it is, behind a member whose name has no quotes: ``{"properties": {…, template:{…}}}``
(azure-cli, command_modules/resource/custom.py, ``JsonCTemplatePolicy``).
"""

import json
import re

_PIECES = re.compile(
    r'(?P<text>"(?:[^"\\]|\\.)*")|(?P<comment>//[^\n]*|/\*.*?\*/)|(?P<name>[A-Za-z_$][\w$]*)(?=\s*:)',
    re.DOTALL,
)


def read_template(raw: bytes) -> object:
    """Read such JSON.

    Raises:
        ValueError: it is not JSON, not even with these liberties.
        RecursionError: its values are nested too deeply.
    """
    return json.loads(_PIECES.sub(_plain, raw.decode("utf-8-sig")), strict=False)


def _plain(piece: re.Match[str]) -> str:
    match piece.lastgroup:
        case "comment":
            return " "
        case "name":
            return f'"{piece[0]}"'
        case _:
            return piece[0]
