"""A storage that drops connections, is busy, lies and forgets: real requests through a faulty proxy."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from airgap.manifest import ENVELOPE_NAME
from tests.faults import proxy
from tests.faults.proxy import Act, Asked, Rule
from tests.faults.site import Scene, Site

ALWAYS = 10_000
_BUSY = proxy.status(503, {"Retry-After": "0", "x-ms-error-code": "ServerBusy"})


def is_part(asked: Asked) -> bool:
    return asked.method == "GET" and bool(asked.range) and not asked.blob.endswith(ENVELOPE_NAME)


def is_envelope(asked: Asked) -> bool:
    return asked.method == "GET" and asked.blob.endswith(ENVELOPE_NAME)


def is_block(asked: Asked) -> bool:
    return asked.method == "PUT" and asked.comp == "block"


def is_commit(asked: Asked) -> bool:
    return asked.method == "PUT" and asked.comp == "blocklist"


def is_publishing(asked: Asked) -> bool:
    return asked.method == "PUT" and asked.blob.endswith(ENVELOPE_NAME)


def _other_blob(target: str) -> str:
    return target.replace("/002", "/003")


# --- pull ---------------------------------------------------------------------------------------------------

PASSING: dict[str, tuple[Act, int]] = {
    "connection dropped": (proxy.drop, 2),
    "connection dropped in mid-answer": (proxy.half_an_answer, 2),
    "busy, 503": (_BUSY, 2),
    "busy, 429": (proxy.status(429, {"Retry-After": "0"}), 2),
    "failing, 500": (proxy.status(500), 1),
    "a bit flipped once": (proxy.changed(proxy.flipped), 1),
    "fewer bytes once": (proxy.changed(proxy.shorter), 1),
}
LASTING: dict[str, tuple[Callable[[Asked], bool], Act, set[str]]] = {
    "busy for good": (is_part, _BUSY, {"SERVICE_THROTTLED"}),
    "gone for good": (is_part, proxy.drop, {"SERVICE_UNREACHABLE"}),
    "flips a bit always": (is_part, proxy.changed(proxy.flipped), {"BLOB_MISMATCH"}),
    "another blob's bytes": (is_part, proxy.redirected(_other_blob), {"BLOB_MISMATCH", "BLOB_CHANGED"}),
    "more bytes than asked for": (
        is_part,
        proxy.changed(proxy.longer),
        {"TOO_LARGE"},
    ),
    "the blob changed meanwhile": (is_part, proxy.status(412), {"BLOB_CHANGED"}),
    "a flipped envelope": (
        is_envelope,
        proxy.changed(proxy.flipped),
        {"ENVELOPE_MALFORMED", "SIGNATURE_INVALID", "SIGNER_UNKNOWN", "MANIFEST_MALFORMED"},
    ),
    "half an envelope": (
        is_envelope,
        proxy.changed(proxy.shorter),
        {"ENVELOPE_MALFORMED", "SERVICE_UNEXPECTED", "SERVICE_UNREACHABLE"},
    ),
}


@pytest.mark.parametrize("kind", PASSING)
def test_pull_gets_over_it(site: Site, kind: str) -> None:
    act, times = PASSING[kind]
    with site.scene() as scene:
        rule = Rule(when=is_part, act=act, times=times, skip=3)
        with site.proxy.scripted(rule):
            run = scene.pull()
        assert (run.code, rule.hits) == (None, times)
        for _ in range(rule.hits):
            site.tally.inject(f"storage while pulling: {kind}")
        assert scene.verify().code is None


@pytest.mark.parametrize("kind", LASTING)
def test_pull_refuses_and_goes_on_afterwards(site: Site, kind: str) -> None:
    when, act, codes = LASTING[kind]
    with site.scene() as scene:
        skip = 5 if when is is_part and "another" not in kind else 0
        with site.proxy.scripted(Rule(when=when, act=act, times=ALWAYS, skip=skip)):
            run = scene.pull()
        assert run.code in codes
        site.tally.inject(f"storage while pulling: {kind}")
        state = scene.state()
        assert not state.wrong
        assert not state.partial
        assert not state.has_envelope
        with site.proxy.watched() as asked:
            again = scene.pull()
        assert again.code is None
        assert scene.fetched(asked) == sorted(scene.all_parts - state.whole)


# --- push ---------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def loaded(site: Site) -> Iterator[Scene]:
    with site.scene() as scene:
        assert scene.pull().code is None
        yield scene


SENDING: dict[str, Rule] = {
    "connection dropped before a block came in": Rule(when=is_block, act=proxy.drop, before_body=True),
    "block taken, connection dropped": Rule(when=is_block, act=proxy.drop),
    "block kept, answer lost": Rule(when=is_block, act=proxy.lose_answer, times=2),
    "busy, 503, for a block": Rule(when=is_block, act=_BUSY, times=2),
    "block forgotten before the commit": Rule(when=is_block, act=proxy.pretend(201), times=2),
    "commit kept, answer lost": Rule(when=is_commit, act=proxy.lose_answer),
    "commit busy": Rule(when=is_commit, act=_BUSY),
    "manifest kept, answer lost": Rule(when=is_publishing, act=proxy.lose_answer),
    "manifest busy": Rule(when=is_publishing, act=_BUSY),
}


@pytest.mark.parametrize("kind", SENDING)
def test_push_gets_over_it(site: Site, loaded: Scene, kind: str) -> None:
    rule = SENDING[kind]
    loaded.new_container()
    with site.proxy.scripted(rule):
        run = loaded.push()
    assert (run.code, rule.hits) == (None, rule.times)
    for _ in range(rule.hits):
        site.tally.inject(f"storage while pushing: {kind}")
    assert not loaded.target().wrongs(loaded.bundle, is_done=True)


@pytest.mark.parametrize(
    ("kind", "when", "act", "code"),
    [
        ("gone for good", is_block, proxy.drop, "SERVICE_UNREACHABLE"),
        ("busy for good", is_block, _BUSY, "SERVICE_THROTTLED"),
        ("denied", is_block, proxy.status(403), "SERVICE_DENIED"),
    ],
)
def test_push_refuses_and_goes_on_afterwards(  # noqa: PLR0917 - one case of the table above
    site: Site, loaded: Scene, kind: str, when: Callable[[Asked], bool], act: Act, code: str
) -> None:
    loaded.new_container()
    with site.proxy.scripted(Rule(when=when, act=act, times=ALWAYS, skip=2 if when is is_block else 0)):
        run = loaded.push()
    assert run.code == code
    site.tally.inject(f"storage while pushing: {kind}")
    before = loaded.target()
    assert f"{loaded.bundle.transfer_id}/{ENVELOPE_NAME}" not in before.visible
    with site.proxy.watched() as asked:
        again = loaded.push()
    assert again.code is None
    assert not before.staged & set(loaded.sent(asked)), "sent what was there"
    assert not loaded.target().wrongs(loaded.bundle, is_done=True)
