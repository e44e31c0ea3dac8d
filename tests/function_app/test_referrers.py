"""What belongs to an ordered artifact and was not ordered: only what the order wants goes along."""

from typing import Any

import pytest

from function_app.source import scanning
from function_app.source.referrers import Selection, kind_of, summarize
from tests.function_app.memory import INDEX_TYPE, Host, MemoryRegistry, make_source
from tests.function_app.test_export import journal_of, pipelines, run, sealed_manifest

SIGNATURE = "application/vnd.cncf.notary.signature"
SBOM = "application/spdx+json"
COSIGN = "application/vnd.dev.cosign.simplesigning.v1+json"


def attach(registry: MemoryRegistry, subject: str, kind: str, **more: Any) -> str:
    return registry.push(
        "team/app", {"layers": [], "artifactType": kind, "subject": {"digest": subject}, **more}
    )


def image_with_referrers(registry: MemoryRegistry) -> tuple[str, str, str]:
    """An image with a signature, and with something that somebody attached as an SBOM."""
    image = registry.push_image("team/app", "v1")
    return image, attach(registry, image, SIGNATURE), attach(registry, image, SBOM)


def test_all_that_belongs_to_an_artifact_goes_along_by_default_and_is_named_with_its_kind() -> None:
    side, blobs, registry = make_source()
    image, signature, sbom = image_with_referrers(registry)
    assert run(Host(side), "team/app:v1")["outcome"] == "sealed"
    carried = [(one.reference, one.artifact_type, one.subject) for one in sealed_manifest(blobs).artifacts]
    assert carried == [
        ("team/app:v1", None, None),
        (f"team/app@{signature}", SIGNATURE, image),
        (f"team/app@{sbom}", SBOM, image),
    ]


def test_only_kinds_that_were_ordered_go_along_and_what_is_left_behind_is_told() -> None:
    side, blobs, registry = make_source()
    _, signature, sbom = image_with_referrers(registry)
    attach(registry, sbom, SIGNATURE)  # belongs to what is left behind
    assert run(Host(side), "team/app:v1", referrers=(SIGNATURE,))["outcome"] == "sealed"
    assert [one.reference for one in sealed_manifest(blobs).artifacts] == [
        "team/app:v1",
        f"team/app@{signature}",
    ]
    (request,) = pipelines(side).requests.values()
    assert request["artifacts"] == ["team/app:v1", f"team/app@{signature}"]
    assert journal_of(side).entries[1].facts["referrers"] == [
        {"artifactType": SIGNATURE, "travels": True, "count": 1, "example": f"team/app@{signature}"},
        {"artifactType": SBOM, "travels": False, "count": 1, "example": f"team/app@{sbom}"},
    ]


def test_nothing_goes_along_that_was_not_ordered() -> None:
    side, blobs, registry = make_source()
    image, signature, _ = image_with_referrers(registry)
    registry.push_image("team/app", image.replace(":", "-") + ".sig")
    ordered = ("team/app:v1", f"team/app@{signature}")
    assert run(Host(side), *ordered, referrers="none")["outcome"] == "sealed"
    assert [one.reference for one in sealed_manifest(blobs).artifacts] == list(ordered)


def test_what_was_ordered_by_itself_is_no_referrer_whoever_else_it_belongs_to() -> None:
    side, blobs, registry = make_source()
    _, signature, sbom = image_with_referrers(registry)
    assert run(Host(side), "team/app:v1", f"team/app@{sbom}", referrers=(SIGNATURE,))["outcome"] == "sealed"
    carried = {one.reference: one.artifact_type for one in sealed_manifest(blobs).artifacts}
    assert carried == {
        "team/app:v1": None,
        f"team/app@{signature}": SIGNATURE,
        f"team/app@{sbom}": None,
    }
    assert [one["artifactType"] for one in journal_of(side).entries[1].facts["referrers"]] == [SIGNATURE]


def test_index_of_an_older_registry_goes_along_only_with_all_that_it_lists() -> None:
    for wanted, has_index in ((("a/sig", "a/sbom"), True), (("a/sig",), False)):
        side, blobs, registry = make_source()
        registry.has_referrers_api = False
        image = registry.push_image("team/app", "v1")
        listed = [{"digest": attach(registry, image, kind)} for kind in ("a/sig", "a/sbom")]
        tag = image.replace(":", "-")
        registry.push("team/app", {"manifests": listed}, tag, media_type=INDEX_TYPE)
        assert run(Host(side), "team/app:v1", referrers=wanted)["outcome"] == "sealed"
        references = [one.reference for one in sealed_manifest(blobs).artifacts]
        assert (f"team/app:{tag}" in references) is has_index
        assert len(references) == 1 + len(wanted) + has_index


def test_signature_tag_that_becomes_another_kind_during_the_export_is_left_behind() -> None:
    side, blobs, registry = make_source()
    tag = registry.push_image("team/app", "v1").replace(":", "-") + ".sig"
    registry.push("team/app", {"layers": [], "config": {"mediaType": COSIGN}}, tag)
    host = Host(side)

    def exchange() -> None:
        registry.push("team/app", {"layers": [], "artifactType": "a/trojan"}, tag)

    host.before["confirm_export"] = exchange
    assert run(host, "team/app:v1", referrers=(COSIGN,))["outcome"] == "sealed"
    assert [one.reference for one in sealed_manifest(blobs).artifacts] == ["team/app:v1"]
    assert list(pipelines(side).requests.values())[-1]["artifacts"] == ["team/app:v1"]


def test_signature_tag_that_moves_during_the_export_travels_as_it_is_now() -> None:
    side, blobs, registry = make_source()
    image = registry.push_image("team/app", "v1")
    tag = image.replace(":", "-") + ".sig"
    registry.push("team/app", {"layers": [], "config": {"mediaType": COSIGN}}, tag)
    host = Host(side)
    renewed = {"layers": [], "config": {"mediaType": COSIGN}, "annotations": {"signed": "again"}}

    def sign_again() -> None:
        registry.push("team/app", renewed, tag)

    host.before["confirm_export"] = sign_again
    assert run(host, "team/app:v1", referrers=(COSIGN,))["outcome"] == "sealed"
    _, signature = sealed_manifest(blobs).artifacts
    assert (signature.digest, signature.artifact_type) == (registry.tags["team/app", tag], COSIGN)
    assert signature.subject == image


@pytest.mark.parametrize("wanted", ["all", (SIGNATURE,)])
def test_endless_attachments_are_refused_and_can_be_left_out(
    monkeypatch: pytest.MonkeyPatch, wanted: str | tuple[str, ...]
) -> None:
    monkeypatch.setattr(scanning, "MAX_ARTIFACTS", 20)
    side, blobs, registry = make_source()
    image = registry.push_image("team/app", "v1")
    for number in range(30):
        attach(registry, image, "a/flood", annotations={"number": str(number)})
    outcome = run(Host(side), "team/app:v1", referrers=wanted)
    assert (outcome["outcome"], outcome["code"]) == ("refused", "ARTIFACT_REFUSED")
    assert pipelines(side).requests == {}
    assert run(Host(side), "team/app:v1", transfer_id="f" * 32, referrers="none")["outcome"] == "sealed"
    assert len(sealed_manifest(blobs, "f" * 32).artifacts) == 1


def test_references_that_are_looked_at_together_have_a_bound_each(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scanning, "MAX_ARTIFACTS", 20)
    side, blobs, registry = make_source()
    for name in ("v1", "v2"):
        image = registry.push_image("team/app", name)
        for number in range(15):
            attach(registry, image, SBOM, annotations={"number": f"{name} {number}"})
    assert run(Host(side), "team/app:v1", "team/app:v2")["outcome"] == "sealed"
    assert len(sealed_manifest(blobs).artifacts) == 32
    monkeypatch.setattr(scanning, "_MOST_TOGETHER", 31)
    outcome = run(Host(side), "team/app:v1", "team/app:v2", transfer_id="f" * 32)
    assert (outcome["code"], outcome["artifacts"]) == ("ARTIFACT_REFUSED", ["team/app:v2"])
    assert "order fewer of them at once" in outcome["detail"]


@pytest.mark.parametrize(
    ("manifest", "kind"),
    [
        ({"artifactType": SBOM, "config": {"mediaType": COSIGN}}, SBOM),
        ({"config": {"mediaType": COSIGN}}, COSIGN),
        ({"artifactType": "", "config": {"mediaType": COSIGN}}, COSIGN),
        ({"config": {}}, INDEX_TYPE),
        ({"config": {"mediaType": ""}}, INDEX_TYPE),
        ({"config": "no object"}, INDEX_TYPE),
        ({"artifactType": 7}, INDEX_TYPE),
        ({}, INDEX_TYPE),
        ({"artifactType": "a/b\n"}, "'a/b\\n'"),
        ({"artifactType": "a/" + "b" * 300}, "a/" + "b" * 253),
    ],
)
def test_kind_is_what_a_manifest_says_of_itself(manifest: dict[str, Any], kind: str) -> None:
    assert kind_of(manifest, INDEX_TYPE) == kind


@pytest.mark.parametrize(
    ("wanted", "kind", "is_taken"),
    [
        ("all", SBOM, True),
        ("none", SBOM, False),
        ("none", "one", False),
        ((SBOM,), SBOM, True),
        ((SBOM,), "spdx", False),
    ],
)
def test_kind_is_wanted_as_a_whole(wanted: str | tuple[str, ...], kind: str, *, is_taken: bool) -> None:
    assert Selection(wanted).takes(kind) is is_taken


def test_summary_is_small_whatever_somebody_attached() -> None:
    many = [(f"team/app@{number}", f"kind/{number}") for number in range(5000)]
    told = summarize([*many, ("team/app@last", "kind/7")], [("team/app@left", "kind/7")])
    assert len(told) == 20
    assert told[0] == {"artifactType": "kind/7", "travels": True, "count": 2, "example": "team/app@7"}


def test_what_was_ordered_by_itself_travels_once_although_it_was_found_far_from_where_it_was_ordered() -> (
    None
):
    """References are looked up fifty at a time, each fifty for themselves."""
    side, blobs, registry = make_source()
    digest = registry.push_image("team/app", "v00", about="v00")
    signature = attach(registry, digest, SIGNATURE)
    others = [f"v{number:02d}" for number in range(1, 50)]
    for tag in others:
        registry.push_image("team/app", tag, about=tag)
    ordered = [f"team/app:{tag}" for tag in ("v00", *others)]
    assert run(Host(side), *ordered, f"team/app@{signature}")["outcome"] == "sealed"
    carried = [(one.reference, one.artifact_type, one.subject) for one in sealed_manifest(blobs).artifacts]
    assert sorted(carried) == sorted([(name, None, None) for name in [*ordered, f"team/app@{signature}"]])
    assert "referrers" not in journal_of(side).entries[1].facts
