"""Tickets: asked for by whom they are not for, and what else their holder does with them, at both ends."""

import asyncio
import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from types import ModuleType
from typing import Any
from urllib.parse import parse_qs, unquote

import azure.functions as func
import pytest

from airgap.envelope import Envelope
from airgap.errors import Code, PolicyRefusal
from airgap.fields import parse_time
from airgap.manifest import ENVELOPE_NAME
from airgap.recarry import RecarryRequest
from airgap.states import Kind, State
from airgap.ticket import Ticket, TicketKind
from function_app.azure.wiring import source_settings
from function_app.journal.store import JournalStore
from function_app.ports import SourceSide, TargetSide
from function_app.source import http_api
from function_app.target import ticket_api
from tests.attacks.repairs import complete, damage
from tests.attacks.scene import DEV_KEY, HONEST_POLICY, SMALL, Attack, Change, End, Harmless, Refused, Scene
from tests.bundles import Bundle, make_bundle, new_key
from tests.function_app.memory import ENVIRONMENT, START, MemoryBlobs, make_source
from tests.function_app.test_caller import ADA, ADA_ID, principal
from tests.function_app.test_import import flip

Act = Callable[[Scene], Mapping[str, Any]]
JUNK = b"junk"


def storage_does(
    blobs: MemoryBlobs, sas: str, verb: str, container: str, name: str, *, now: datetime
) -> bool:
    """Whether a storage would do it: the SAS is for this very blob, now, and allows it.

    As the storage front has it, of which ``tests/local_cloud/test_create_only.py`` asks more.
    """
    fields = {key: values[0] for key, values in parse_qs(sas).items()}
    is_there = blobs.stat(container, name) is not None
    needed = {"read": "r", "delete": "d", "list": "l", "write": "w" if is_there else "cw"}[verb]
    return (
        unquote(fields["sig"]) == f"{container}/{name}"
        and parse_time(fields["st"]) <= now <= parse_time(fields["se"])
        and bool(set(needed) & set(fields["sp"]))
    )


@dataclass(frozen=True, kw_only=True)
class Holder:
    """Whoever has the file of a ticket."""

    scene: Scene
    blobs: MemoryBlobs
    ticket: Ticket
    container: str

    def does(self, verb: str, name: str, *, by: str | None = None, folder: str | None = None) -> bool:
        """Whether the storage lets him, by the SAS of this name or of another."""
        path = f"{folder or self.ticket.transfer_id}/{name}"
        sas, now = self.ticket.sas[by or name], self.scene.target.host.now
        return storage_does(self.blobs, sas, verb, self.container, path, now=now)

    def brings(self, name: str, content: bytes) -> bool:
        """Write a blob, if the storage lets him."""
        is_let = self.does("write", name)
        if is_let:
            self.blobs.upload(self.container, f"{self.ticket.transfer_id}/{name}", content)
        return is_let


@contextmanager
def _answering(module: ModuleType, name: str, side: TargetSide | SourceSide, now: datetime) -> Iterator[None]:
    """The API of a side, with these ports and at this time."""

    class Clock:
        @staticmethod
        def now(_: object) -> datetime:
            return now

    with pytest.MonkeyPatch.context() as patch:
        for variable, value in ENVIRONMENT.items():
            patch.setenv(variable, value)
        patch.setattr(module, name, lambda: side)
        patch.setattr(module, "datetime", Clock)
        source_settings.cache_clear()
        yield
    source_settings.cache_clear()


def _posted(route: Any, url: str, body: bytes, headers: Mapping[str, str], **params: str) -> tuple[int, Any]:
    request = func.HttpRequest(
        method="POST", url=url, headers=dict(headers), params={}, route_params=params, body=body
    )
    response = asyncio.run(route._function.get_user_function()(req=request))
    return response.status_code, json.loads(response.get_body())


def ask(scene: Scene, envelope: bytes, headers: Mapping[str, str] | None = None) -> tuple[int, Any]:
    """Ask the target for a drop ticket."""
    with _answering(ticket_api, "target_side", scene.target.side, scene.target.host.now):
        return _posted(ticket_api.create_ticket, "https://app/api/tickets", envelope, headers or {})


def take(scene: Scene, bundle: Bundle | None = None) -> Holder:
    """Whoever is given a drop ticket."""
    status, body = ask(scene, (bundle or scene.bundle).envelope)
    assert status == 201, body
    ticket = Ticket.from_bytes(json.dumps(body).encode())
    return Holder(scene=scene, blobs=scene.target.blobs, ticket=ticket, container="incoming")


def _assert_none_given(blobs: MemoryBlobs, side: TargetSide | SourceSide, answer: Any) -> None:
    assert "sig=" not in json.dumps(answer)
    assert list(JournalStore(blobs, side.projection).ids(Kind.TICKETS)) == []


# drop tickets: asked for


def _denied(
    status: int, code: Code, envelope: Callable[[Scene], bytes], headers: Mapping[str, str] | None = None
) -> Act:
    """No ticket is given, none is on record, and the honest bundle comes in without."""

    def act(scene: Scene) -> Mapping[str, Any]:
        found, answer = ask(scene, envelope(scene), headers)
        assert (found, answer["code"]) == (status, code.name)
        _assert_none_given(scene.target.blobs, scene.target.side, answer)
        return scene.push()

    return act


def _predicate(change: Change) -> Callable[[Scene], bytes]:
    """The source's key has signed it, changed."""
    return lambda scene: scene.signed(lambda statement: change(statement["predicate"]))


def _exchanged(scene: Scene) -> bytes:
    """Another payload under the honest signature."""
    honest = Envelope.from_bytes(scene.bundle.envelope)
    other = Envelope.from_bytes(_predicate(lambda p: p.update(transferId="honest0009"))(scene))
    return replace(honest, payload=other.payload).to_bytes()


def _decided(envelope: Callable[[Scene], bytes], code: Code) -> Act:
    """The channel has come further; there is no ticket, and what comes without is refused."""

    def act(scene: Scene) -> Mapping[str, Any]:
        scene.import_honestly()
        raw = envelope(scene)
        found, answer = ask(scene, raw)
        assert (found, answer["code"]) == (409, code.name)
        _assert_none_given(scene.target.blobs, scene.target.side, answer)
        return scene.push(envelope=raw)

    return act


def _signed_in(*roles: str) -> Act:
    """Where App Service vouches for callers, a caller with these app roles asks."""

    def act(scene: Scene) -> Mapping[str, Any]:
        side = scene.target.side
        settings = replace(side.settings, callers_are_signed_in=True)
        scene.target.side = scene.target.host.side = replace(side, settings=settings)
        claims = (ADA, *ADA_ID, *(("roles", role) for role in roles))
        return _denied(403, Code.CALLER_REFUSED, lambda s: s.bundle.envelope, principal(*claims))(scene)

    return act


# drop tickets: used


def _pushed_by(
    meddle: Callable[[Holder], object],
    *,
    at: str = "",
    first: Callable[[Holder], object] = lambda _: None,
) -> Act:
    """The operator pushes by a ticket; whoever has a copy of it meddles before, afterwards or at a step."""

    def act(scene: Scene) -> Mapping[str, Any]:
        holder = take(scene)
        first(holder)
        for name, content in [*scene.bundle.blobs.items(), (ENVELOPE_NAME, scene.bundle.envelope)]:
            holder.brings(name, content)
        if at:
            scene.before(at, lambda: meddle(holder))
        else:
            meddle(holder)
        for artifact in scene.bundle.manifest.artifacts:
            registry = scene.target.registry
            registry.manifests[artifact.repository, artifact.digest] = (artifact.media_type, {})
            registry.tags.update({(artifact.repository, tag): artifact.digest for tag in artifact.tags})
        found = scene.target.blobs.containers["incoming"].get(f"{scene.bundle.transfer_id}/{ENVELOPE_NAME}")
        assert found is not None
        return scene.run(found.content)

    return act


def _overwrite(holder: Holder) -> None:
    for name in (*holder.scene.bundle.blobs, ENVELOPE_NAME):
        assert not holder.brings(name, JUNK)


def _delete(holder: Holder) -> None:
    for name in (*holder.scene.bundle.blobs, ENVELOPE_NAME):
        assert not holder.does("delete", name)


def _reach_further(holder: Holder) -> None:
    """Other names, other transfers and other containers, by any SAS of the ticket."""
    for by in holder.ticket.sas:
        assert not holder.does("write", "003", by=by)
        assert not holder.does("write", "001", by=by, folder="honest0002")
        assert not holder.does("list", "", by=by)
        for container in ("staging", "transfer", "ledger", "receipts", "policy"):
            assert not replace(holder, container=container).does("write", by)


def _too_late(holder: Holder) -> None:
    """A day after, nothing can be brought by it."""
    now = holder.scene.target.host.now
    holder.scene.target.host.now = now + timedelta(days=2)
    assert not holder.does("write", "001")
    holder.scene.target.host.now = now


def _junk_first(holder: Holder) -> None:
    assert holder.brings("001", bytes(len(holder.scene.bundle.blobs["001"])))


def _forgery_first(holder: Holder) -> None:
    payload = holder.scene.bundle.payload
    assert holder.brings(ENVELOPE_NAME, Envelope.sign(payload, [new_key().signer]).to_bytes())


def _repaired_by(*meddle: Callable[[Holder], object], sends: Callable[[Holder], object]) -> Act:
    """A damaged upload is held; a ticket is taken to repair it, and somebody has a copy."""

    def act(scene: Scene) -> Mapping[str, Any]:
        damage(scene)
        holder = take(scene)
        for one in meddle:
            one(holder)
        sends(holder)
        return complete(scene)

    return act


def _sends_the_damaged(holder: Holder) -> None:
    assert holder.brings("001", holder.scene.bundle.blobs["001"])


def _overwrites_what_is_whole(holder: Holder) -> None:
    assert not holder.brings("002", JUNK)


def _sends_other_damage(holder: Holder) -> None:
    assert holder.brings("001", flip(holder.scene.bundle.blobs["001"], 9))


def _rivals_ticket(holder: Holder) -> None:
    """Who signs for another channel gives his bundle the name of the one that is held, and takes a ticket."""
    rival = make_bundle(
        blob_sizes=SMALL,
        created_at=START,
        channel="dev",
        keys=[DEV_KEY],
        transfer_id=holder.ticket.transfer_id,
        policy_json=HONEST_POLICY,
        seed=3,
    )
    theirs = take(holder.scene, rival)
    for name in ("001", "002"):
        assert not theirs.brings(name, JUNK)


# pickup tickets


class Source:
    """A source that has sealed the scene's bundle, as its journal and its storage say."""

    def __init__(self, scene: Scene, *, is_sealed: bool = True) -> None:
        self.scene = scene
        self.side, self.blobs, _ = make_source()
        self.journals = JournalStore(self.blobs, self.side.projection)
        bundle = scene.bundle
        for name, content in [*bundle.blobs.items(), (ENVELOPE_NAME, bundle.envelope)]:
            self.blobs.upload("transfer", f"{bundle.transfer_id}/{name}", content)
        for state in SEALED if is_sealed else SEALED[:3]:
            self.record(state)

    def record(self, state: State) -> None:
        """Let the transfer come to this."""
        sealed = {"manifestDigest": f"sha256:{self.scene.bundle.manifest_sha256}"}
        facts = {"bundle": sealed, "channel": self.scene.bundle.manifest.channel}
        about = self.scene.bundle.transfer_id
        self.journals.record(Kind.TRANSFERS, about, state, facts, by="caller", at=START)

    def ask(self, body: bytes = b"") -> tuple[int, Any]:
        """Ask for a pickup ticket."""
        about = self.scene.bundle.transfer_id
        url = f"https://app/api/transfers/{about}/pickup"
        with _answering(http_api, "source_side", self.side, self.scene.target.host.now):
            return _posted(http_api.pick_up_transfer, url, body, {}, transferId=about)

    def take(self, body: bytes = b"") -> Holder:
        """Whoever is given it."""
        status, answer = self.ask(body)
        assert status == 201, answer
        ticket = Ticket.from_bytes(json.dumps(answer).encode())
        assert ticket.kind is TicketKind.PICKUP
        return Holder(scene=self.scene, blobs=self.blobs, ticket=ticket, container="transfer")


SEALED = (
    *(State.REQUESTED, State.PLANNED, State.EXPORTING),
    *(State.HASHING, State.SEALING, State.SEALED),
)


def _not_fetched(
    status: int, code: Code, touch: Callable[[Source], object], *, body: bytes = b"", is_sealed: bool = True
) -> Act:
    """No pickup ticket is given, and none is on record; the honest bundle, fetched before, comes in."""

    def act(scene: Scene) -> Mapping[str, Any]:
        source = Source(scene, is_sealed=is_sealed)
        touch(source)
        found, answer = source.ask(body)
        assert (found, answer["code"]) == (status, code.name), answer
        _assert_none_given(source.blobs, source.side, answer)
        return scene.push()

    return act


def _fetched(meddle: Callable[[Source, Holder], object]) -> Act:
    """Whoever has a pickup ticket tries more than to read; the honest bundle, fetched by it, comes in."""

    def act(scene: Scene) -> Mapping[str, Any]:
        source = Source(scene)
        before = {name: blob.etag for name, blob in source.blobs.containers["transfer"].items()}
        holder = source.take()
        meddle(source, holder)
        assert {name: blob.etag for name, blob in source.blobs.containers["transfer"].items()} == before
        assert all(holder.does("read", name) for name in (*scene.bundle.blobs, ENVELOPE_NAME))
        return scene.push()

    return act


def _change_the_source(_: Source, holder: Holder) -> None:
    for name in holder.ticket.sas:
        assert not holder.brings(name, JUNK)
        assert not holder.does("delete", name)
        assert not holder.does("write", "009", by=name)


def _read_more(source: Source, holder: Holder) -> None:
    source.blobs.upload("transfer", "honest0002/001", b"of another transfer")
    source.blobs.delete("transfer", "honest0002/001")
    for name in holder.ticket.sas:
        assert not holder.does("read", "001", by=name, folder="honest0002")
        assert not holder.does("list", "", by=name)
        for container in ("ledger", "work", "journal", "receipts"):
            assert not replace(holder, container=container).does("read", name)


def _read_late(_: Source, holder: Holder) -> None:
    now = holder.scene.target.host.now
    holder.scene.target.host.now = now + timedelta(days=2)
    assert not any(holder.does("read", name) for name in holder.ticket.sas)
    holder.scene.target.host.now = now


def _bring_it_to_the_target(_: Source, holder: Holder) -> None:
    """The other side takes nothing by it, and knows that it is not for it."""
    target = replace(holder, blobs=holder.scene.target.blobs, container="incoming")
    assert not any(target.brings(name, JUNK) for name in holder.ticket.sas)
    with pytest.raises(PolicyRefusal, match="TICKET_MISMATCH"):
        holder.ticket.require_kind(TicketKind.DROP)


def _recarry(scene_bundle: Bundle, **other: Any) -> bytes:
    digest = scene_bundle.manifest_sha256
    wanted = RecarryRequest.for_parts(scene_bundle.manifest, digest, ["001/00000001.part"], START)
    return replace(wanted, **other).to_bytes()


def _recarry_of_another(scene: Scene) -> Mapping[str, Any]:
    return _not_fetched(
        400,
        Code.RECARRY_MALFORMED,
        lambda _: None,
        body=_recarry(scene.bundle, manifest_sha256="0" * 64),
    )(scene)


def _more_than_the_recarry(scene: Scene) -> Mapping[str, Any]:
    """A ticket for the damaged blob reads no other."""
    holder = Source(scene).take(_recarry(scene.bundle))
    assert list(holder.ticket.sas) == ["001", ENVELOPE_NAME]
    assert not any(holder.does("read", "002", by=name) for name in holder.ticket.sas)
    return scene.push()


def _exchange_the_manifest(source: Source) -> None:
    name = f"{source.scene.bundle.transfer_id}/{ENVELOPE_NAME}"
    source.blobs.put("transfer", name, _exchanged(source.scene))


def _delete_the_manifest(source: Source) -> None:
    source.blobs.delete("transfer", f"{source.scene.bundle.transfer_id}/{ENVELOPE_NAME}")


def _stranger(scene: Scene) -> bytes:
    return scene.signed(lambda _: None, new_key())


CASES: Mapping[str, tuple[str, Act, End]] = {
    "drop: asked for with junk": ("F", _denied(400, Code.ENVELOPE_MALFORMED, lambda _: b"{}"), Harmless()),
    "drop: asked for with a stranger's signature": (
        "F",
        _denied(400, Code.SIGNER_UNKNOWN, _stranger),
        Harmless(),
    ),
    "drop: asked for with a payload exchanged under a signature": (
        "F",
        _denied(400, Code.SIGNATURE_INVALID, _exchanged),
        Harmless(),
    ),
    "drop: asked for a bundle of another registry": (
        "F",
        _denied(403, Code.AUDIENCE_MISMATCH, _predicate(lambda p: p.update(audience=["other.azurecr.io"]))),
        Harmless(),
    ),
    "drop: asked for a bundle that has expired": (
        "D",
        _denied(
            403,
            Code.EXPIRED,
            _predicate(
                lambda p: p.update(createdAt="2026-11-01T00:00:00Z", expiresAt="2026-11-02T00:00:00Z")
            ),
        ),
        Harmless(),
    ),
    "drop: asked for a number far ahead": (
        "D",
        _denied(
            409,
            Code.SEQUENCE_JUMP,
            _predicate(lambda p: p.update(sequence=2**53 - 1, previous={"sha256": "f" * 64})),
        ),
        Harmless(),
    ),
    "drop: asked for with the right to read alone": ("F", _signed_in("Transfer.Read"), Harmless()),
    "drop: asked for by whoever has no role": ("F", _signed_in(), Harmless()),
    "drop: asked for a bundle that was imported": (
        "B2",
        _decided(lambda scene: scene.bundle.envelope, Code.REPLAYED),
        Refused(code=Code.REPLAYED),
    ),
    "drop: asked for another bundle under a number that is taken": (
        "D",
        _decided(_predicate(lambda p: p.update(createdAt="2026-11-23T07:59:59Z")), Code.SEQUENCE_REUSED),
        Refused(code=Code.SEQUENCE_REUSED),
    ),
    "drop: overwrites what was brought": ("B2", _pushed_by(_overwrite), Harmless()),
    "drop: overwrites what was admitted": ("B2", _pushed_by(_overwrite, at="take_custody"), Harmless()),
    "drop: deletes what was brought": ("B2", _pushed_by(_delete), Harmless()),
    "drop: reaches other names, transfers and containers": ("B2", _pushed_by(_reach_further), Harmless()),
    "drop: used after its time": ("B2", _pushed_by(_too_late), Harmless()),
    "drop: junk is brought before the operator comes": (
        "B2",
        _pushed_by(lambda _: None, first=_junk_first),
        Refused(code=Code.PART_CORRUPT),
    ),
    "drop: a forgery is brought before the operator comes": (
        "B2",
        _pushed_by(lambda _: None, first=_forgery_first),
        Refused(code=Code.SIGNER_UNKNOWN),
    ),
    "drop: for repair, overwrites what is whole": (
        "B2",
        _repaired_by(_overwrites_what_is_whole, sends=_sends_the_damaged),
        Harmless(),
    ),
    "drop: for repair, brings other damage": (
        "B2",
        _repaired_by(sends=_sends_other_damage),
        Refused(code=Code.PART_CORRUPT),
    ),
    "drop: for another channel's bundle, replaces what is held": (
        "D",
        _repaired_by(_rivals_ticket, sends=_sends_the_damaged),
        Harmless(),
    ),
    "pickup: asked for before the bundle is sealed": (
        "F",
        _not_fetched(409, Code.TRANSITION_REFUSED, lambda _: None, is_sealed=False),
        Harmless(),
    ),
    "pickup: asked for a transfer that was given up": (
        "F",
        _not_fetched(409, Code.TRANSITION_REFUSED, lambda source: source.record(State.VOIDED)),
        Harmless(),
    ),
    "pickup: asked for a bundle whose manifest was deleted": (
        "C",
        _not_fetched(410, Code.NOT_FOUND, _delete_the_manifest),
        Harmless(),
    ),
    "pickup: asked for a bundle whose manifest was exchanged": (
        "C",
        _not_fetched(500, Code.BLOB_CHANGED, _exchange_the_manifest),
        Harmless(),
    ),
    "pickup: asked for with another bundle's re-carry request": ("F", _recarry_of_another, Harmless()),
    "pickup: changes what lies at the source": ("B2", _fetched(_change_the_source), Harmless()),
    "pickup: reads other transfers and containers": ("B2", _fetched(_read_more), Harmless()),
    "pickup: used after its time": ("B2", _fetched(_read_late), Harmless()),
    "pickup: used at the target": ("B2", _fetched(_bring_it_to_the_target), Harmless()),
    "pickup: for repair, reads what was not asked for": ("B2", _more_than_the_recarry, Harmless()),
}

ATTACKS: Mapping[str, Attack] = {
    f"ticket: {name}": Attack(by=by, act=act, end=end) for name, (by, act, end) in CASES.items()
}
