"""Push and pull by a ticket: for one bundle, without an address and without a SAS of the operator's own."""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from airgap.errors import AirgapError, Code
from airgap.manifest import ENVELOPE_NAME
from airgap.ticket import Ticket, TicketKind
from offline_mover import cli
from offline_mover.cli.parser import parse
from offline_mover.cli.pull import PullRequest
from offline_mover.cli.push import PushRequest
from offline_mover.commands.push import push
from offline_mover.progress import Meter
from offline_mover.storage.storage_address import TicketRights
from tests.bundles import Bundle, make_bundle
from tests.offline_mover.blob_server import BlobServer, Reply
from tests.offline_mover.conftest import Bench
from tests.offline_mover.memory_container import MemoryContainer

SECRET = "bm90IHRvIGJlIHNlZW4gYnkgYW55Ym9keSBhdCBhbGw="
NOW = datetime.now(UTC).replace(microsecond=0)


def ticket_of(
    bundle: Bundle,
    kind: TicketKind = TicketKind.DROP,
    permissions: str = "rc",
    *,
    url: str = "https://target.blob.core.windows.net/incoming",
    expires_at: datetime = NOW + timedelta(hours=1),
    **changed: Any,
) -> Ticket:
    names = [*sorted(bundle.blobs), ENVELOPE_NAME]
    fields = f"sv=2026-10-06&spr=https&sr=b&sp={permissions}&se={expires_at:%Y-%m-%dT%H:%M:%SZ}"
    made = Ticket(
        kind=kind,
        ticket_id="0123456789abcdef" * 2,
        transfer_id=bundle.transfer_id,
        channel=bundle.manifest.channel,
        manifest_sha256=bundle.manifest_sha256,
        container_url=url,
        valid_from=NOW - timedelta(minutes=5),
        expires_at=max(expires_at, NOW),
        sas={name: f"{fields}&sig={SECRET}&only={name}" for name in names},
    )
    return replace(made, **changed)


def pushed(bench: Bench, target: MemoryContainer, ticket: Ticket) -> Any:
    return push(
        target,
        [bench.volume],
        transfer_id=None,
        policy=bench.bundle.policy,
        now=datetime.now(UTC),
        concurrency=2,
        meter=Meter(),
        ticket=ticket,
    )


# --- what it is for ----------------------------------------------------------------------------------------


def test_ticket_of_another_bundle_sends_nothing(loaded: Bench) -> None:
    target = MemoryContainer()
    other = make_bundle(transfer_id=loaded.bundle.transfer_id, seed=2)
    with pytest.raises(AirgapError) as caught:
        pushed(loaded, target, ticket_of(other))
    assert caught.value.code is Code.TICKET_MISMATCH
    assert not target.calls


def test_of_several_transfers_on_a_volume_the_tickets_is_pushed(loaded: Bench) -> None:
    other = loaded.volume / "another0transfer"
    other.mkdir()
    (other / ENVELOPE_NAME).write_bytes(make_bundle(transfer_id="another0transfer").envelope)
    target = MemoryContainer()
    assert pushed(loaded, target, ticket_of(loaded.bundle)).code is None
    assert {name.partition("/")[0] for name in target.blobs} == {loaded.bundle.transfer_id}


def spoiled(bench: Bench) -> tuple[MemoryContainer, str]:
    """A storage in which somebody else has put a blob together from other bytes under the right names."""
    target = MemoryContainer()
    pushed(bench, target, ticket_of(bench.bundle))
    name = f"{bench.bundle.transfer_id}/001"
    held = target.blobs[name]
    target.blobs[name] = replace(held, content=bytes([held.content[0] ^ 1]) + held.content[1:])
    del target.blobs[f"{bench.bundle.transfer_id}/{ENVELOPE_NAME}"]
    return target, name


def test_ticket_that_may_write_replaces_what_is_wrong(loaded: Bench) -> None:
    target, name = spoiled(loaded)
    outcome = pushed(loaded, target, ticket_of(loaded.bundle, permissions="rw"))
    assert (outcome.code, outcome.counts["replacedParts"]) == (None, 1)
    assert target.blobs[name].content == loaded.bundle.blobs["001"]


def test_ticket_that_only_creates_replaces_nothing_and_publishes_nothing(loaded: Bench) -> None:
    target, _ = spoiled(loaded)
    staged = target.count("stage")
    outcome = pushed(loaded, target, ticket_of(loaded.bundle))
    assert outcome.code is Code.BLOB_MISMATCH
    assert target.count("stage") == staged
    assert f"{loaded.bundle.transfer_id}/{ENVELOPE_NAME}" not in target.blobs


# --- on the wire -------------------------------------------------------------------------------------------


def run(
    bench: Bench, folder: Path, arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> tuple[int, str]:
    policy = folder / "policy.json"
    policy.write_bytes(bench.bundle.policy_json)
    try:
        code = cli.main([*arguments, "--trust", str(policy), "--retries", "0"])
    except SystemExit as error:
        code = int(error.code or 0)
    out, err = capsys.readouterr()
    assert SECRET not in out + err
    return code, out + err


@pytest.fixture(autouse=True)
def _state(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))


def test_each_request_shows_the_sas_of_its_own_blob_in_its_own_version(
    loaded: Bench, server: BlobServer, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "ticket.json"
    file.write_bytes(ticket_of(loaded.bundle, url=f"{server.url}/incoming").to_bytes())
    server.answer = lambda asked: (
        Reply(status=201)
        if asked.method == "PUT"
        else Reply(status=404, headers={"x-ms-error-code": "BlobNotFound"})
    )
    code, told = run(loaded, tmp_path, ["push", str(loaded.volume), "--ticket", str(file)], capsys)
    assert code == 0, told
    assert f"{server.url}/incoming" in told
    names = {asked.path.partition("?")[0].rpartition("/")[2] for asked in server.asked}
    assert names == {*loaded.bundle.blobs, ENVELOPE_NAME}
    for asked in server.asked:
        name = asked.path.partition("?")[0].rpartition("/")[2]
        assert asked.path.endswith(f"&only={name}")
        assert asked.headers["x-ms-version"] == "2026-10-06"
        assert "authorization" not in asked.headers
    for log in loaded.volume.rglob("custody*"):
        assert SECRET not in log.read_text()


@pytest.mark.parametrize(
    ("expires_in_h", "reply", "code", "words"),
    [
        (-1, Reply(status=403), Code.CREDENTIAL_EXPIRED, "the ticket expired at"),
        (
            1,
            Reply(status=403, headers={"x-ms-error-code": "AuthenticationFailed"}),
            Code.SERVICE_DENIED,
            "not taken",
        ),
    ],
    ids=["expired", "withdrawn"],
)
def test_ticket_that_is_taken_no_more_is_explained(
    loaded: Bench,
    server: BlobServer,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    *,
    expires_in_h: int,
    reply: Reply,
    code: Code,
    words: str,
) -> None:
    file = tmp_path / "ticket.json"
    expires_at = NOW + timedelta(hours=expires_in_h)
    file.write_bytes(ticket_of(loaded.bundle, url=f"{server.url}/incoming", expires_at=expires_at).to_bytes())
    server.replies(reply)
    found, told = run(loaded, tmp_path, ["push", str(loaded.volume), "--ticket", str(file)], capsys)
    assert (found, words in told) == (code.exit_code, True), told


def test_expired_ticket_is_renewed_in_its_file_and_the_push_goes_on(
    loaded: Bench, server: BlobServer, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "ticket.json"
    file.write_bytes(
        ticket_of(loaded.bundle, url=f"{server.url}/incoming", expires_at=NOW - timedelta(hours=1)).to_bytes()
    )

    def answer(asked: Any) -> Reply:
        if f"{NOW + timedelta(hours=1):%Y-%m-%dT%H:%M:%SZ}" not in asked.path:
            file.write_bytes(ticket_of(loaded.bundle, url=f"{server.url}/incoming").to_bytes())
            return Reply(status=403)
        if asked.method == "PUT":
            return Reply(status=201)
        return Reply(status=404, headers={"x-ms-error-code": "BlobNotFound"})

    server.answer = answer
    code, told = run(loaded, tmp_path, ["push", str(loaded.volume), "--ticket", str(file)], capsys)
    assert code == 0, told


# --- on the command line -----------------------------------------------------------------------------------


TICKET = ["--ticket", "t.json", "--trust", "p"]
URL = "https://src.blob.core.windows.net/transfer/k3v9x2m7q1"


@pytest.mark.parametrize(
    ("words", "address", "volumes"),
    [
        (["push", "/a", *TICKET], None, ["/a"]),
        (["push", "/a", "/b", *TICKET], None, ["/a", "/b"]),
        (["push", "/a", "/b", "https://dst/incoming", "--trust", "p"], "https://dst/incoming", ["/a", "/b"]),
        (["pull", "/a", *TICKET], None, ["/a"]),
        (["pull", "/a", "/b", *TICKET], None, ["/a", "/b"]),
        (["pull", URL, "/a", "/b", "--trust", "p"], URL, ["/a", "/b"]),
    ],
)
def test_ticket_stands_for_the_address(words: list[str], address: str | None, volumes: list[str]) -> None:
    request = parse(words).request
    assert isinstance(request, PushRequest | PullRequest)
    found = request.target if isinstance(request, PushRequest) else request.source
    assert (found, [str(path) for path in request.volumes]) == (address, volumes)
    assert (request.ticket is None) == (address is not None)


@pytest.mark.parametrize("verb", ["push", "pull"])
def test_without_an_address_and_a_ticket_it_is_told_what_is_missing(
    verb: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main([verb, "/a", "--trust", "p"]) == Code.USAGE.exit_code
    assert "--ticket FILE" in capsys.readouterr().err


Change = Callable[[dict[str, Any]], object]


@pytest.mark.parametrize(
    ("change", "code"),
    [
        (lambda raw: raw.update(kind="pickup"), Code.TICKET_MISMATCH),
        (lambda raw: raw.update(schema=2), Code.NEWER_FORMAT),
        (lambda raw: raw.pop("channel"), Code.TICKET_MALFORMED),
        (lambda raw: raw["blobs"][0].update(sas=f"https://x/?sig={SECRET}"), Code.USAGE),
        (lambda raw: raw.update(manifestDigest=f"sha256:{'0' * 64}"), Code.TICKET_MISMATCH),
    ],
    ids=["other side", "newer", "member missing", "SAS with an address", "other bundle"],
)
def test_ticket_that_is_not_right_is_refused_before_the_network(
    loaded: Bench, tmp_path: Path, capsys: pytest.CaptureFixture[str], change: Change, code: Code
) -> None:
    raw = json.loads(ticket_of(loaded.bundle, url="https://127.0.0.1:1/incoming").to_bytes())
    change(raw)
    file = tmp_path / "ticket.json"
    file.write_text(json.dumps(raw))
    found, told = run(loaded, tmp_path, ["push", str(loaded.volume), "--ticket", str(file)], capsys)
    assert found == code.exit_code, told


def test_address_beside_a_ticket_is_refused(
    loaded: Bench, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["push", str(loaded.volume), "https://127.0.0.1:1/incoming", "--ticket", "t.json"]
    found, told = run(loaded, tmp_path, words, capsys)
    assert (found, "the ticket names the storage" in told) == (Code.USAGE.exit_code, True)


def test_same_command_again_is_told_without_an_address(
    loaded: Bench, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "ticket.json"
    file.write_bytes(ticket_of(loaded.bundle, url="https://127.0.0.1:1/incoming").to_bytes())
    found, told = run(loaded, tmp_path, ["push", str(loaded.volume), "--ticket", str(file)], capsys)
    assert found == Code.SERVICE_UNREACHABLE.exit_code
    (line,) = (line for line in told.splitlines() if "--ticket" in line)
    words = shlex.split(line)
    assert words[words.index("push") + 1 :][:2] == [str(loaded.volume), "--ticket"]
    assert "TARGET" not in line


def test_name_that_a_ticket_does_not_have_is_asked_for_nowhere(loaded: Bench) -> None:
    rights = TicketRights.of(ticket_of(loaded.bundle), "ticket.json")
    folder = loaded.bundle.transfer_id
    assert rights.for_blob(f"{folder}/001").token.endswith("only=001")
    for name in (f"{folder}/003", "another/001", "custody/x.jsonl", ""):
        with pytest.raises(AirgapError) as caught:
            rights.for_blob(name)
        assert caught.value.code is Code.TICKET_MISMATCH
