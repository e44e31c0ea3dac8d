"""The projection in memory."""

import base64
from collections.abc import Sequence

from airgap.errors import Code, OperatorError, ServiceError
from airgap.states import Kind
from function_app.ports import JournalRow, RowFilter

_PREFIX = "after "


class MemoryProjection:
    """The projection port; while ``is_away`` it is as a table service that does not answer."""

    def __init__(self) -> None:
        self.rows: dict[tuple[Kind, str], JournalRow] = {}
        self.is_away = False

    def put(self, row: JournalRow) -> int:
        self._require_service()
        found = self.rows.get((row.kind, row.about))
        if found is not None and found.number > row.number:
            return found.number
        self.rows[row.kind, row.about] = row
        return row.number

    def page(
        self, kind: Kind, *, where: RowFilter, limit: int, token: str | None = None
    ) -> tuple[Sequence[JournalRow], str | None]:
        self._require_service()
        wanted = [row for row in self.rows.values() if row.kind is kind and _is_wanted(row, where)]
        wanted.sort(key=_place)
        if token is not None:
            after = _read(token)
            wanted = [row for row in wanted if str(_place(row)) > after]
        page = wanted[:limit]
        return page, _write(page[-1]) if len(wanted) > limit else None

    def _require_service(self) -> None:
        if self.is_away:
            raise ServiceError(Code.SERVICE_UNREACHABLE, "table journal")


def _place(row: JournalRow) -> str:
    return f"{10**12 - int(row.created_at.timestamp()):013d}-{row.about}"


def _is_wanted(row: JournalRow, where: RowFilter) -> bool:
    return (
        where.state in (None, row.state)
        and where.channel in (None, row.channel)
        and (where.created_from is None or row.created_at >= where.created_from)
        and (where.created_before is None or row.created_at < where.created_before)
    )


def _write(row: JournalRow) -> str:
    return base64.urlsafe_b64encode((_PREFIX + _place(row)).encode()).decode()


def _read(token: str) -> str:
    try:
        text = base64.b64decode(token, altchars=b"-_", validate=True).decode()
    except ValueError:
        text = ""
    if not text.startswith(_PREFIX):
        raise OperatorError(Code.REQUEST_INVALID, "token")
    return text.removeprefix(_PREFIX)
