"""The projection on Azure Table Storage: one table, one partition for transfers and one for imports.

Needs the role Storage Table Data Contributor on the table. A row key begins with the seconds from the
creation to the end of the year 9999, so that the service's own order, ascending by row key, is newest first.
"""

import base64
import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from azure.core import MatchConditions
from azure.core.credentials import TokenCredential
from azure.core.exceptions import (
    HttpResponseError,
    ResourceExistsError,
    ResourceModifiedError,
    ResourceNotFoundError,
    ServiceResponseError,
)
from azure.core.pipeline.transport import RequestsTransport
from azure.data.tables import TableClient, TableEntity, UpdateMode

from airgap.errors import Code, OperatorError, ServiceError
from airgap.fields import format_time, parse_time
from airgap.states import Kind, State
from function_app.azure.errors import service_errors
from function_app.ports import JournalRow, RowFilter
from function_app.storage.paths import JOURNAL

_LAST_SECOND = int(datetime(9999, 12, 31, 23, 59, 59, tzinfo=UTC).timestamp())
_MAX_TRIES = 10
_MAX_SERVICE_PAGES = 20
"""Of one call: where a filter leaves out nearly everything, the service answers with many empty pages."""

_MAX_TOKEN = 2048
_BAD_REQUEST = 400
_CONNECT_S = 5
_READ_S = 15
"""Shorter than elsewhere: whoever writes a row does not depend on it."""


class AzureTables:
    """The port :class:`~function_app.ports.Projection` on the table ``journal`` of one storage account."""

    def __init__(self, account_url: str, credential: TokenCredential, *, retries: int = 2) -> None:
        self._table = TableClient(
            account_url,
            JOURNAL,
            credential=credential,
            retry_total=retries,
            retry_backoff_factor=0.5,
            transport=_Transport(connection_timeout=_CONNECT_S, read_timeout=_READ_S),
        )

    def close(self) -> None:
        """Close all connections to the table service."""
        self._table.close()

    def put(self, row: JournalRow) -> int:
        """See the port."""
        entity = _entity(row)
        with service_errors(f"table {JOURNAL}"):
            for _ in range(_MAX_TRIES):
                found = self._find(entity)
                if found is not None and found["number"] > row.number:
                    return int(found["number"])
                if self._write(entity, found):
                    return row.number
        raise ServiceError(Code.SERVICE_THROTTLED, f"table {JOURNAL}: too many write the row of {row.about}")

    def page(
        self, kind: Kind, *, where: RowFilter, limit: int, token: str | None = None
    ) -> tuple[Sequence[JournalRow], str | None]:
        """See the port."""
        query, parameters = _query(kind, where)
        start: Any = None if token is None else _continuation(token)
        with service_errors(f"table {JOURNAL}"):
            found = self._table.query_entities(query, parameters=parameters, results_per_page=limit)
            pages: Any = found.by_page(start)
            rows: list[JournalRow] = []
            for _ in range(_MAX_SERVICE_PAGES):
                try:
                    rows = [_row(entity) for entity in next(pages, ())]
                except HttpResponseError as error:
                    if token is not None and error.status_code == _BAD_REQUEST:
                        raise _bad_token() from None
                    raise
                if rows or not pages.continuation_token:
                    break
        return rows, _token(pages.continuation_token)

    def _find(self, entity: Mapping[str, Any]) -> TableEntity | None:
        try:
            return self._table.get_entity(entity["PartitionKey"], entity["RowKey"])
        except ResourceNotFoundError as error:
            if _is_missing_table(error):
                raise
            return None

    def _write(self, entity: Mapping[str, Any], found: TableEntity | None) -> bool:
        """Put ``entity`` in the place of ``found``; ``False`` if something else is there by now."""
        try:
            if found is None:
                self._table.create_entity(entity)
            elif {name: found.get(name) for name in entity} != entity:
                self._table.update_entity(
                    entity,
                    mode=UpdateMode.REPLACE,
                    etag=found.metadata["etag"],
                    match_condition=MatchConditions.IfNotModified,
                )
        except (ResourceExistsError, ResourceModifiedError):
            return False
        except ResourceNotFoundError as error:
            if _is_missing_table(error):
                raise
            return False
        return True


class _Transport(RequestsTransport):  # type: ignore[misc]  # azure-core imports it late, so untyped
    """Says of an answer that breaks off that none came: TableClient looks into the answer of an error."""

    def send(self, request: Any, **options: Any) -> Any:
        """The service's answer.

        Raises:
            ServiceResponseError: also where the answer broke off; azure-core says ``HttpResponseError`` then,
                in which azure-data-tables expects an answer.
        """
        try:
            return super().send(request, **options)
        except HttpResponseError as error:
            raise ServiceResponseError(error, error=error) from error


def _entity(row: JournalRow) -> dict[str, Any]:
    """A row as the table keeps it; the service has no null, so that what is unknown is empty or 0."""
    return {
        "PartitionKey": row.kind.value,
        "RowKey": f"{_age_key(row.created_at)}-{row.about}",
        "about": row.about,
        "number": row.number,
        "state": row.state.value,
        "channel": row.channel or "",
        "code": row.code or "",
        "detail": row.detail or "",
        "requested": row.requested or 0,
        "artifacts": row.artifacts or 0,
        "blobs": row.blobs or 0,
        "createdAt": format_time(row.created_at),
        "updatedAt": format_time(row.updated_at),
    }


def _row(entity: Mapping[str, Any]) -> JournalRow:
    """The row that an entity was made from.

    Raises:
        ServiceError: ``SERVICE_UNEXPECTED``: somebody else wrote into the table.
    """
    try:
        return JournalRow(
            kind=Kind(entity["PartitionKey"]),
            about=entity["about"],
            number=int(entity["number"]),
            state=State(entity["state"]),
            channel=entity["channel"] or None,
            code=entity["code"] or None,
            detail=entity["detail"] or None,
            requested=int(entity["requested"]) or None,
            artifacts=int(entity["artifacts"]) or None,
            blobs=int(entity["blobs"]) or None,
            created_at=parse_time(entity["createdAt"]),
            updated_at=parse_time(entity["updatedAt"]),
        )
    except (KeyError, TypeError, ValueError):
        raise ServiceError(
            Code.SERVICE_UNEXPECTED, f"table {JOURNAL}: row {entity.get('RowKey')} is none of ours"
        ) from None


def _age_key(moment: datetime, *, less_s: int = 0) -> str:
    """Twelve digits that sort the later moment first; ``less_s`` moves it back by seconds."""
    return f"{_LAST_SECOND - int(moment.timestamp()) + less_s:012d}"


def _query(kind: Kind, where: RowFilter) -> tuple[str, dict[str, str]]:
    """The OData filter, with its values apart: the SDK quotes them.

    https://learn.microsoft.com/rest/api/storageservices/querying-tables-and-entities
    """
    conditions = {"PartitionKey eq": kind.value}
    if where.created_before is not None:
        conditions["RowKey ge"] = _age_key(where.created_before, less_s=1)
    if where.created_from is not None:
        conditions["RowKey lt"] = _age_key(where.created_from, less_s=1)
    if where.state is not None:
        conditions["state eq"] = where.state.value
    if where.channel is not None:
        conditions["channel eq"] = where.channel
    terms = [f"{condition} @p{number}" for number, condition in enumerate(conditions)]
    return " and ".join(terms), {f"p{number}": value for number, value in enumerate(conditions.values())}


def _token(continuation: Mapping[str, str] | None) -> str | None:
    """The service's continuation token as one printable word."""
    if not continuation:
        return None
    return base64.urlsafe_b64encode(json.dumps(continuation).encode()).decode()


def _continuation(token: str) -> dict[str, str]:
    try:
        value = json.loads(base64.b64decode(token[:_MAX_TOKEN], altchars=b"-_", validate=True))
    except (ValueError, RecursionError):
        raise _bad_token() from None
    match value:
        case {"PartitionKey": str(partition), "RowKey": str(row), **rest} if (
            not rest and partition.isascii() and row.isascii()  # others cannot be told to the service
        ):
            return {"PartitionKey": partition, "RowKey": row}
    raise _bad_token()


def _bad_token() -> OperatorError:
    return OperatorError(Code.REQUEST_INVALID, "token: not one that a page ended with")


def _is_missing_table(error: HttpResponseError) -> bool:
    """Whether it is the table that is missing: 404 as well, but it is a fault of the deployment."""
    return getattr(error, "error_code", None) == "TableNotFound"
