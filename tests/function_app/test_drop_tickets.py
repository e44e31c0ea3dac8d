"""Drop tickets: rights for one bundle that would be admitted now, on record, and for nobody else's names.

What the storage lets their holder do is told by ``tests/e2e/test_crossing.py`` and
``tests/local_cloud/test_create_only.py``.
"""

import asyncio
import json
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any
from urllib.parse import parse_qs

import azure.functions as func
import pytest

from airgap.envelope import MAX_ENVELOPE_BYTES
from airgap.errors import Code, ServiceError
from airgap.journal import Journal
from airgap.manifest import ENVELOPE_NAME
from airgap.parts import MIN_PART_SIZE_BYTES
from airgap.states import Kind
from airgap.ticket import Ticket, TicketKind
from function_app.journal.store import JournalStore
from function_app.ports import TargetSide
from function_app.target import damage_notes, ticket_api
from tests.bundles import CHANNEL, TRANSFER_ID, Bundle, make_bundle, new_key
from tests.function_app.memory import START, MemoryTickets
from tests.function_app.test_caller import ADA, ADA_ID, principal
from tests.function_app.test_import import POLICY, Target, bundle_of

NOW = START + timedelta(hours=1)


class Counter:
    """A target's counter for tickets, and what was taken there."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, target: Target) -> None:
        self.target = target
        self.side: TargetSide = target.side
        monkeypatch.setattr(ticket_api, "target_side", lambda: self.side)

        class Clock:
            @staticmethod
            def now(_: object) -> datetime:
                return target.host.now

        monkeypatch.setattr(ticket_api, "datetime", Clock)

    def post(
        self, body: bytes, headers: dict[str, str] | None = None, **params: str
    ) -> tuple[int, dict[str, Any]]:
        request = func.HttpRequest(
            method="POST", url="https://app/api/tickets", headers=headers or {}, params=params, body=body
        )
        response = asyncio.run(ticket_api.create_ticket._function.get_user_function()(req=request))
        assert response.headers["Cache-Control"] == "no-store"
        return response.status_code, json.loads(response.get_body())

    def ticket(self, bundle: Bundle) -> Ticket:
        status, body = self.post(bundle.envelope)
        assert status == 201, body
        return Ticket.from_bytes(json.dumps(body).encode())

    def refused(self, body: bytes) -> tuple[int, str]:
        """The status and the code; nothing was given, signed or put on record."""
        status, answer = self.post(body)
        assert self.journals() == []
        assert "sig=" not in json.dumps(answer)
        return status, str(answer["code"])

    def journals(self) -> list[Journal]:
        journals = JournalStore(self.target.blobs, self.side.projection)
        return [journals.read(Kind.TICKETS, about) for about in journals.ids(Kind.TICKETS)]


@pytest.fixture
def counter(monkeypatch: pytest.MonkeyPatch) -> Counter:
    return Counter(monkeypatch, Target())


def allowed(ticket: Ticket) -> dict[str, str]:
    return {name: parse_qs(sas)["sp"][0] for name, sas in ticket.sas.items()}


def test_ticket_is_for_exactly_the_names_of_the_bundle_and_creates_only(counter: Counter) -> None:
    bundle = bundle_of()
    ticket = counter.ticket(bundle)
    assert ticket.kind is TicketKind.DROP
    assert (ticket.transfer_id, ticket.manifest_sha256) == (bundle.transfer_id, bundle.manifest_sha256)
    assert ticket.container_url == "https://account.blob.core.windows.net/incoming"
    assert allowed(ticket) == {**dict.fromkeys(bundle.blobs, "rc"), ENVELOPE_NAME: "rc"}
    for name, sas in ticket.sas.items():
        fields = parse_qs(sas)
        assert (fields["spr"], fields["sr"]) == (["https"], ["b"])
        assert fields["sig"] == [f"incoming/{bundle.transfer_id}/{name}"]


def test_ticket_is_good_for_the_hours_of_the_setting(counter: Counter) -> None:
    counter.side = replace(counter.side, settings=replace(counter.side.settings, ticket_hours=2))
    ticket = counter.ticket(bundle_of())
    assert ticket.expires_at == counter.target.host.now.replace(microsecond=0) + timedelta(hours=2)
    assert ticket.valid_from == counter.target.host.now.replace(microsecond=0) - timedelta(minutes=5)


def test_who_took_which_ticket_is_on_record_without_the_secret(counter: Counter) -> None:
    counter.side = replace(counter.side, settings=replace(counter.side.settings, callers_are_signed_in=True))
    bundle = bundle_of()
    status, body = counter.post(bundle.envelope, principal(ADA, *ADA_ID, ("roles", "Transfer.Order")))
    assert status == 201
    (journal,) = counter.journals()
    (entry,) = journal.entries
    assert (journal.about, entry.state.value, entry.by) == (body["ticketId"], "issued", "ada@contoso.com")
    assert entry.facts == {
        "ticket": "drop",
        "transferId": bundle.transfer_id,
        "channel": CHANNEL,
        "manifestSha256": bundle.manifest_sha256,
        "expiresAt": body["expiresAt"],
        "allowed": {**dict.fromkeys(bundle.blobs, "rc"), ENVELOPE_NAME: "rc"},
        "takenBy": "tenant1/ada1",
    }
    for container in counter.target.blobs.containers.values():
        assert not any(b"sig=" in blob.content for blob in container.values())


def test_no_ticket_is_given_that_is_not_on_record(counter: Counter, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*_: object, **__: object) -> None:
        raise ServiceError(Code.SERVICE_UNREACHABLE, "the storage is away")

    monkeypatch.setattr(JournalStore, "record", fails)
    status, body = counter.post(bundle_of().envelope)
    assert (status, body["code"]) == (503, "SERVICE_UNREACHABLE")
    assert "sig=" not in json.dumps(body)


@pytest.mark.parametrize(
    ("roles", "status"), [((), 403), (("Transfer.Read",), 403), (("Transfer.Admin",), 201)]
)
def test_who_has_signed_in_without_the_role_gets_no_ticket(
    counter: Counter, roles: tuple[str, ...], status: int
) -> None:
    counter.side = replace(counter.side, settings=replace(counter.side.settings, callers_are_signed_in=True))
    found, body = counter.post(
        bundle_of().envelope, principal(ADA, *ADA_ID, *(("roles", role) for role in roles))
    )
    assert found == status
    assert len(counter.journals()) == (status == 201)
    assert status == 201 or body["code"] == "CALLER_REFUSED"


# --- refusals, each by its own code ------------------------------------------------------------------------


def made_at(moment: datetime, **more: Any) -> Bundle:
    return make_bundle(created_at=moment, policy_json=POLICY, **more)


def _unsigned(bundle: Bundle) -> bytes:
    return make_bundle(keys=[new_key()], transfer_id=bundle.transfer_id).envelope


def _forged(bundle: Bundle) -> bytes:
    other = bundle_of(transfer_id="another0transfer")
    envelope, others = json.loads(bundle.envelope), json.loads(other.envelope)
    return json.dumps({**others, "signatures": envelope["signatures"]}).encode()


REFUSED: dict[str, tuple[Callable[[Bundle], bytes], int, Code]] = {
    "nothing": (lambda _: b"", 400, Code.ENVELOPE_MALFORMED),
    "junk": (lambda _: b"{}", 400, Code.ENVELOPE_MALFORMED),
    "unknown signer": (_unsigned, 400, Code.SIGNER_UNKNOWN),
    "forged": (_forged, 400, Code.SIGNATURE_INVALID),
    "other target": (
        lambda _: bundle_of(audience=("other.azurecr.io",)).envelope,
        403,
        Code.AUDIENCE_MISMATCH,
    ),
    "other channel": (lambda _: bundle_of(channel="nightly").envelope, 403, Code.CHANNEL_UNKNOWN),
    "expired": (
        lambda _: made_at(START - timedelta(days=20), lifetime=timedelta(days=1)).envelope,
        403,
        Code.EXPIRED,
    ),
    "from the future": (
        lambda _: made_at(START + timedelta(days=2)).envelope,
        403,
        Code.NOT_YET_VALID,
    ),
}


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b"", "an empty body where a JSON document"),
        (b"\xef\xbb\xbf{}", "a byte-order mark before the JSON where"),
    ],
    ids=["nothing", "byte-order mark"],
)
def test_body_that_is_no_envelope_is_called_what_it_is(counter: Counter, body: bytes, words: str) -> None:
    status, answer = counter.post(body)
    assert (status, answer["code"]) == (400, Code.ENVELOPE_MALFORMED.name)
    assert answer["detail"].startswith(words)
    assert "bundle-manifest.dsse.json" in answer["remedy"]


@pytest.mark.parametrize(("make", "status", "code"), REFUSED.values(), ids=REFUSED.keys())
def test_no_ticket_for_a_bundle_that_would_be_refused(
    counter: Counter, make: Callable[[Bundle], bytes], status: int, code: Code
) -> None:
    assert counter.refused(make(bundle_of())) == (status, code.name)


def test_no_ticket_for_a_bundle_that_was_imported(counter: Counter) -> None:
    bundle = bundle_of()
    assert counter.target.receive(bundle)["outcome"] != "refused"
    assert counter.refused(bundle.envelope) == (409, "REPLAYED")


def test_no_ticket_for_another_bundle_under_a_number_that_is_taken(counter: Counter) -> None:
    counter.target.receive(bundle_of())
    other = bundle_of(transfer_id="another0transfer")
    assert counter.refused(other.envelope) == (409, "SEQUENCE_REUSED")


@pytest.mark.parametrize("on_gap", ["record", "refuse"])
def test_no_ticket_for_a_bundle_that_later_ones_have_overtaken(
    monkeypatch: pytest.MonkeyPatch, on_gap: str
) -> None:
    policy = json.loads(POLICY)
    policy["channels"][CHANNEL] |= {"order": "rising", "onGap": on_gap}
    counter = Counter(monkeypatch, Target(json.dumps(policy).encode()))
    first, third = (
        make_bundle(
            transfer_id=f"transfer{number:04d}",
            sequence=number,
            created_at=START,
            policy_json=counter.target.policy_json,
        )
        for number in (1, 3)
    )
    assert counter.ticket(third).transfer_id == "transfer0003"  # the first may still come
    if on_gap == "refuse":
        return
    counter.target.receive(third)
    before = len(counter.journals())
    status, body = counter.post(first.envelope)
    assert (status, body["code"]) == (409, "OUT_OF_ORDER")
    assert len(counter.journals()) == before


def test_body_that_is_larger_than_any_envelope_is_refused_unread(counter: Counter) -> None:
    assert counter.refused(b" " * (MAX_ENVELOPE_BYTES + 1)) == (413, "REQUEST_INVALID")


def test_query_parameters_are_refused(counter: Counter) -> None:
    assert counter.post(bundle_of().envelope, hours="1000")[0] == 400


def test_policy_that_has_expired_is_the_targets_own_trouble(monkeypatch: pytest.MonkeyPatch) -> None:
    policy = json.loads(POLICY) | {"expiresAt": "2026-01-01T00:00:00Z"}
    counter = Counter(monkeypatch, Target(json.dumps(policy).encode()))
    status, code = counter.refused(bundle_of().envelope)
    assert (status, code) == (500, "POLICY_EXPIRED")


# --- raced, held -------------------------------------------------------------------------------------------


def test_two_who_take_a_ticket_for_one_bundle_have_two_tickets(counter: Counter) -> None:
    bundle = bundle_of()
    first, second = counter.ticket(bundle), counter.ticket(bundle)
    assert first.ticket_id != second.ticket_id
    assert allowed(first) == allowed(second)
    assert len(counter.journals()) == 2


def damaged(counter: Counter) -> Bundle:
    """One whose second blob arrived with a part that is not what was signed, and is held."""
    bundle = bundle_of(blob_sizes=(MIN_PART_SIZE_BYTES + 10, 500, 600))
    counter.target.upload(bundle)
    content = bytearray(bundle.blobs["002"])
    content[7] ^= 1
    counter.target.blobs.upload("incoming", f"{TRANSFER_ID}/002", bytes(content))
    outcome = counter.target.run(bundle.envelope)
    assert outcome["code"] == "PART_CORRUPT"
    return bundle


def test_ticket_for_a_held_upload_lets_the_damaged_blobs_be_replaced_and_no_other(counter: Counter) -> None:
    bundle = damaged(counter)
    assert allowed(counter.ticket(bundle)) == {"001": "rc", "002": "rw", "003": "rc", ENVELOPE_NAME: "rc"}


def test_where_more_is_damaged_than_listed_each_held_blob_can_be_replaced(
    counter: Counter, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(damage_notes, "MAX_DAMAGES", 0)
    bundle = damaged(counter)
    assert allowed(counter.ticket(bundle)) == {"001": "rw", "002": "rw", "003": "rw", ENVELOPE_NAME: "rc"}


def test_another_bundle_under_the_name_of_one_that_is_held_may_replace_nothing_of_it(
    counter: Counter,
) -> None:
    damaged(counter)
    other = bundle_of(blob_sizes=(MIN_PART_SIZE_BYTES + 10, 501))
    assert other.transfer_id == TRANSFER_ID
    assert set(allowed(counter.ticket(other)).values()) == {"rc"}


def test_signer_of_tickets_that_is_not_there_is_a_setting(counter: Counter) -> None:
    class NoTickets(MemoryTickets):
        def sign(self, *_: object, **__: object) -> Any:
            raise ServiceError(Code.SERVICE_DENIED, "no key")

    counter.side = replace(counter.side, tickets=NoTickets())
    status, code = counter.refused(bundle_of().envelope)
    assert (status, code) == (500, "SERVICE_DENIED")
