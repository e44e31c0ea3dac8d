"""What the runs bring, and what the registry says of it afterwards."""

from collections.abc import Callable, Mapping
from typing import Any

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
        }.items()
    },
    "registry: a run that fails": Attack(by="C", act=_fails, end=Partial(code=Code.PIPELINE_RUN_FAILED)),
    "registry: a run that succeeds and names an error": Attack(
        by="C", act=_succeeds_with_an_error, end=Partial(code=Code.PIPELINE_RUN_FAILED)
    ),
}
