"""Orders that select: what their selectors come to, through the real orchestrator, on ports in memory."""

from datetime import timedelta
from typing import Any

import pytest

from function_app.ports import SourceSide
from function_app.source import selecting
from function_app.source.plan_pages import PAGES, SUMMARY
from function_app.source.transfer_plan import describe_plan
from function_app.source.wire import PlanPage, PlanRefusal, PlanSummary
from function_app.storage.work_folder import WorkFolder
from tests.function_app.memory import INDEX_TYPE, START, Host, MemoryBlobs, MemoryRegistry, make_source
from tests.function_app.test_export import (
    TRANSFER_ID,
    journal_of,
    pipelines,
    run,
    sealed_manifest,
)


class Site:
    """A source with a registry of three repositories."""

    def __init__(self) -> None:
        self.side, self.blobs, self.registry = make_source()
        self.host = Host(self.side)

    def image(self, repository: str, *tags: str, labels: dict[str, str] | None = None, **more: Any) -> str:
        if labels is not None:
            config = f"sha256:{len(self.registry.configs):064x}"
            self.registry.configs[config] = {"config": {"Labels": labels}}
            kind = "application/vnd.oci.image.config.v1+json"
            more["config"] = {"mediaType": kind, "digest": config, "size": 10}
        return self.registry.push_image(repository, *tags, **more)

    def export(self, *artifacts: str, **said: Any) -> list[str]:
        """The references that have been exported."""
        assert run(self.host, *artifacts, **said)["outcome"] == "sealed"
        return sorted(artifact.reference for artifact in sealed_manifest(self.blobs).artifacts)

    def refusal(self, *artifacts: str, **said: Any) -> dict[str, Any]:
        outcome = run(self.host, *artifacts, **said)
        assert outcome["outcome"] in {"refused", "failed"}
        assert not pipelines(self.side).requests
        return outcome


@pytest.fixture
def site() -> Site:
    return Site()


def every(*repositories: str, **said: Any) -> dict[str, Any]:
    return {"repositories": list(repositories), **said}


def test_what_is_selected_is_exported_beside_what_is_named(site: Site) -> None:
    for repository in ("team/app", "team/web", "other/app"):
        site.image(repository, "v1", about=repository)
        site.image(repository, "v2", about=f"{repository} 2")
    exported = site.export("other/app:v1", select=(every("team/*", tags=["v2"]),))
    assert exported == ["other/app:v1", "team/app:v2", "team/web:v2"]


def test_selectors_are_put_together_and_exclusions_taken_away(site: Site) -> None:
    site.image("team/app", "v1", "v1-debug")
    site.image("team/web", "v1", about="web")
    site.image("team/secret", "v1", about="secret")
    exported = site.export(
        select=(every("team/app"), every("team/*", tags=["v1"])), exclude=("team/secret", "**:*-debug")
    )
    assert exported == ["team/app:v1", "team/web:v1"]


def test_newest_counts_in_each_repository_after_everything_else(site: Site) -> None:
    for day in range(1, 5):
        for repository in ("team/app", "team/web"):
            site.image(repository, f"v{day}", labels={"stage": "test" if day == 4 else "done"}, day=day)
            site.registry.written_at[repository, f"v{day}"] = START + timedelta(days=day)
    exported = site.export(select=(every("team/*", labels={"stage": "done"}, newest=2),))
    assert exported == ["team/app:v2", "team/app:v3", "team/web:v2", "team/web:v3"]


def test_labels_of_an_index_are_those_of_its_images(site: Site) -> None:
    images = [site.image("team/app", labels={"team": team}) for team in ("red", "blue")]
    manifests = [{"digest": digest, "mediaType": "image"} for digest in images]
    site.registry.push("team/app", {"manifests": manifests}, "multi", media_type=INDEX_TYPE)
    site.image("team/app", "single", labels={"team": "red"}, about="single")
    site.registry.push("team/app", {"layers": []}, "chart")
    assert site.export(select=(every("team/app", labels={"team": "bl*"}),)) == ["team/app:multi"]


def test_annotations_are_those_of_the_manifest(site: Site) -> None:
    site.image("team/app", "v1", annotations={"org.opencontainers.image.source": "https://git/app"})
    site.image("team/app", "v2")
    wanted = {"org.opencontainers.image.source": "https://git/*"}
    assert site.export(select=(every("team/app", annotations=wanted),)) == ["team/app:v1"]


def test_repositories_are_not_listed_where_each_is_named(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_: MemoryRegistry) -> None:
        pytest.fail("the catalog was asked for")

    monkeypatch.setattr(MemoryRegistry, "catalog", refuse)
    site.image("team/app", "v1")
    assert site.export(select=(every("team/app"),)) == ["team/app:v1"]


def test_signatures_go_along_as_the_order_says_and_not_because_their_tag_is_selected(site: Site) -> None:
    digest = site.image("team/app", "v1")
    site.image("team/app", f"{digest.replace(':', '-')}.sig", about="signature")
    assert site.export(select=(every("team/app"),), referrers="none") == ["team/app:v1"]


def test_selection_that_takes_nothing_is_refused(site: Site) -> None:
    site.image("team/app", "v1")
    outcome = site.refusal(select=(every("team/app", tags=["v2"]), every("no/*")))
    assert (outcome["code"], "takes nothing" in outcome["detail"]) == ("ARTIFACT_NOT_FOUND", True)


def test_selection_of_more_than_an_order_may_name_is_refused(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(selecting, "MAX_REFERENCES", 50)
    digest = site.image("team/app", "v1")
    site.registry.tags |= {("team/app", f"t{number}"): digest for number in range(50)}
    outcome = site.refusal(select=(every("team/app"),))
    assert (outcome["code"], "51 tags" in outcome["detail"]) == ("REQUEST_INVALID", True)


def test_selected_repository_outside_the_channels_patterns_is_refused(site: Site) -> None:
    site.image("team/app", "v1")
    site.image("elsewhere", "v1", about="elsewhere")
    site.blobs.containers["policy"].clear()
    outcome = run(site.host, select=(every("**"),), audience=("other.azurecr.io",))
    assert outcome["outcome"] == "refused"


def test_what_somebody_wrote_in_place_of_the_selection_is_not_exported(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever may write working documents must not choose what is signed."""
    site.image("team/app", "v1")
    site.image("team/secret", "v1", about="secret")
    put = MemoryBlobs.put

    def forge(blobs: MemoryBlobs, container: str, name: str, content: bytes) -> None:
        put(blobs, container, name, content.replace(b"team/app:v1", b"team/secret:v1"))

    monkeypatch.setattr(MemoryBlobs, "put", forge)
    outcome = site.refusal(select=(every("team/app"),))
    assert outcome["code"] == "BLOB_CHANGED"


# --- dry runs --------------------------------------------------------------------------------------------


def summary_of(side: SourceSide) -> PlanSummary:
    return WorkFolder(side.blobs, TRANSFER_ID).get(SUMMARY, PlanSummary)


def test_dry_run_ends_with_its_plan_and_exports_nothing(site: Site) -> None:
    site.image("team/app", "v1", size=3 * 2**20)
    assert run(site.host, "team/app:v1", dry_run=True) == {"outcome": "previewed"}
    journal = journal_of(site.side)
    assert [entry.state for entry in journal.entries] == ["requested", "planned", "previewed"]
    assert journal.is_final
    assert not pipelines(site.side).requests
    assert site.blobs.names("transfer") == []
    assert not [name for name in site.blobs.names("ledger") if name.startswith("prod/")]
    summary = summary_of(site.side)
    assert (summary.size_bytes, summary.parts) == (3 * 2**20, 1)
    assert summary.duration_s > 0


def test_dry_run_tells_everything_that_would_be_refused(site: Site) -> None:
    site.image("team/app", "v1")
    site.image("team/app", "huge", size=9 * 10**9, about="huge")
    site.registry.push("team/app", {"layers": [foreign()]}, "foreign")
    names = ["v1", "huge", "foreign", "gone", "missing"]
    outcome = run(
        site.host, *(f"team/app:{name}" for name in names), dry_run=True, audience=("other.azurecr.io",)
    )
    assert outcome == {"outcome": "previewed"}
    told = describe_plan(WorkFolder(site.side.blobs, TRANSFER_ID), 0)
    assert told is not None
    assert told.refused_count == 5
    assert [(one.reference, one.code) for one in told.refused] == [
        (None, "AUDIENCE_MISMATCH"),
        ("team/app:gone", "ARTIFACT_NOT_FOUND"),
        ("team/app:missing", "ARTIFACT_NOT_FOUND"),
        ("team/app:huge", "ARTIFACT_REFUSED"),
        ("team/app:foreign", "ARTIFACT_REFUSED"),
    ]


def test_long_list_of_what_would_be_refused_goes_over_pages_and_is_counted_on_each(site: Site) -> None:
    names = [f"team/app:v{number:03d}" for number in range(501)]
    earlier = PlanRefusal(reference="team/app:old", code="ARTIFACT_NOT_FOUND", detail="of an earlier try")
    WorkFolder(site.side.blobs, TRANSFER_ID).put(f"{PAGES}000002", PlanPage(blobs=(), refused=(earlier,)))
    assert run(site.host, *names, dry_run=True) == {"outcome": "previewed"}
    pages = [describe_plan(WorkFolder(site.side.blobs, TRANSFER_ID), number) for number in (0, 1, 2)]
    first, second, none = pages
    assert first is not None
    assert second is not None
    assert none is None
    assert [one.reference for one in (*first.refused, *second.refused)] == names
    assert (len(second.refused), first.refused_count, second.refused_count) == (1, 501, 501)
    assert (first.next, second.next) == (f"/api/transfers/{TRANSFER_ID}/plan?cursor=1", None)


def test_order_that_is_refused_for_many_names_a_hundred_and_counts_all(site: Site) -> None:
    outcome = run(site.host, *(f"team/app:v{number:03d}" for number in range(501)))
    assert (outcome["outcome"], outcome["code"]) == ("refused", "ARTIFACT_NOT_FOUND")
    assert len(outcome["artifacts"]) == 100
    shown = outcome["detail"].count("team/app:")
    assert outcome["detail"].endswith(f" and {501 - shown} more")


def foreign() -> dict[str, Any]:
    kind = "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip"
    return {"digest": f"sha256:{'b' * 64}", "size": 5, "mediaType": kind, "urls": ["https://x/y"]}


def test_layers_that_artifacts_share_count_once_in_a_blob(site: Site) -> None:
    site.image("team/app", "v1", "v2", size=1000)
    site.image("team/app", "v3", size=1000, about="the same layer")
    run(site.host, *(f"team/app:v{number}" for number in (1, 2, 3)), dry_run=True)
    assert summary_of(site.side).size_bytes == 1000


def test_platforms_of_an_index_are_told(site: Site) -> None:
    digest = site.image("team/app")
    manifests = [
        {"digest": digest, "platform": {"os": "linux", "architecture": "arm64", "variant": "v8"}},
        {"digest": digest, "platform": {"os": "linux", "architecture": "amd64"}},
        {"digest": digest, "platform": {"os": "unknown", "architecture": "unknown"}},
    ]
    site.registry.push("team/app", {"manifests": manifests}, "multi", media_type=INDEX_TYPE)
    run(site.host, "team/app:multi", dry_run=True)
    raw = site.blobs.containers["work"][f"plans/{TRANSFER_ID}/preview/blobs/000000.json"].content
    assert b'"platforms":["linux/arm64/v8","linux/amd64"]' in raw
