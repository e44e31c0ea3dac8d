"""What the runs bring, and what the registry says of it afterwards."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from airgap.envelope import Envelope
from airgap.errors import Code
from tests.attacks.scene import Attack, Partial, Scene, run_fails
from tests.bundles import AUDIENCE
from tests.function_app.memory import failed, succeeded

Touch = Callable[[Scene], object]

RIDES_ALONG: Mapping[str, str] = {
    "an image of another repository": "infra/root-shell:v1",
    "an image by the registry's name": f"{AUDIENCE[0]}/infra/root-shell:v1",
    "another tag of a declared repository": "team/app001:v2",
    "another digest of a declared repository": f"team/app001@sha256:{'e' * 64}",
    "a declared reference below another folder": "evil/team/app001:v1",
    "a declared reference of another registry": "evil.example/team/app001:v1",
    "a repository without a tag": "team/app001",
    "a name with a line end": "a\nb:1",
    "an empty name": "",
    "a name of a thousand characters": "a" * 1000 + ":v1",
}


def _reports(reference: str, *, is_failed: bool) -> Callable[[Scene], Mapping[str, Any]]:
    def act(scene: Scene) -> Mapping[str, Any]:
        def end(request: Mapping[str, Any]) -> dict[str, Any]:
            name = request["source"]["name"][-3:]
            properties = failed("a layer is missing") if is_failed else succeeded()
            properties["response"]["importedArtifacts"] = [f"team/app{name}:v1", reference]
            return properties

        scene.run_ends = end
        return scene.push()

    return act


def _registry(touch: Touch) -> Callable[[Scene], Mapping[str, Any]]:
    def act(scene: Scene) -> Mapping[str, Any]:
        scene.before("prove_artifacts", lambda: touch(scene))
        return scene.push()

    return act


def _lose(scene: Scene) -> None:
    scene.target.registry.manifests.clear()


def _lose_one(scene: Scene) -> None:
    artifact = scene.bundle.manifest.blobs[1].artifacts[0]
    del scene.target.registry.manifests[artifact.repository, artifact.digest]


_IMAGE: Mapping[str, Any] = {
    "config": {"digest": f"sha256:{'c' * 64}"},
    "layers": [{"digest": f"sha256:{'1' * 64}"}, {"digest": f"sha256:{'2' * 64}"}],
}


def _loses(lost: str, *, is_index: bool = False) -> Touch:
    """The first artifact is an image, or an index of one, that lacks something."""

    def touch(scene: Scene) -> None:
        registry = scene.target.registry
        artifact = scene.bundle.manifest.blobs[0].artifacts[0]
        child = registry.push(artifact.repository, _IMAGE)
        contents = {"manifests": [{"digest": child}]} if is_index else _IMAGE
        registry.put(artifact.repository, artifact.digest, contents)
        registry.blobs.discard((artifact.repository, lost))
        if lost == "child":
            del registry.manifests[artifact.repository, child]

    return touch


def _unlist(scene: Scene) -> Mapping[str, Any]:
    """The second artifact is declared as a signature of the first, and the registry forgot that it is."""
    first, second = (blob.artifacts[0] for blob in scene.bundle.manifest.blobs)

    def declare(statement: dict[str, Any]) -> None:
        declared = statement["predicate"]["blobs"][1]["artifacts"][0]
        declared |= {"artifactType": "signature", "subject": first.digest}

    def touch() -> None:
        manifest = {"subject": {"digest": first.digest}}
        scene.target.registry.put(second.repository, second.digest, manifest)
        scene.target.registry.unlisted.add(second.digest)

    scene.before("prove_artifacts", touch)
    envelope = scene.signed(declare)
    payload = Envelope.from_bytes(envelope).payload
    scene.bundle = replace(scene.bundle, envelope=envelope, payload=payload)
    return scene.push()


def _nest(scene: Scene) -> None:
    """An index in an index, and so on: whoever pushed it to the source's registry means to keep us busy."""
    registry = scene.target.registry
    artifact = scene.bundle.manifest.blobs[0].artifacts[0]
    inner = registry.push(artifact.repository, _IMAGE)
    for _ in range(20):
        inner = registry.push(artifact.repository, {"manifests": [{"digest": inner}]})
    registry.put(artifact.repository, artifact.digest, {"manifests": [{"digest": inner}]})


def _swell(scene: Scene) -> None:
    """An index of more manifests than anybody can read."""
    artifact = scene.bundle.manifest.blobs[0].artifacts[0]
    children = [{"digest": f"sha256:{number:064x}"} for number in range(9000)]
    scene.target.registry.put(artifact.repository, artifact.digest, {"manifests": children})


def _move_tag(scene: Scene) -> None:
    first, second = (blob.artifacts[0] for blob in scene.bundle.manifest.blobs)
    scene.target.registry.manifests[first.repository, second.digest] = (second.media_type, {})
    scene.target.registry.tags[first.repository, "v1"] = second.digest


def _lose_tag(scene: Scene) -> None:
    del scene.target.registry.tags[scene.bundle.manifest.blobs[0].artifacts[0].repository, "v1"]


def _fails(scene: Scene) -> Mapping[str, Any]:
    scene.run_ends = run_fails("the blob is no transfer blob")
    return scene.push()


def _succeeds_with_an_error(scene: Scene) -> Mapping[str, Any]:
    scene.run_ends = lambda _: succeeded(pipelineRunErrorMessage="3 artifacts were not imported")
    return scene.push()


ATTACKS: Mapping[str, Attack] = {
    **{
        f"registry: {name} rides along{' in a run that fails' if is_failed else ''}": Attack(
            by="C",
            act=_reports(reference, is_failed=is_failed),
            end=Partial(code=Code.PIPELINE_RUN_FAILED if is_failed else Code.UNDECLARED_ARTIFACTS),
        )
        for name, reference in RIDES_ALONG.items()
        for is_failed in (False, True)
    },
    **{
        f"registry: {name}": Attack(by="E", act=_registry(touch), end=Partial(code=Code.IMPORT_INCOMPLETE))
        for name, touch in {
            "nothing of the bundle is there": _lose,
            "one artifact is not there": _lose_one,
            "a tag points to another artifact": _move_tag,
            "a tag is not there": _lose_tag,
            "a config is not there": _loses(f"sha256:{'c' * 64}"),
            "a layer is not there": _loses(f"sha256:{'2' * 64}"),
            "a manifest of an index is not there": _loses("child", is_index=True),
            "a layer of an index's manifest is not there": _loses(f"sha256:{'1' * 64}", is_index=True),
        }.items()
    },
    "registry: a signature is not listed for its image": Attack(
        by="E", act=_unlist, end=Partial(code=Code.IMPORT_INCOMPLETE)
    ),
    **{
        f"registry: {name}": Attack(by="C", act=_registry(touch), end=Partial(code=Code.ARTIFACT_REFUSED))
        for name, touch in {
            "indexes in indexes without end": _nest,
            "an index of nine thousand manifests": _swell,
        }.items()
    },
    "registry: a run that fails": Attack(by="C", act=_fails, end=Partial(code=Code.PIPELINE_RUN_FAILED)),
    "registry: a run that succeeds and names an error": Attack(
        by="C", act=_succeeds_with_an_error, end=Partial(code=Code.PIPELINE_RUN_FAILED)
    ),
}
