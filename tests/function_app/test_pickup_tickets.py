"""Pickup tickets: the rights to read one sealed bundle, or the blobs that a re-carry request needs."""

import asyncio
import json
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from typing import Any
from urllib.parse import parse_qs

import azure.functions as func
import pytest

from airgap.envelope import Envelope
from airgap.manifest import ENVELOPE_NAME, BundleManifest, manifest_digest
from airgap.recarry import MAX_REQUEST_BYTES, RecarryRequest
from airgap.states import Kind, State
from airgap.ticket import Ticket, TicketKind
from function_app.azure.wiring import source_settings
from function_app.journal.store import JournalStore
from function_app.ports import SourceSide
from function_app.source import http_api
from tests.function_app.memory import ENVIRONMENT, START, Host, MemoryBlobs, make_source
from tests.function_app.test_caller import ADA, ADA_ID, principal
from tests.function_app.test_export import run

ID = "0123456789abcdef0123456789abcdef"
ARTIFACTS = [f"team/app:v{number}" for number in range(60)]
"""More than one run takes: the bundle has two blobs."""


class Source:
    """A source, and what was taken there."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.side: SourceSide
        self.blobs: MemoryBlobs
        self.side, self.blobs, self.registry = make_source()
        monkeypatch.setattr(http_api, "source_side", lambda: self.side)
        for artifact in ARTIFACTS:
            self.registry.push_image(*artifact.split(":"))
        self.journals = JournalStore(self.blobs, self.side.projection)

    def order(self) -> BundleManifest:
        """A transfer whose bundle is sealed."""
        run(Host(self.side), *ARTIFACTS, transfer_id=ID)
        raw = self.blobs.containers["transfer"][f"{ID}/{ENVELOPE_NAME}"].content
        return BundleManifest.from_bytes(Envelope.from_bytes(raw).payload)

    def post(
        self, body: bytes = b"", transfer_id: str = ID, headers: dict[str, str] | None = None
    ) -> tuple[int, dict[str, Any]]:
        request = func.HttpRequest(
            method="POST",
            url=f"https://app/api/transfers/{transfer_id}/pickup",
            headers=headers or {},
            params={},
            route_params={"transferId": transfer_id},
            body=body,
        )
        response = asyncio.run(http_api.pick_up_transfer._function.get_user_function()(req=request))
        return response.status_code, json.loads(response.get_body())

    def ticket(self, body: bytes = b"") -> Ticket:
        status, answer = self.post(body)
        assert status == 201, answer
        return Ticket.from_bytes(json.dumps(answer).encode())

    def refused(self, body: bytes = b"", transfer_id: str = ID) -> tuple[int, str]:
        """The status and the code; nothing was given or put on record."""
        status, answer = self.post(body, transfer_id)
        assert list(self.journals.ids(Kind.TICKETS)) == []
        assert "sig=" not in json.dumps(answer)
        return status, str(answer["code"])


@pytest.fixture
def source(monkeypatch: pytest.MonkeyPatch) -> Iterator[Source]:
    for name, value in ENVIRONMENT.items():
        monkeypatch.setenv(name, value)
    source_settings.cache_clear()
    yield Source(monkeypatch)
    source_settings.cache_clear()


def wanted(manifest: BundleManifest, *names: str) -> RecarryRequest:
    return RecarryRequest.for_parts(manifest, manifest_digest(manifest.to_bytes()), names, START)


def test_ticket_reads_exactly_the_blobs_of_the_bundle(source: Source) -> None:
    manifest = source.order()
    ticket = source.ticket()
    assert ticket.kind is TicketKind.PICKUP
    assert ticket.container_url == "https://account.blob.core.windows.net/transfer"
    assert (ticket.transfer_id, ticket.manifest_sha256) == (ID, manifest_digest(manifest.to_bytes()))
    assert list(ticket.sas) == ["001", "002", ENVELOPE_NAME]
    for name, sas in ticket.sas.items():
        fields = parse_qs(sas)
        assert (fields["sp"], fields["spr"], fields["sr"]) == (["r"], ["https"], ["b"])
        assert fields["sig"] == [f"transfer/{ID}/{name}"]
    assert ticket.expires_at - ticket.valid_from == timedelta(hours=24, minutes=5)


def test_recarry_request_gets_a_ticket_for_the_blobs_that_it_needs(source: Source) -> None:
    manifest = source.order()
    ticket = source.ticket(wanted(manifest, "002/00000001.part").to_bytes())
    assert list(ticket.sas) == ["002", ENVELOPE_NAME]


def test_who_took_which_ticket_is_on_record_without_the_secret(
    source: Source, monkeypatch: pytest.MonkeyPatch
) -> None:
    source.order()
    monkeypatch.setenv("CALLERS", "appServiceAuthentication")
    source_settings.cache_clear()
    status, body = source.post(headers=principal(ADA, *ADA_ID, ("roles", "Transfer.Order")))
    assert status == 201
    (about,) = source.journals.ids(Kind.TICKETS)
    (entry,) = source.journals.read(Kind.TICKETS, about).entries
    assert (about, entry.by) == (body["ticketId"], "ada@contoso.com")
    assert (entry.facts["ticket"], entry.facts["takenBy"]) == ("pickup", "tenant1/ada1")
    assert entry.facts["allowed"] == {"001": "r", "002": "r", ENVELOPE_NAME: "r"}
    for container in source.blobs.containers.values():
        assert not any(b"sig=" in blob.content for blob in container.values())


def test_who_has_signed_in_without_the_role_gets_no_ticket(
    source: Source, monkeypatch: pytest.MonkeyPatch
) -> None:
    source.order()
    monkeypatch.setenv("CALLERS", "appServiceAuthentication")
    source_settings.cache_clear()
    status, body = source.post(headers=principal(ADA, *ADA_ID, ("roles", "Transfer.Read")))
    assert (status, body["code"]) == (403, "CALLER_REFUSED")
    assert list(source.journals.ids(Kind.TICKETS)) == []


def test_no_ticket_for_a_transfer_that_is_not_known(source: Source) -> None:
    assert source.refused() == (404, "NOT_FOUND")
    assert source.refused(transfer_id="../../ledger") == (404, "NOT_FOUND")


def test_no_ticket_before_the_bundle_is_sealed(source: Source) -> None:
    source.journals.record(Kind.TRANSFERS, ID, State.REQUESTED, {"channel": "prod"}, by="caller", at=START)
    assert source.refused() == (409, "TRANSITION_REFUSED")


def test_no_ticket_for_a_transfer_that_was_given_up(source: Source) -> None:
    source.order()
    source.journals.record(Kind.TRANSFERS, ID, State.VOIDED, {}, by="caller", at=START)
    assert source.refused() == (409, "TRANSITION_REFUSED")


def test_no_ticket_for_a_bundle_that_was_deleted(source: Source) -> None:
    source.order()
    source.blobs.delete("transfer", f"{ID}/{ENVELOPE_NAME}")
    assert source.refused() == (410, "NOT_FOUND")


def test_no_ticket_for_another_manifest_that_was_put_in_its_place(source: Source) -> None:
    manifest = source.order()
    other = replace(manifest, channel="another")
    raw = source.blobs.containers["transfer"][f"{ID}/{ENVELOPE_NAME}"].content
    forged = Envelope(payload=other.to_bytes(), signatures=Envelope.from_bytes(raw).signatures)
    source.blobs.put("transfer", f"{ID}/{ENVELOPE_NAME}", forged.to_bytes())
    assert source.refused() == (500, "BLOB_CHANGED")


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        (b"{", 400, "RECARRY_MALFORMED"),
        (b'{"schema":2}', 400, "NEWER_FORMAT"),
        (b" " * (MAX_REQUEST_BYTES + 1), 413, "REQUEST_INVALID"),
    ],
    ids=["junk", "newer", "large"],
)
def test_request_that_is_none_gets_no_ticket(source: Source, body: bytes, status: int, code: str) -> None:
    source.order()
    assert source.refused(body) == (status, code)


def test_byte_order_mark_before_a_request_is_called_that(source: Source) -> None:
    source.order()
    status, answer = source.post(b"\xef\xbb\xbf{}")
    assert (status, answer["code"]) == (400, "RECARRY_MALFORMED")
    assert answer["detail"].startswith("a byte-order mark before the JSON where")


def test_recarry_request_of_another_bundle_gets_no_ticket(source: Source) -> None:
    manifest = source.order()
    other = replace(wanted(manifest, "001/00000001.part"), manifest_sha256="0" * 64)
    assert source.refused(other.to_bytes()) == (400, "RECARRY_MALFORMED")
