"""What the registry holds of an artifact: each thing that it may have lost, and how far a step goes."""

import hashlib
import json
from collections.abc import Callable, Mapping
from typing import Any

import pytest

from airgap.errors import Code, PolicyRefusal
from airgap.manifest import Artifact
from airgap.receipt import MAX_MISSING_CONTENTS, ArtifactProof
from function_app.oci import MAX_DEPTH
from function_app.storage.work_folder import WorkFolder
from function_app.target import looking_up
from function_app.target.admission import declared_folder
from function_app.target.looking_up import look_up, tell_missing
from function_app.target.wire import Declared, Proofs
from tests.function_app.memory import INDEX_TYPE, MANIFEST_TYPE, MemoryBlobs, MemoryRegistry
from tests.function_app.test_import import Target, bundle_of
from tests.function_app.test_staged import StagedTarget

REPOSITORY = "team/app"
GROUP = f"{declared_folder('001')}000000"
FOLDER = "proofs/"


def digest_of(text: str) -> str:
    return f"sha256:{hashlib.sha256(text.encode()).hexdigest()}"


def image(name: str, layers: int = 2, **more: Any) -> dict[str, Any]:
    """An image of its own config and layers."""
    return {
        "config": {"digest": digest_of(f"config of {name}")},
        "layers": [{"digest": digest_of(f"layer {number} of {name}")} for number in range(layers)],
        **more,
    }


def index_of(*digests: str) -> dict[str, Any]:
    return {"manifests": [{"digest": digest} for digest in digests]}


class Shelf:
    """A registry, and the artifacts that are declared of it."""

    def __init__(self) -> None:
        self.registry = MemoryRegistry()
        self.work = WorkFolder(MemoryBlobs(), "owner1")
        self.artifacts: list[Artifact] = []

    def declare(self, digest: str, *, subject: str | None = None, tags: tuple[str, ...] = ()) -> str:
        self.artifacts.append(
            Artifact(
                reference=f"{REPOSITORY}@{digest}",
                digest=digest,
                media_type=MANIFEST_TYPE,
                tags=tags,
                artifact_type=None if subject is None else "signature",
                subject=subject,
            )
        )
        return digest

    def push(self, manifest: Mapping[str, Any]) -> str:
        is_index = "manifests" in manifest
        return self.registry.push(REPOSITORY, manifest, media_type=INDEX_TYPE if is_index else MANIFEST_TYPE)

    def lose(self, digest: str) -> None:
        self.registry.blobs.discard((REPOSITORY, digest))
        self.registry.manifests.pop((REPOSITORY, digest), None)

    def step(self) -> bool:
        """One step; each asks for a bounded number of things."""
        document = Declared(artifacts=tuple(one.to_json() for one in self.artifacts))
        self.work.create(GROUP, document)
        self.registry.asked.clear()
        return look_up(self.registry, self.work, GROUP, FOLDER)

    def proofs(self) -> list[ArtifactProof]:
        found = self.work.get(f"{FOLDER}001/000000", Proofs)
        proofs = [ArtifactProof.from_json(one, "proof") for one in found.proofs]
        assert found.lacking == sum(not proof.is_proven for proof in proofs)
        return proofs

    def proof(self) -> ArtifactProof:
        while not self.step():
            pass
        (proof,) = self.proofs()
        return proof


def test_artifact_whose_config_and_layers_are_there_is_proven_by_one_request_for_each() -> None:
    shelf = Shelf()
    shelf.declare(shelf.push(image("a", layers=5)))
    assert shelf.proof().is_proven
    assert dict(shelf.registry.asked) == {"manifest": 1, "has_blob": 6}


@pytest.mark.parametrize("lost", ["config of a", "layer 0 of a", "layer 1 of a"])
def test_lost_config_or_layer_is_told_by_kind_and_digest(lost: str) -> None:
    shelf = Shelf()
    shelf.declare(shelf.push(image("a")))
    shelf.lose(digest_of(lost))
    proof = shelf.proof()
    assert [(one.kind, one.digest) for one in proof.missing] == [(lost.partition(" ")[0], digest_of(lost))]
    assert (proof.is_proven, proof.found) == (False, proof.digest)
    assert tell_missing(proof) == f"without the {lost.partition(' ')[0]} {digest_of(lost)}"


def test_blobs_of_an_artifact_that_is_no_image_are_layers() -> None:
    shelf = Shelf()
    shelf.declare(shelf.push({"blobs": [{"digest": digest_of("chart")}]}))
    shelf.lose(digest_of("chart"))
    assert [one.kind for one in shelf.proof().missing] == ["layer"]


@pytest.mark.parametrize("depth", [1, 2, MAX_DEPTH])
@pytest.mark.parametrize("lost", ["manifest", "layer"])
def test_loss_is_found_in_an_index_however_deep(depth: int, lost: str) -> None:
    shelf = Shelf()
    inner = shelf.push(image("inner"))
    outer = inner
    for _ in range(depth):
        outer = shelf.push(index_of(shelf.push(image("other")), outer))
    shelf.declare(outer)
    shelf.lose(inner if lost == "manifest" else digest_of("layer 1 of inner"))
    proof = shelf.proof()
    assert [one.kind for one in proof.missing] == [lost]


@pytest.mark.parametrize("depth", [1, MAX_DEPTH])
def test_whole_index_is_proven_however_deep(depth: int) -> None:
    shelf = Shelf()
    outer = shelf.push(image("inner"))
    for _ in range(depth):
        outer = shelf.push(index_of(shelf.push(image("other")), outer))
    shelf.declare(outer)
    assert shelf.proof().is_proven


def test_index_nested_deeper_than_any_that_crosses_is_refused() -> None:
    shelf = Shelf()
    outer = shelf.push(image("inner"))
    for _ in range(MAX_DEPTH + 1):
        outer = shelf.push(index_of(outer))
    shelf.declare(outer)
    with pytest.raises(PolicyRefusal, match=Code.ARTIFACT_REFUSED.name):
        shelf.proof()


def test_index_of_more_manifests_than_any_that_crosses_is_refused_before_they_are_read() -> None:
    shelf = Shelf()
    shelf.declare(shelf.push(index_of(*(digest_of(f"child {number}") for number in range(5000)))))
    with pytest.raises(PolicyRefusal, match=Code.ARTIFACT_REFUSED.name):
        shelf.proof()
    assert shelf.registry.asked["manifest"] == 1


def test_indexes_that_list_each_other_many_times_are_read_once() -> None:
    shelf = Shelf()
    inner = outer = shelf.push(image("inner"))
    for level in range(MAX_DEPTH):
        outer = shelf.push({**index_of(inner, *[outer] * 100), "annotations": {"level": str(level)}})
    shelf.declare(outer)
    assert shelf.proof().is_proven
    assert shelf.registry.asked["manifest"] == MAX_DEPTH + 1


@pytest.mark.parametrize("sort", ["urls", "mediaType"])
def test_foreign_layer_is_not_looked_for(sort: str) -> None:
    value = {"urls": ["https://example.org/layer"]}
    if sort == "mediaType":
        value = {"mediaType": "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip"}  # type: ignore[dict-item]
    shelf = Shelf()
    manifest = image("a", layers=1)
    manifest["layers"].append({"digest": digest_of("foreign"), **value})
    shelf.declare(shelf.push(manifest))
    shelf.lose(digest_of("foreign"))
    assert shelf.proof().is_proven


def signed_image(shelf: Shelf) -> str:
    """Declare an image and its signature; the signature's digest."""
    subject = shelf.declare(shelf.push(image("a")))
    signature = shelf.push(image("signature", subject={"digest": subject}))
    return shelf.declare(signature, subject=subject)


def test_signature_that_the_registry_lists_for_its_image_is_proven() -> None:
    shelf = Shelf()
    signed_image(shelf)
    assert shelf.step()
    assert all(proof.is_proven for proof in shelf.proofs())
    assert shelf.registry.asked["referrers"] == 1


def test_signature_that_the_registry_does_not_list_for_its_image_is_told() -> None:
    shelf = Shelf()
    signature = signed_image(shelf)
    shelf.registry.unlisted.add(signature)
    assert shelf.step()
    proofs = shelf.proofs()
    assert [proof.is_proven for proof in proofs] == [True, False]
    assert [(one.kind, one.digest) for one in proofs[1].missing] == [("referrer", proofs[0].digest)]
    assert tell_missing(proofs[1]) == f"not listed as a referrer of {proofs[0].digest}"


def test_registry_that_has_no_lists_of_referrers_is_not_blamed_for_it() -> None:
    shelf = Shelf()
    signed_image(shelf)
    shelf.registry.has_referrers_api = False
    assert shelf.step()
    assert all(proof.is_proven for proof in shelf.proofs())


def test_signature_under_a_tag_of_its_own_has_no_subject_to_be_listed_for() -> None:
    """As cosign stores it; its tag is what it is found by."""
    shelf = Shelf()
    subject = shelf.declare(shelf.push(image("a")))
    shelf.declare(shelf.push(image("signature")), subject=subject)
    assert shelf.step()
    assert all(proof.is_proven for proof in shelf.proofs())


def test_what_was_ordered_by_itself_need_not_be_listed_as_a_referrer() -> None:
    shelf = Shelf()
    signature = shelf.declare(shelf.push(image("signature", subject={"digest": digest_of("elsewhere")})))
    shelf.registry.unlisted.add(signature)
    assert shelf.proof().is_proven


def test_layer_that_two_artifacts_share_is_asked_for_once() -> None:
    shelf = Shelf()
    for name in ("a", "b"):
        shelf.declare(shelf.push({**image("same"), "annotations": {"name": name}}))
    assert shelf.step()
    assert dict(shelf.registry.asked) == {"manifest": 2, "has_blob": 3}


def test_layer_of_another_repository_is_not_taken_for_it() -> None:
    shelf = Shelf()
    shelf.declare(shelf.push(image("a")))
    shelf.lose(digest_of("layer 0 of a"))
    shelf.registry.put("team/other", digest_of("other"), image("a"))
    assert shelf.proof().missing_count == 1


def test_more_than_a_receipt_lists_is_counted() -> None:
    shelf = Shelf()
    shelf.declare(shelf.push(image("a", layers=100)))
    shelf.registry.blobs.clear()
    proof = shelf.proof()
    assert (len(proof.missing), proof.missing_count) == (MAX_MISSING_CONTENTS, 101)
    assert "and 100 more" in tell_missing(proof)


@pytest.mark.parametrize(
    ("limit", "room", "steps"), [("REQUESTS_AT_ONCE", 10, 5), ("MANIFESTS_AT_ONCE", 2, 6)]
)
def test_large_index_is_looked_up_in_steps_of_a_bounded_size(
    limit: str, room: int, steps: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    shelf = Shelf()
    children = [shelf.push(image(f"platform {number}")) for number in range(10)]
    shelf.declare(shelf.push(index_of(*children)))
    shelf.lose(digest_of("layer 1 of platform 0"))
    shelf.lose(digest_of("layer 1 of platform 9"))
    monkeypatch.setattr(looking_up, limit, room)
    taken = 1
    while not shelf.step():
        assert sum(shelf.registry.asked.values()) <= (room if limit == "REQUESTS_AT_ONCE" else 4 * room)
        assert shelf.registry.asked["manifest"] <= room
        taken += 1
    (proof,) = shelf.proofs()
    assert {one.digest for one in proof.missing} == {
        digest_of("layer 1 of platform 0"),
        digest_of("layer 1 of platform 9"),
    }
    assert taken == steps


def test_step_that_is_delivered_once_more_asks_nothing() -> None:
    shelf = Shelf()
    shelf.declare(shelf.push(image("a")))
    assert shelf.step()
    assert shelf.step()
    assert not shelf.registry.asked


def whole(target: Target, bundle: Any) -> dict[str, Any]:
    """Give the first artifact of a bundle contents; what they are."""
    artifact, contents = bundle.manifest.artifacts[0], image("real")
    target.registry.put(artifact.repository, artifact.digest, contents)
    return contents


def test_import_that_took_several_steps_to_look_up_is_proven(monkeypatch: pytest.MonkeyPatch) -> None:
    target, bundle = Target(), bundle_of()
    raw = target.upload(bundle)
    whole(target, bundle)
    monkeypatch.setattr(looking_up, "REQUESTS_AT_ONCE", 1)
    assert target.receipt(target.run(raw)).is_imported
    assert target.host.called.count("prove_artifacts") > 2


def test_receipt_names_the_layer_that_is_lost_and_the_outcome_says_so() -> None:
    target, bundle = Target(), bundle_of()
    raw = target.upload(bundle)
    contents = whole(target, bundle)
    layer = contents["layers"][1]["digest"]
    target.registry.blobs.remove(("team/app001", layer))
    outcome = target.run(raw)
    receipt = target.assert_refused(outcome, Code.IMPORT_INCOMPLETE)
    assert [json.dumps(one.to_json()) for one in receipt.artifacts[0].missing] == [
        json.dumps({"kind": "layer", "digest": layer})
    ]
    assert f"team/app001:v1, without the layer {layer}" in receipt.detail


def _hollow(target: StagedTarget, bundle: Any) -> Callable[[], None]:
    artifact = bundle.manifest.artifacts[0]

    def ride() -> None:
        target.staging.put(artifact.repository, artifact.digest, image("real"))
        target.staging.blobs.discard((artifact.repository, digest_of("layer 0 of real")))

    return ride


def test_artifact_that_lacks_a_layer_in_the_staging_registry_is_not_brought_over() -> None:
    target, bundle = StagedTarget(), bundle_of()
    target.riding = _hollow(target, bundle)
    receipt = target.assert_refused(target.receive(bundle), Code.IMPORT_INCOMPLETE)
    assert "from which nothing was brought" in receipt.detail
    assert target.real == set()


def test_layer_that_the_real_registry_lacks_of_what_it_had_before_is_told() -> None:
    """What is there already is not brought again, and would stay without it."""
    target, bundle = StagedTarget(), bundle_of()
    artifact = bundle.manifest.artifacts[0]
    target.riding = lambda: target.staging.put(artifact.repository, artifact.digest, image("real"))
    target.registry.put(artifact.repository, artifact.digest, image("real"))
    target.registry.tags[artifact.repository, "v1"] = artifact.digest
    target.registry.blobs.clear()
    receipt = target.assert_refused(target.receive(bundle), Code.IMPORT_INCOMPLETE)
    assert receipt.artifacts[0].missing_count == 3
