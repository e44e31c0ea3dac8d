"""What requests to a storage account are counted as."""

from typing import cast

import pytest

from bench.costs import Tally, kind_of
from local_cloud.cloud import Cloud
from local_cloud.storage_front import Request

COPY = {"x-ms-copy-source": "https://x/gap/incoming/1/001"}


@pytest.mark.parametrize(
    ("method", "target", "headers", "kind"),
    [
        ("GET", "/gap/transfer/1/001", {}, "read of content"),
        ("GET", "/gap/staging/prod/0/001", {}, "read of content"),
        ("HEAD", "/gap/transfer/1/001", {}, "read"),
        ("GET", "/gap/transfer/1/001?comp=blocklist", {}, "read"),
        ("GET", "/gap/incoming/1/bundle-manifest.dsse.json", {}, "read"),
        ("GET", "/gap/incoming/custody/1/usb1.jsonl", {}, "read"),
        ("GET", "/gap/journal/imports/1/00000001.json", {}, "read"),
        ("GET", "/gap/incoming?restype=container&comp=list&maxresults=1000", {}, "host's list"),
        ("GET", "/gap/incoming?restype=container&comp=list&prefix=a", {}, "list"),
        ("PUT", "/gap/incoming/1/001?comp=block&blockid=eA==", {}, "block"),
        ("PUT", "/gap/incoming/1/001?comp=blocklist", {}, "write"),
        ("PUT", "/gap/staging/prod/0/001", COPY, "copy"),
        ("PUT", "/gap/ledger/prod/1", {}, "write"),
        ("DELETE", "/gap/work/turn", {}, "delete"),
    ],
)
def test_request_is_counted_as_what_a_bill_calls_it(
    method: str, target: str, headers: dict[str, str], kind: str
) -> None:
    assert (
        kind_of(Request(service="blob", method=method, target=target, headers=headers), is_of_app=True)
        == kind
    )


def test_list_of_the_mover_is_no_list_of_the_host_however_long_its_pages() -> None:
    target = "/gap/receipts?restype=container&comp=list&maxresults=1000"
    request = Request(service="blob", method="GET", target=target, headers={})
    assert kind_of(request, is_of_app=False) == "list"


def test_account_that_the_host_has_to_itself_is_not_counted() -> None:
    """Of nobody's cloud: whoever asks is not even looked at."""
    tally = Tally(cloud=cast("Cloud", None), verb="pull")
    for account in ("gaptargethost", "gaptargettransfer"):
        tally.add(Request(service="blob", method="GET", target=f"/{account}/transfer/1/001", headers={}))
    assert tally.counts == {"pull": {"read of content": 1}}


def test_tables_are_counted_apart() -> None:
    request = Request(service="table", method="GET", target="/gap/journal()", headers={})
    assert kind_of(request, is_of_app=True) == "table"
