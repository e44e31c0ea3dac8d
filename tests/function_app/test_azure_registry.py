"""The registry port against both of the local cloud's registries: tokens, manifests, referrers."""

import asyncio
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from azure.core.credentials import AccessToken

from airgap.errors import Code, ServiceError
from function_app.azure.registry import AzureRegistry
from local_cloud.pki import CertificateAuthority
from local_cloud.web import serve
from tests.local_cloud.registry_harness import (
    BACKENDS,
    INDEX,
    MANIFEST,
    Backend,
    Harness,
    digest_of,
    image_manifest,
)

PRINCIPAL = "11111111-2222-3333-4444-555555555555"
SCOPE = "https://containerregistry.azure.net/.default"


class Credential:
    def __init__(self, harness: Harness) -> None:
        self._harness = harness
        self.calls = 0

    def get_token(self, *scopes: str, **_: Any) -> AccessToken:
        assert scopes == (SCOPE,)
        self.calls += 1
        token = self._harness.tokens.mint(PRINCIPAL, SCOPE.removesuffix("/.default"))
        return AccessToken(token, int(time.time()) + 3000)


@pytest.fixture(params=BACKENDS)
def harness(tmp_path: Path, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Harness:
    backend: Backend = request.param
    made = Harness(tmp_path, backend)
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(made.ca.ca_file))
    return made


def connect(harness: Harness, credential: Credential | None = None) -> AzureRegistry:
    harness.registry.grant(PRINCIPAL, "AcrPull")
    return AzureRegistry(
        harness.registry.login_server, scope=SCOPE, credential=credential or Credential(harness)
    )


def test_tag_and_digest_are_resolved_and_the_manifest_read(harness: Harness) -> None:
    def use() -> None:
        digest = harness.push_image("team/app", "v1")
        registry = connect(harness)
        for reference in ("v1", digest):
            found = registry.resolve("team/app", reference)
            assert found is not None
            assert (found.digest, found.media_type) == (digest, MANIFEST)
        assert len(registry.manifest("team/app", digest)["layers"]) == 1
        registry.close()

    harness.run(use)


def test_unknown_tag_digest_and_repository_are_none(harness: Harness) -> None:
    def use() -> None:
        harness.push_image("team/app", "v1")
        registry = connect(harness)
        unknown = f"sha256:{'0' * 64}"
        for repository, reference in (("team/app", "v2"), ("team/app", unknown), ("no/such", "v1")):
            assert registry.resolve(repository, reference) is None
        with pytest.raises(ServiceError, match="NOT_FOUND"):
            registry.manifest("team/app", unknown)
        registry.close()

    harness.run(use)


def test_referrers_are_listed_or_the_registry_is_known_to_have_no_such_api(harness: Harness) -> None:
    def use() -> None:
        subject = harness.push_image("team/app", "v1")
        descriptor = {"mediaType": MANIFEST, "digest": subject, "size": 1}
        manifest = image_manifest(b"{}", b"sig", subject=descriptor)
        for blob in (b"{}", b"sig"):
            harness.push_blob("team/app", blob)
        assert harness.put_manifest("team/app", digest_of(manifest), manifest).status_code == 201
        registry = connect(harness)
        listed = registry.referrers("team/app", subject)
        registry.close()
        if harness.registry.backend.startswith("docker"):
            assert listed is None
        else:
            assert listed is not None
            assert [one.digest for one in listed] == [digest_of(manifest)]

    harness.run(use)


def test_index_is_asked_for_and_read(harness: Harness) -> None:
    def use() -> None:
        child = harness.push_image("team/app", "child")
        raw = json.dumps(
            {
                "schemaVersion": 2,
                "mediaType": INDEX,
                "manifests": [{"mediaType": MANIFEST, "digest": child, "size": 1}],
            }
        ).encode()
        assert harness.put_manifest("team/app", "v1", raw, media_type=INDEX).status_code == 201
        registry = connect(harness)
        found = registry.resolve("team/app", "v1")
        assert found is not None
        assert found.media_type == INDEX
        assert registry.manifest("team/app", found.digest)["manifests"][0]["digest"] == child
        registry.close()

    harness.run(use)


def test_tokens_are_kept_and_renewed_when_refused(harness: Harness) -> None:
    def use() -> None:
        harness.push_image("team/app", "v1")
        credential = Credential(harness)
        registry = connect(harness, credential)
        for _ in range(3):
            registry.resolve("team/app", "v1")
        assert credential.calls == 1
        harness.clock.now += 24 * 3600
        assert registry.resolve("team/app", "v1") is not None
        assert credential.calls == 2
        registry.close()

    harness.run(use)


def test_identity_without_a_role_is_denied_and_its_token_not_repeated(harness: Harness) -> None:
    def use() -> None:
        registry = AzureRegistry(harness.registry.login_server, scope=SCOPE, credential=Credential(harness))
        with pytest.raises(ServiceError) as caught:
            registry.resolve("team/app", "v1")
        assert caught.value.code is Code.SERVICE_DENIED
        assert "eyJ" not in str(caught.value)
        registry.close()

    harness.run(use)


def test_referrers_are_followed_to_the_last_page(harness: Harness, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("local_cloud.registry.builtin.PAGE_ITEMS", 2)

    def use() -> None:
        subject = harness.push_image("team/app", "v1")
        descriptor = {"mediaType": MANIFEST, "digest": subject, "size": 1}
        for blob in (b"{}", b"sig"):
            harness.push_blob("team/app", blob)
        pushed = set()
        for number in range(5):
            about = {"subject": descriptor, "annotations": {"number": str(number)}}
            manifest = image_manifest(b"{}", b"sig", **about)
            assert harness.put_manifest("team/app", digest_of(manifest), manifest).status_code == 201
            pushed.add(digest_of(manifest))
        registry = connect(harness)
        listed = registry.referrers("team/app", subject)
        registry.close()
        if not harness.registry.backend.startswith("docker"):
            assert {one.digest for one in listed or ()} == pushed

    harness.run(use)


class LyingRegistry:
    """Answers every manifest with the bytes that it is told to; takes every token for one."""

    def __init__(self, folder: Path) -> None:
        self.ca = CertificateAuthority.create(folder)
        self.content = b""
        self.leads_to = ""  # another name of this machine
        self.next_page = ""
        self.refusals: dict[str, int] = {}
        """How often a path is still answered by 401."""
        self.media_type = MANIFEST
        self.asked_as: set[str | None] = set()
        self.tokens_elsewhere: list[str] = []

    async def _answer(self, request: web.Request) -> web.Response:
        self.asked_as.add(request.url.host)
        if self.refusals.get(request.path):
            self.refusals[request.path] -= 1
            return web.Response(status=401)
        if request.path.startswith("/oauth2/"):
            return web.json_response({"refresh_token": "r", "access_token": "a"})
        if self.leads_to and request.url.host != self.leads_to:
            raise web.HTTPTemporaryRedirect(str(request.url.with_host(self.leads_to)))
        if self.leads_to:
            self.tokens_elsewhere += request.headers.getall("Authorization", [])
        headers = {"Link": self.next_page} if self.next_page else {}
        return web.Response(body=self.content, content_type=self.media_type, headers=headers)

    def get_token(self, *_: str, **__: Any) -> AccessToken:
        return AccessToken("entra", int(time.time()) + 3000)

    def run(self, use: Callable[[AzureRegistry], None]) -> None:
        async def scenario() -> None:
            app = web.Application()
            app.router.add_route("*", "/{path:.*}", self._answer)
            server = await serve(app, ssl_context=self.ca.server_context("registry"))
            registry = AzureRegistry(server.url.removeprefix("https://"), scope=SCOPE, credential=self)
            try:
                await asyncio.to_thread(use, registry)
            finally:
                registry.close()
                await server.close()

        asyncio.run(scenario())


@pytest.fixture
def liar(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> LyingRegistry:
    made = LyingRegistry(tmp_path)
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(made.ca.ca_file))
    return made


def of_size(size: int) -> bytes:
    """A JSON object of so many bytes."""
    return b'{"x":"' + b"y" * (size - 8) + b'"}'


_LARGEST = 4 * 1024 * 1024


@pytest.mark.parametrize(
    ("content", "described"),
    [
        (b'{"layers":[]}', b'{"layers":[1]}'),
        (b"", b'{"layers":[]}'),
        (b"[]", b"[]"),
        (b"<html>", b"<html>"),
        (b'"text"', b'"text"'),
        (b"\xff", b"\xff"),
        (b"[" * 100_000, b"[" * 100_000),
        (of_size(_LARGEST + 1), of_size(_LARGEST + 1)),
    ],
    ids=["other bytes", "no bytes", "array", "page", "text", "not utf-8", "deep", "larger than 4 MiB"],
)
def test_registry_that_sends_anything_but_the_manifest_is_not_believed(
    liar: LyingRegistry, content: bytes, described: bytes
) -> None:
    liar.content = content

    def use(registry: AzureRegistry) -> None:
        with pytest.raises(ServiceError) as caught:
            registry.manifest("team/app", digest_of(described))
        assert caught.value.code is Code.SERVICE_UNEXPECTED

    liar.run(use)


def test_token_is_not_carried_to_where_the_registry_leads(liar: LyingRegistry) -> None:
    """Only blobs are given out elsewhere, and there without our token."""
    liar.leads_to = "localhost"

    def use(registry: AzureRegistry) -> None:
        with pytest.raises(ServiceError) as caught:
            registry.manifest("team/app", digest_of(b"{}"))
        assert caught.value.code is Code.SERVICE_UNEXPECTED

    liar.run(use)
    assert liar.asked_as == {"127.0.0.1"}


def test_configuration_is_fetched_from_where_the_registry_leads_without_its_token(
    liar: LyingRegistry,
) -> None:
    liar.leads_to, liar.content = "localhost", b'{"os": "linux"}'

    def use(registry: AzureRegistry) -> None:
        assert registry.config("team/app", digest_of(liar.content)) == {"os": "linux"}
        with pytest.raises(ServiceError, match="SERVICE_UNEXPECTED"):
            registry.config("team/app", digest_of(b"other bytes"))

    liar.run(use)
    assert liar.asked_as == {"127.0.0.1", "localhost"}
    assert liar.tokens_elsewhere == []


@pytest.mark.parametrize(
    "next_page",
    ['</v2/team/app/referrers/x?last=a>; rel="next"', '<https://elsewhere.example/?last=a>; rel="next"'],
)
def test_referrers_without_an_end_are_refused(liar: LyingRegistry, next_page: str) -> None:
    liar.media_type, liar.next_page = INDEX, next_page
    liar.content = json.dumps({"manifests": [{"digest": digest_of(b"x"), "mediaType": MANIFEST}]}).encode()

    def use(registry: AzureRegistry) -> None:
        with pytest.raises(ServiceError, match="there is no end to them"):
            registry.referrers("team/app", digest_of(b"{}"))

    liar.run(use)
    assert liar.asked_as == {"127.0.0.1"}


@pytest.mark.parametrize("one", [7, {"name": "v1"}, {"digest": "x"}, {"name": "v1", "digest": 7}])
def test_list_of_tags_holds_names_digests_and_times_or_is_not_believed(liar: LyingRegistry, one: Any) -> None:
    liar.content = json.dumps({"tags": [one]}).encode()

    def use(registry: AzureRegistry) -> None:
        with pytest.raises(ServiceError, match="SERVICE_UNEXPECTED"):
            list(registry.list_tags("team/app"))

    liar.run(use)


@pytest.mark.parametrize("path", ["/oauth2/exchange", "/oauth2/token"])
@pytest.mark.parametrize("times", [1, 2])
def test_token_that_is_refused_in_passing_is_asked_for_again_once(
    liar: LyingRegistry, path: str, times: int
) -> None:
    liar.content, liar.refusals = b"{}", {path: times}

    def use(registry: AzureRegistry) -> None:
        if times == 1:
            return check_read(registry, liar.content)
        with pytest.raises(ServiceError) as caught:
            registry.manifest("team/app", digest_of(liar.content))
        assert caught.value.code is Code.SERVICE_DENIED
        return None

    liar.run(use)


def test_manifest_of_just_4_mib_is_read(liar: LyingRegistry) -> None:
    liar.content = of_size(_LARGEST)
    liar.run(lambda registry: check_read(registry, liar.content))


def check_read(registry: AzureRegistry, content: bytes) -> None:
    assert registry.manifest("team/app", digest_of(content)) == json.loads(content)


def test_digest_is_taken_from_the_answer_and_must_be_one(liar: LyingRegistry) -> None:
    liar.content = b"{}"  # and no Docker-Content-Digest

    def use(registry: AzureRegistry) -> None:
        with pytest.raises(ServiceError, match="SERVICE_UNEXPECTED"):
            registry.resolve("team/app", "v1")

    liar.run(use)


@pytest.mark.parametrize(
    "tag",
    [
        None,
        {},
        {"digest": f"sha256:{'0' * 64}"},
        {"digest": f"sha256:{'0' * 64}", "lastUpdateTime": ""},
        {"digest": f"sha256:{'0' * 64}", "lastUpdateTime": 7},
        {"digest": "sha256:abc", "lastUpdateTime": "2026-11-29T08:00:00.0000000Z"},
        {"lastUpdateTime": "2026-11-29T08:00:00.0000000Z"},
    ],
)
def test_state_of_a_tag_is_a_digest_and_a_time_or_not_believed(liar: LyingRegistry, tag: Any) -> None:
    liar.content = json.dumps({"registry": "r", "imageName": "team/app", "tag": tag}).encode()

    def use(registry: AzureRegistry) -> None:
        with pytest.raises(ServiceError, match="SERVICE_UNEXPECTED"):
            registry.tag("team/app", "v1")

    liar.run(use)
