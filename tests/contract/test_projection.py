"""One suite for the journal's projection: what the port promises, on the double and on Azurite's tables."""

import base64
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from airgap.errors import OperatorError, ServiceError
from airgap.states import Kind, State
from function_app.azure.blob import AzureBlobs
from function_app.azure.tables import AzureTables, _entity
from function_app.ports import JournalRow, Projection, RowFilter
from local_cloud.azurite import Azurite
from local_cloud.pki import CertificateAuthority
from local_cloud.tokens import TokenAuthority
from tests.contract.credential import Credential
from tests.faults.proxy import Answer, Asked, Forward, HungUpError, Proxy, Rule
from tests.function_app.memory_projection import MemoryProjection

NOW = datetime(2026, 11, 23, 8, 0, tzinfo=UTC)
ALL = RowFilter()


@pytest.fixture(params=["memory", pytest.param("azurite", marks=pytest.mark.e2e)])
def projection(request: pytest.FixtureRequest) -> Iterator[Projection]:
    if request.param == "memory":
        yield MemoryProjection()
        return
    server, _ = request.getfixturevalue("azurite")
    server.ensure_table("journal")
    tables = AzureTables(server.table_url, Credential(TokenAuthority()))
    yield tables
    tables.close()
    with server.table_client() as service:
        service.delete_table("journal")


def row(about: str = "0123456789abcdef", *, age: timedelta = timedelta(), **members: Any) -> JournalRow:
    values: dict[str, Any] = {
        "kind": Kind.TRANSFERS,
        "about": about,
        "number": 1,
        "state": State.REQUESTED,
        "channel": "prod",
        "code": None,
        "detail": None,
        "requested": 2,
        "artifacts": None,
        "blobs": None,
        "created_at": NOW - age,
        "updated_at": NOW,
    }
    return JournalRow(**values | members)


def listed(projection: Projection, where: RowFilter = ALL, *, limit: int = 1000) -> list[JournalRow]:
    """All rows, page by page."""
    rows: list[JournalRow] = []
    token: str | None = None
    while True:
        page, token = projection.page(Kind.TRANSFERS, where=where, limit=limit, token=token)
        assert len(page) <= limit
        rows += page
        if token is None:
            return rows
        assert token.isascii()
        assert token.isprintable()


def fill(projection: Projection, rows: Sequence[JournalRow]) -> None:
    """Put many rows; a hundred with one request where there is a service."""
    if isinstance(projection, AzureTables):
        for start in range(0, len(rows), 100):
            hundred = [("create", _entity(one)) for one in rows[start : start + 100]]
            projection._table.submit_transaction(hundred)
        return
    for one in rows:
        projection.put(one)


def abouts(rows: Sequence[JournalRow]) -> list[str]:
    return [one.about for one in rows]


def test_empty_projection_has_no_rows(projection: Projection) -> None:
    assert projection.page(Kind.TRANSFERS, where=ALL, limit=10) == ([], None)


def test_row_comes_back_as_it_was_put(projection: Projection) -> None:
    known = row(state=State.REFUSED, code="ARTIFACT_NOT_FOUND", number=7, updated_at=NOW + timedelta(hours=1))
    unknown = row("import0123456789", kind=Kind.IMPORTS, state=State.RECEIVED, channel=None)
    assert projection.put(known) == 7
    assert projection.put(unknown) == 1
    assert projection.page(Kind.TRANSFERS, where=ALL, limit=10) == ([known], None)
    assert projection.page(Kind.IMPORTS, where=ALL, limit=10) == ([unknown], None)


def test_row_goes_forward_and_never_back(projection: Projection) -> None:
    third = row(number=3, state=State.EXPORTING)
    projection.put(third)
    assert projection.put(row(number=2, state=State.PLANNED)) == 3
    assert listed(projection) == [third]
    assert projection.put(third) == 3
    ninth = row(number=9, state=State.SEALED)
    assert projection.put(ninth) == 9
    assert listed(projection) == [ninth]


def test_row_that_somebody_falsified_is_mended_by_its_entry(projection: Projection) -> None:
    projection.put(row(number=3, state=State.CANCELLED, channel="other"))
    projection.put(row(number=3, state=State.EXPORTING))
    assert listed(projection) == [row(number=3, state=State.EXPORTING)]


def test_of_many_writers_the_one_with_the_latest_entry_prevails(projection: Projection) -> None:
    with ThreadPoolExecutor(4) as writers:
        stands = list(writers.map(lambda number: projection.put(row(number=number)), [1, 4, 2, 3, 5, 1]))
    assert all(stand >= put for stand, put in zip(stands, [1, 4, 2, 3, 5, 1], strict=True))
    assert [one.number for one in listed(projection)] == [5]


def test_newest_come_first_and_those_of_one_second_by_id(projection: Projection) -> None:
    for about, age in (("bbbbbbbb", 60), ("aaaaaaaa", 60), ("cccccccc", 0), ("dddddddd", 86400 * 365 * 10)):
        projection.put(row(about, age=timedelta(seconds=age)))
    assert abouts(listed(projection)) == ["cccccccc", "aaaaaaaa", "bbbbbbbb", "dddddddd"]


@pytest.mark.parametrize(
    ("where", "expected"),
    [
        (ALL, ["newest00", "middle00", "oldest00"]),
        (RowFilter(state=State.SEALED), ["newest00", "oldest00"]),
        (RowFilter(state=State.SEALED, channel="prod"), ["newest00"]),
        (RowFilter(channel="test"), ["middle00", "oldest00"]),
        (RowFilter(channel="other"), []),
        (RowFilter(created_from=NOW - timedelta(hours=1)), ["newest00", "middle00"]),
        (RowFilter(created_from=NOW - timedelta(minutes=59)), ["newest00"]),
        (RowFilter(created_before=NOW - timedelta(hours=1)), ["oldest00"]),
        (RowFilter(created_before=NOW - timedelta(minutes=59)), ["middle00", "oldest00"]),
        (RowFilter(created_from=NOW - timedelta(hours=1), created_before=NOW), ["middle00"]),
    ],
    ids=str,
)
def test_filters(projection: Projection, where: RowFilter, expected: list[str]) -> None:
    projection.put(row("newest00", state=State.SEALED))
    projection.put(row("middle00", age=timedelta(hours=1), channel="test"))
    projection.put(row("oldest00", age=timedelta(hours=2), state=State.SEALED, channel="test"))
    projection.put(row("import00", kind=Kind.IMPORTS, state=State.RECEIVED))
    assert abouts(listed(projection, where)) == expected


@pytest.mark.parametrize(
    "channel",
    ["it's", "a' or 'a' eq 'a", "%27", "two  spaces ", "@p0", "ünïcode ☃", 'quo"te', "\\", "a&b=c#d"],
)
def test_odd_characters_are_matched_as_they_are(projection: Projection, channel: str) -> None:
    projection.put(row("odd00000", channel=channel))
    projection.put(row("plain000"))
    assert abouts(listed(projection, RowFilter(channel=channel))) == ["odd00000"]
    assert abouts(listed(projection)) == ["odd00000", "plain000"]


def test_pages_hold_all_of_over_a_thousand_each_once(projection: Projection) -> None:
    rows = [
        row(
            f"{number:08d}",
            age=timedelta(seconds=number // 3),
            state=State.SEALED if number % 10 else State.FAILED,
        )
        for number in range(1050)
    ]
    fill(projection, rows)
    assert listed(projection) == rows
    assert listed(projection, limit=170) == rows
    assert listed(projection, RowFilter(state=State.FAILED), limit=25) == rows[::10]


def test_row_that_comes_meanwhile_does_not_disturb_the_pages_after(projection: Projection) -> None:
    for number in range(6):
        projection.put(row(f"{number:08d}", age=timedelta(minutes=number + 1)))
    first, token = projection.page(Kind.TRANSFERS, where=ALL, limit=3)
    projection.put(row("newcomer"))
    second, last = projection.page(Kind.TRANSFERS, where=ALL, limit=3, token=token)
    assert abouts([*first, *second]) == [f"{number:08d}" for number in range(6)]
    assert last is None


NESTED = base64.urlsafe_b64encode(b"[" * 1536).decode()
UNTELLABLE = base64.urlsafe_b64encode(b'{"PartitionKey": "\\ud800", "RowKey": "x"}').decode()
"""A lone surrogate, which no URL can carry."""


@pytest.mark.parametrize("token", ["", "x", "!!!", "e30=", "bnVsbA==", "A" * 5000, "ä", NESTED, UNTELLABLE])
def test_token_that_is_none_of_ours_is_refused(projection: Projection, token: str) -> None:
    projection.put(row())
    with pytest.raises(OperatorError, match="REQUEST_INVALID"):
        projection.page(Kind.TRANSFERS, where=ALL, limit=3, token=token)


@pytest.mark.e2e
def test_missing_table_is_an_error_and_not_an_empty_list(azurite: tuple[Azurite, AzureBlobs]) -> None:
    server, _ = azurite
    tables = AzureTables(server.table_url, Credential(TokenAuthority()))
    for call in (
        lambda: tables.put(row()),
        lambda: tables.page(Kind.TRANSFERS, where=ALL, limit=3),
    ):
        with pytest.raises(ServiceError, match="NOT_FOUND"):
            call()
    tables.close()


@pytest.mark.e2e
def test_writer_that_was_overtaken_between_reading_and_writing_looks_again(
    azurite: tuple[Azurite, AzureBlobs],
) -> None:
    server, _ = azurite
    server.ensure_table("journal")
    tables = AzureTables(server.table_url, Credential(TokenAuthority()))
    late = _entity(row(number=2, state=State.PLANNED))
    tables.put(row(number=1))
    seen = tables._find(late)
    tables.put(row(number=3, state=State.EXPORTING))
    assert not tables._write(late, seen)
    assert not tables._write(late, None)
    assert [one.number for one in listed(tables)] == [3]
    with server.table_client() as service:
        service.get_table_client("journal").delete_entity(late["PartitionKey"], late["RowKey"])
        assert not tables._write(late, seen)
        service.delete_table("journal")
    tables.close()


@pytest.mark.e2e
def test_row_of_somebody_else_is_an_error_of_the_service(azurite: tuple[Azurite, AzureBlobs]) -> None:
    server, _ = azurite
    server.ensure_table("journal")
    tables = AzureTables(server.table_url, Credential(TokenAuthority()))
    with server.table_client() as service:
        service.get_table_client("journal").create_entity({"PartitionKey": "transfers", "RowKey": "x"})
        with pytest.raises(ServiceError, match="row x is none of ours"):
            tables.page(Kind.TRANSFERS, where=ALL, limit=3)
        service.delete_table("journal")
    tables.close()


@pytest.mark.e2e
@pytest.mark.parametrize("operation", ["create", "update"])
def test_answer_to_a_write_that_breaks_off_again_and_again_is_an_outage(
    azurite: tuple[Azurite, AzureBlobs], ca: CertificateAuthority, operation: str
) -> None:
    server, _ = azurite
    server.ensure_table("journal")
    with Proxy.start(server.table_url, ca) as proxy:
        tables = AzureTables(proxy.url, Credential(TokenAuthority()), retries=1)
        if operation == "update":
            tables.put(row(number=1))
        broken = Rule(when=lambda asked: asked.method != "GET", act=_half_of_an_error, times=10)
        with proxy.scripted(broken), pytest.raises(ServiceError, match="SERVICE_UNREACHABLE"):
            tables.put(row(number=2))
        assert broken.hits
        tables.close()
    with server.table_client() as service:
        service.delete_table("journal")


def _half_of_an_error(_asked: Asked, _forward: Forward) -> Answer:
    body = b'{"odata.error": {"code": "InternalError"}}'
    raise HungUpError(Answer(status=500, headers={"Content-Type": "application/json"}, body=body), 10)


@pytest.mark.e2e
def test_tables_that_do_not_answer_are_unreachable(azurite: tuple[Azurite, AzureBlobs]) -> None:
    del azurite  # for its certificate authority
    tables = AzureTables("https://127.0.0.1:1/account", Credential(TokenAuthority()), retries=0)
    with pytest.raises(ServiceError, match="SERVICE_UNREACHABLE"):
        tables.put(replace(row(), number=2))
    tables.close()
