"""Tickets: anybody may write one; it can name blobs of one bundle's folder and nothing else."""

import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from airgap.errors import AirgapError, Code
from airgap.manifest import ENVELOPE_NAME
from airgap.strict_json import dump_canonical
from airgap.ticket import MAX_SAS_CHARACTERS, MAX_TICKET_BYTES, Ticket, TicketKind
from tests.vectors.generate import ticket

TICKET = ticket()
SECRET = "c2VjcmV0"


def refusal(act: Callable[[], object]) -> AirgapError:
    with pytest.raises(AirgapError) as caught:
        act()
    return caught.value


def test_ticket_says_what_it_is_for_and_shows_no_sas() -> None:
    told = json.loads(TICKET.to_bytes())
    assert [blob["name"] for blob in told.pop("blobs")] == ["001", "002", ENVELOPE_NAME]
    assert told == {
        "schema": 1,
        "kind": "drop",
        "ticketId": TICKET.ticket_id,
        "transferId": TICKET.transfer_id,
        "channel": "prod",
        "manifestDigest": f"sha256:{TICKET.manifest_sha256}",
        "container": "https://target.blob.core.windows.net/incoming",
        "validFrom": "2026-01-31T08:00:00Z",
        "expiresAt": "2026-02-01T08:00:00Z",
    }
    assert "sig=" not in repr(TICKET)


def _blob(index: int, **members: Any) -> Callable[[dict[str, Any]], object]:
    return lambda raw: raw["blobs"][index].update(members)


INVALID: dict[str, Callable[[dict[str, Any]], object]] = {
    "no bundle manifest": lambda raw: raw["blobs"].pop(),
    "only the bundle manifest": lambda raw: raw.update(blobs=raw["blobs"][-1:]),
    "twice the same": lambda raw: raw["blobs"].insert(0, raw["blobs"][0]),
    "another order": lambda raw: raw["blobs"].reverse(),
    "blob of another transfer": _blob(0, name="../k3v9x2m7q1/001"),
    "custody log": _blob(0, name="custody/k3v9x2m7q1/a.jsonl"),
    "blob 000": _blob(0, name="000"),
    "name that is no text": _blob(0, name=1),
    "member of a blob": _blob(0, url="https://elsewhere"),
    "SAS that is a URL with blanks": _blob(0, sas=f"https://x/?sig={SECRET} "),
    "SAS with a line break": _blob(0, sas=f"sp=r&sig={SECRET}\r\nHost: x"),
    "SAS without a signature": _blob(0, sas="sp=r&se=2099-01-01"),
    "SAS that is too long": _blob(0, sas="sig=" + "a" * MAX_SAS_CHARACTERS),
    "SAS that is no text": _blob(0, sas=None),
    "kind": lambda raw: raw.update(kind="master"),
    "id": lambda raw: raw.update(ticketId="1"),
    "transfer": lambda raw: raw.update(transferId="../../x"),
    "channel": lambda raw: raw.update(channel="Prod"),
    "digest": lambda raw: raw.update(manifestDigest="sha256:1"),
    "http": lambda raw: raw.update(container="http://target.blob.core.windows.net/incoming"),
    "no container": lambda raw: raw.update(container="https://target.blob.core.windows.net"),
    "URL with a query": lambda raw: raw.update(container="https://target/incoming?sig=x"),
    "URL with a user": lambda raw: raw.update(container="https://a@target/incoming"),
    "URL with dots": lambda raw: raw.update(container="https://target/../incoming"),
    "time": lambda raw: raw.update(expiresAt="tomorrow"),
    "over before it begins": lambda raw: raw.update(expiresAt=raw["validFrom"]),
    "another member": lambda raw: raw.update(note="x"),
    "no schema": lambda raw: raw.pop("schema"),
}


@pytest.mark.parametrize("change", INVALID.values(), ids=INVALID.keys())
def test_malformed_ticket_is_refused_and_no_word_of_a_sas_is_repeated(
    change: Callable[[dict[str, Any]], object],
) -> None:
    raw = json.loads(TICKET.to_bytes())
    change(raw)
    error = refusal(lambda: Ticket.from_bytes(dump_canonical(raw)))
    assert error.code is Code.TICKET_MALFORMED
    assert SECRET not in str(error)


def test_ticket_that_is_larger_than_any_is_refused_unread() -> None:
    assert refusal(lambda: Ticket.from_bytes(b" " * (MAX_TICKET_BYTES + 1))).code is Code.TOO_LARGE


def test_largest_ticket_is_read() -> None:
    names = [f"{number:03d}" for number in range(1, 1000)] + [ENVELOPE_NAME]
    sas = "sig=" + "a" * (MAX_SAS_CHARACTERS - 4)
    largest = replace(TICKET, sas=dict.fromkeys(names, sas))
    assert Ticket.from_bytes(largest.to_bytes()) == largest


def test_ticket_of_another_bundle_is_refused() -> None:
    TICKET.require_bundle(TICKET.transfer_id, TICKET.manifest_sha256)
    for other in ((TICKET.transfer_id, "0" * 64), ("k3v9x2m7q1", TICKET.manifest_sha256)):
        error = refusal(lambda other=other: TICKET.require_bundle(*other))  # type: ignore[misc]
        assert error.code is Code.TICKET_MISMATCH


def test_ticket_for_the_other_side_is_refused() -> None:
    TICKET.require_kind(TicketKind.DROP)
    assert refusal(lambda: TICKET.require_kind(TicketKind.PICKUP)).code is Code.TICKET_MISMATCH
