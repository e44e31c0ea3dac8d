"""One suite for the registry port: the double, and both of the local cloud's registries."""

import json
import shutil
import time
import uuid
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any, Protocol

import pytest
from azure.core.credentials import AccessToken

from airgap.errors import ServiceError
from airgap.manifest import Artifact
from airgap.receipt import ArtifactProof
from function_app.azure.registry import AzureRegistry
from function_app.ports import RegistryReader, StagingRegistry
from function_app.storage.work_folder import WorkFolder
from function_app.target.looking_up import look_up
from function_app.target.wire import Declared, Proofs
from local_cloud.registry import Registry
from tests.contract.loop import running_loop
from tests.function_app.memory import MemoryBlobs, MemoryRegistry
from tests.local_cloud.registry_harness import BACKENDS, INDEX, MANIFEST, Harness, digest_of

PRINCIPAL = "11111111-2222-3333-4444-555555555555"
SCOPE = "https://containerregistry.azure.net/.default"
UNKNOWN = f"sha256:{'0' * 64}"
_CONFIG = b'{"architecture":"amd64","os":"linux"}'


class Shelf(Protocol):
    """A registry that tests put manifests into, and the port on it."""

    @property
    def reader(self) -> RegistryReader: ...

    @property
    def has_referrers_api(self) -> bool: ...

    def put(
        self, repository: str, manifest: Mapping[str, Any], *tags: str, media_type: str = MANIFEST
    ) -> str:
        """Store a manifest under its digest and its tags; returns the digest."""

    def lose(self, repository: str, digest: str, *, of: str | None = None) -> None:
        """Lose a blob or a manifest of a repository; with ``of``, that it refers to this one."""

    def put_config(self, repository: str, config: Mapping[str, Any]) -> str:
        """Store the configuration of an image; returns its digest."""

    def forget(self, repository: str) -> None:
        """Put again what manifests of a repository refer to: it was deleted."""

    def read_only(self) -> AbstractContextManager[StagingRegistry]:
        """The registry as somebody has it who may delete nothing."""


class MemoryShelf:
    def __init__(self, *, has_referrers_api: bool) -> None:
        self.has_referrers_api = has_referrers_api
        self.reader = MemoryRegistry()
        self.reader.has_referrers_api = has_referrers_api

    def put(
        self, repository: str, manifest: Mapping[str, Any], *tags: str, media_type: str = MANIFEST
    ) -> str:
        return self.reader.push(repository, manifest, *tags, media_type=media_type)

    def lose(self, repository: str, digest: str, *, of: str | None = None) -> None:
        if of is not None:
            self.reader.unlisted.add(digest)
            return
        self.reader.blobs.discard((repository, digest))
        self.reader.manifests.pop((repository, digest), None)

    def put_config(self, repository: str, config: Mapping[str, Any]) -> str:
        del repository
        digest = digest_of(json.dumps(config).encode())
        self.reader.configs[digest] = dict(config)
        return digest

    def forget(self, repository: str) -> None:
        del repository

    @contextmanager
    def read_only(self) -> Iterator[StagingRegistry]:
        self.reader.is_kept = True
        yield self.reader
        self.reader.is_kept = False


class RealShelf:
    """A registry of the local cloud, with what every manifest refers to."""

    def __init__(self, harness: Harness) -> None:
        self.harness = harness
        self._principal = PRINCIPAL
        self._seen: set[str] = set()
        self.has_referrers_api = harness.backend == "builtin"  # Debian's docker-registry is older than that
        self.reader = AzureRegistry(harness.registry.login_server, scope=SCOPE, credential=self)

    def get_token(self, *scopes: str, **_: Any) -> AccessToken:
        assert scopes == (SCOPE,)
        token = self.harness.tokens.mint(self._principal, SCOPE.removesuffix("/.default"))
        return AccessToken(token, int(time.time()) + 3000)

    @contextmanager
    def read_only(self) -> Iterator[StagingRegistry]:
        other = RealShelf(self.harness)
        other._principal = str(uuid.uuid4())
        self.harness.registry.grant(other._principal, "AcrPull")
        yield other.reader
        other.reader.close()

    def lose(self, repository: str, digest: str, *, of: str | None = None) -> None:
        folder = self.harness.folder / "registry" / "builtin" / "repositories" / repository
        kinds = ("_blobs", "_manifests") if of is None else (f"_referrers/{of.removeprefix('sha256:')}",)
        (link,) = (
            path for kind in kinds if (path := folder / kind / digest.removeprefix("sha256:")).exists()
        )
        link.unlink()

    def forget(self, repository: str) -> None:
        self._seen.discard(repository)

    def put_config(self, repository: str, config: Mapping[str, Any]) -> str:
        raw = json.dumps(config).encode()
        assert self.harness.push_blob(repository, raw).status_code == 201
        return digest_of(raw)

    def put(
        self, repository: str, manifest: Mapping[str, Any], *tags: str, media_type: str = MANIFEST
    ) -> str:
        if repository not in self._seen:
            assert self.harness.push_blob(repository, _CONFIG).status_code == 201
            self._seen.add(repository)
        raw = json.dumps(manifest).encode()
        for reference in (digest_of(raw), *tags):
            answer = self.harness.put_manifest(repository, reference, raw, media_type=media_type)
            assert answer.status_code == 201, answer.text
        return digest_of(raw)


@pytest.fixture(scope="module", params=["memory", "memory, older", *BACKENDS])
def shelf(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shelf]:
    if request.param.startswith("memory"):
        yield MemoryShelf(has_referrers_api="older" not in request.param)
        return
    folder: Path = tmp_path_factory.mktemp("registry")
    harness = Harness(folder, request.param)
    with pytest.MonkeyPatch.context() as patch, running_loop() as loop:
        patch.setenv("REQUESTS_CA_BUNDLE", str(harness.ca.ca_file))
        harness.registry = loop.run(
            Registry.start(
                name="srcreg",
                folder=folder / "registry",
                ca=harness.ca,
                tokens=harness.tokens,
                backend=harness.backend,
                clock=harness.clock,
            )
        )
        harness.registry.grant(PRINCIPAL, "AcrPull")
        real = RealShelf(harness)
        yield real
        real.reader.close()
        harness.session.close()
        loop.run(harness.registry.close())
    shutil.rmtree(folder)


@pytest.fixture
def repository() -> str:
    """One of its own for each test: the registry is shared."""
    return f"team/{uuid.uuid4().hex}"


def image(**more: Any) -> dict[str, Any]:
    """An image without layers."""
    config = {
        "mediaType": "application/vnd.oci.image.config.v1+json",
        "digest": digest_of(_CONFIG),
        "size": len(_CONFIG),
    }
    return {"schemaVersion": 2, "mediaType": MANIFEST, "config": config, "layers": [], **more}


def annotated(text: str) -> dict[str, Any]:
    return image(annotations={"text": text})


def test_tag_and_digest_stand_for_the_manifest_with_its_media_type(shelf: Shelf, repository: str) -> None:
    digest = shelf.put(repository, image(), "v1", "latest")
    for reference in ("v1", "latest", digest):
        found = shelf.reader.resolve(repository, reference)
        assert found is not None
        assert (found.digest, found.media_type) == (digest, MANIFEST)


def test_tag_stands_for_what_it_points_to_now(shelf: Shelf, repository: str) -> None:
    first = shelf.put(repository, annotated("first"), "v1")
    second = shelf.put(repository, annotated("second"), "v1")
    found, still = shelf.reader.resolve(repository, "v1"), shelf.reader.resolve(repository, first)
    assert found is not None
    assert found.digest == second != first
    assert still is not None


def test_state_of_a_tag_stays_as_long_as_nobody_writes_to_it(shelf: Shelf, repository: str) -> None:
    digest = shelf.put(repository, annotated("first"), "v1")
    state = shelf.reader.tag(repository, "v1")
    shelf.put(repository, annotated("second"), "v2")
    shelf.put(repository, annotated("third"))
    assert state is not None
    assert state.digest == digest
    assert shelf.reader.tag(repository, "v1") == state


def test_tag_that_was_moved_away_and_back_has_another_state(shelf: Shelf, repository: str) -> None:
    first = shelf.put(repository, annotated("first"), "v1")
    before = shelf.reader.tag(repository, "v1")
    shelf.put(repository, annotated("second"), "v1")
    away = shelf.reader.tag(repository, "v1")
    shelf.put(repository, annotated("first"), "v1")
    back = shelf.reader.tag(repository, "v1")
    assert before is not None
    assert away is not None
    assert back is not None
    assert before.digest == back.digest == first != away.digest
    assert len({before.written_at, away.written_at, back.written_at}) == 3


def test_tag_that_the_registry_does_not_have_has_no_state(shelf: Shelf, repository: str) -> None:
    shelf.put(repository, image(), "v1")
    assert shelf.reader.tag(repository, "v2") is None
    assert shelf.reader.tag(f"{repository}/other", "v1") is None


def test_what_the_registry_does_not_have_is_none(shelf: Shelf, repository: str) -> None:
    digest = shelf.put(repository, image(), "v1")
    assert shelf.reader.resolve(repository, "v2") is None
    assert shelf.reader.resolve(repository, UNKNOWN) is None
    assert shelf.reader.resolve(f"{repository}/other", "v1") is None
    assert shelf.reader.resolve(f"{repository}/other", digest) is None


def test_manifest_that_is_not_there_is_not_found(shelf: Shelf, repository: str) -> None:
    digest = shelf.put(repository, image(), "v1")
    for where, what in ((repository, UNKNOWN), (f"{repository}/other", digest)):
        with pytest.raises(ServiceError, match="NOT_FOUND"):
            shelf.reader.manifest(where, what)


def test_manifest_is_read_whole(shelf: Shelf, repository: str) -> None:
    manifest = annotated("Grüße, 世界")
    digest = shelf.put(repository, manifest)
    assert shelf.reader.manifest(repository, digest) == manifest


def test_manifest_of_almost_4_mib_is_read(shelf: Shelf, repository: str) -> None:
    manifest = annotated("x" * (4 * 2**20 - 1000))
    digest = shelf.put(repository, manifest)
    assert shelf.reader.manifest(repository, digest) == manifest


def test_index_is_read_and_told_apart(shelf: Shelf, repository: str) -> None:
    child = shelf.put(repository, image())
    index = {
        "schemaVersion": 2,
        "mediaType": INDEX,
        "manifests": [{"mediaType": MANIFEST, "digest": child, "size": len(json.dumps(image()))}],
    }
    digest = shelf.put(repository, index, "v1", media_type=INDEX)
    found = shelf.reader.resolve(repository, "v1")
    assert found is not None
    assert (found.digest, found.media_type) == (digest, INDEX)
    assert shelf.reader.manifest(repository, digest) == index


def test_referrers_are_those_of_that_subject_or_there_is_no_such_api(shelf: Shelf, repository: str) -> None:
    subject, other = shelf.put(repository, image(), "v1"), shelf.put(repository, annotated("other"))

    def of(digest: str, text: str) -> str:
        target = {"mediaType": MANIFEST, "digest": digest, "size": 1}
        return shelf.put(repository, image(subject=target, annotations={"text": text}))

    signatures = {of(subject, "signature"), of(subject, "sbom")}
    of(other, "signature of another")
    listed = shelf.reader.referrers(repository, subject)
    if not shelf.has_referrers_api:
        assert listed is None
        return
    assert listed is not None
    assert {one.digest for one in listed} == signatures
    assert {one.media_type for one in listed} == {MANIFEST}
    assert shelf.reader.referrers(repository, next(iter(signatures))) == []


def test_blob_is_there_in_its_repository_and_in_no_other(shelf: Shelf, repository: str) -> None:
    shelf.put(repository, image())
    assert shelf.reader.has_blob(repository, digest_of(_CONFIG))
    assert not shelf.reader.has_blob(repository, UNKNOWN)
    assert not shelf.reader.has_blob(f"{repository}/other", digest_of(_CONFIG))


@pytest.mark.parametrize("kind", ["nothing", "config", "manifest", "referrer"])
def test_what_a_registry_has_lost_of_an_artifact_is_found_out(
    shelf: Shelf, repository: str, kind: str
) -> None:
    if not shelf.has_referrers_api:
        kind = "nothing"  # what it keeps where is its own business
    child = shelf.put(repository, image())
    descriptor = {"mediaType": MANIFEST, "digest": child, "size": len(json.dumps(image()))}
    index = {"schemaVersion": 2, "mediaType": INDEX, "manifests": [descriptor]}
    subject = shelf.put(repository, index, media_type=INDEX)
    target = {"mediaType": INDEX, "digest": subject, "size": len(json.dumps(index))}
    signature = shelf.put(repository, image(subject=target))
    match kind:
        case "config":
            shelf.lose(repository, digest_of(_CONFIG))
        case "manifest":
            shelf.lose(repository, child)
        case "referrer":
            shelf.lose(repository, signature, of=subject)
    work = WorkFolder(MemoryBlobs(), "owner1")
    artifacts = [
        Artifact(reference=f"{repository}@{subject}", digest=subject, media_type=INDEX),
        Artifact(
            reference=f"{repository}@{signature}",
            digest=signature,
            media_type=MANIFEST,
            artifact_type="signature",
            subject=subject,
        ),
    ]
    work.create("declared/001/000000", Declared(artifacts=tuple(one.to_json() for one in artifacts)))
    assert look_up(shelf.reader, work, "declared/001/000000", "proofs/")
    proofs = [ArtifactProof.from_json(one, "proof") for one in work.get("proofs/001/000000", Proofs).proofs]
    assert [proof.found for proof in proofs] == [subject, signature]
    assert [[one.kind for one in proof.missing] for proof in proofs] == {
        "nothing": [[], []],
        "config": [["config"], ["config"]],
        "manifest": [["manifest"], []],
        "referrer": [[], ["referrer"]],
    }[kind]


def test_every_tag_is_listed_once_with_the_state_that_it_has(shelf: Shelf, repository: str) -> None:
    """A hundred to a page, as ACR has them: the rest must not be lost."""
    digest = shelf.put(repository, image(), *(f"v{number}" for number in range(120)))
    other = shelf.put(repository, annotated("other"), "v7")
    listed = list(shelf.reader.list_tags(repository))
    assert sorted(name for name, _ in listed) == sorted(f"v{number}" for number in range(120))
    states = dict(listed)
    assert (states["v7"].digest, states["v8"].digest) == (other, digest)
    assert states["v7"] == shelf.reader.tag(repository, "v7")


def test_repository_that_the_registry_does_not_have_has_no_tags(shelf: Shelf, repository: str) -> None:
    assert list(shelf.reader.list_tags(repository)) == []


def test_catalog_names_every_repository(shelf: Shelf, repository: str) -> None:
    shelf.put(f"{repository}/one", image(), "v1")
    shelf.put(f"{repository}/two", image())
    names = list(shelf.reader.catalog())
    assert {f"{repository}/one", f"{repository}/two"} <= set(names)
    assert len(names) == len(set(names))


def test_configuration_of_an_image_is_read_whole(shelf: Shelf, repository: str) -> None:
    shelf.put(repository, image(), "v1")
    config = {"architecture": "amd64", "config": {"Labels": {"team": "Grüße"}}}
    digest = shelf.put_config(repository, config)
    assert shelf.reader.config(repository, digest) == config
    with pytest.raises(ServiceError, match="NOT_FOUND"):
        shelf.reader.config(repository, UNKNOWN)
