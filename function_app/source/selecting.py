"""The source's selecting, before the plan: which references the selectors of an order come to.

The selection is settled once and written down: from then on the transfer goes on as if its order had named
each reference.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import msgspec

from airgap.division import MAX_REFERENCES
from airgap.errors import Code
from airgap.pipeline_runs import batch
from function_app.durable.outcomes import Failed, Refused, ending
from function_app.durable.stopping import require_going
from function_app.messages import Item
from function_app.oci import TagState, list_manifests
from function_app.ports import RegistryReader, SourceSide
from function_app.source.planning import REQUEST, SELECTED
from function_app.source.selection import Exclusion, Selector, has_texts, taken
from function_app.source.wire import (
    Chosen,
    Gathered,
    Gathering,
    Listed,
    Repositories,
    RequestDocument,
    Selected,
    Selecting,
)
from function_app.storage.work_folder import WorkFolder

REPOSITORIES = "repositories"
"""Name of the document with the repositories that are looked through."""

_AT_ONCE = 10
"""Repositories that one activity looks through; a single one where it reads manifests for it."""

_MAX_IMAGES = 20
"""Of an index, so many are read to find one with the wanted labels."""


def list_repositories(side: SourceSide, order: Selecting) -> Listed:
    """The activity that writes down which repositories to look through: those that selectors cover."""
    require_going(side.blobs, order.transfer_id)
    work = WorkFolder(side.blobs, order.transfer_id)
    selectors, exclusions = _read(work, order.request)
    if all(selector.names_its_repositories for selector in selectors):
        names = {name for selector in selectors for name in selector.repositories}
    else:
        names = set(side.registry.catalog())
    wanted = tuple(sorted(name for name in names if taken(selectors, exclusions, name)))
    document = Repositories(
        names=wanted, at_once=1 if any(one.asks_for_texts for one in selectors) else _AT_ONCE
    )
    return Listed(
        groups=len(batch(wanted, document.at_once)), document_sha256=work.put(REPOSITORIES, document)
    )


def select_tags(side: SourceSide, order: Item) -> Selected:
    """The activity that looks through a group of repositories, and writes the chosen references down."""
    require_going(side.blobs, order.owner)
    work = WorkFolder(side.blobs, order.owner)
    listed = work.get(REPOSITORIES, Repositories, sha256=order.pinned)
    selectors, exclusions = _read(work)
    chosen: dict[str, None] = {}
    for repository in batch(listed.names, listed.at_once)[order.number]:
        wanted = taken(selectors, exclusions, repository)
        tags = [
            (tag, state)
            for tag, state in side.registry.list_tags(repository)
            if not any(one.excludes(repository, tag) for one in exclusions)
        ]
        reader = _Texts(side.registry, repository)
        for selector in wanted:
            chosen |= dict.fromkeys(f"{repository}:{tag}" for tag in _pick(selector, tags, reader))
    return Selected(
        document_sha256=work.put(f"chosen/{order.number:06d}", Chosen(references=tuple(sorted(chosen))))
    )


def gather_references(side: SourceSide, order: Gathering) -> Gathered | Refused | Failed:
    """The activity that puts named and selected references together, in place of the order's."""
    work = WorkFolder(side.blobs, order.transfer_id)
    request = work.get(REQUEST, RequestDocument, sha256=order.request)
    references = dict.fromkeys(request.artifacts)
    for group in work.pinned(list(work.names("chosen/")), Chosen, order.selected):
        references |= dict.fromkeys(group.references)
        if len(references) > MAX_REFERENCES:
            return ending(
                Code.REQUEST_INVALID,
                f"the selection takes {len(references)} tags or more, at most {MAX_REFERENCES} allowed",
            )
    if not references:
        return ending(Code.ARTIFACT_NOT_FOUND, "the selection takes nothing: no tag is as it says")
    settled = msgspec.structs.replace(request, artifacts=tuple(references), select=(), exclude=())
    return Gathered(references=len(references), document_sha256=work.put(SELECTED, settled))


def _read(work: WorkFolder, sha256: str | None = None) -> tuple[list[Selector], list[Exclusion]]:
    request = work.get(REQUEST, RequestDocument, sha256=sha256)
    selectors = [Selector.from_json(one) for one in request.select]
    return selectors, [Exclusion.read(text) for text in request.exclude]


def _pick(selector: Selector, tags: list[tuple[str, TagState]], texts: "_Texts") -> list[str]:
    """The tags that a selector takes, those written to last first."""
    found: list[str] = []
    for tag, state in selector.matching(tags):
        if selector.newest is not None and len(found) == selector.newest:
            break
        if not selector.asks_for_texts or texts.are_as(selector, state.digest):
            found.append(tag)
    return found


@dataclass(frozen=True, slots=True)
class _Texts:
    """What manifests and configurations of a repository say; each is read once, however many tags it has."""

    registry: RegistryReader
    repository: str
    _manifests: dict[str, Mapping[str, Any]] = field(default_factory=dict)
    _labels: dict[str, Any] = field(default_factory=dict)

    def are_as(self, selector: Selector, digest: str) -> bool:
        manifest = self._manifest(digest)
        return has_texts(selector.annotations, manifest.get("annotations")) and (
            not selector.labels
            or any(has_texts(selector.labels, self._labels_of(image)) for image in self._images(digest))
        )

    def _images(self, digest: str) -> list[Mapping[str, Any]]:
        """The manifest itself, or those of an index."""
        manifest = self._manifest(digest)
        children = list_manifests(manifest, f"{self.repository}@{digest}")
        return [self._manifest(child.digest) for child in children[:_MAX_IMAGES]] or [manifest]

    def _labels_of(self, manifest: Mapping[str, Any]) -> Any:
        match manifest.get("config"):
            case {"digest": str(digest), "mediaType": str(kind)} if kind in _IMAGE_CONFIGS:
                if digest not in self._labels:
                    config = self.registry.config(self.repository, digest).get("config")
                    self._labels[digest] = config.get("Labels") if isinstance(config, Mapping) else None
                return self._labels[digest]
        return None

    def _manifest(self, digest: str) -> Mapping[str, Any]:
        if digest not in self._manifests:
            self._manifests[digest] = self.registry.manifest(self.repository, digest)
        return self._manifests[digest]


_IMAGE_CONFIGS = frozenset(
    {"application/vnd.oci.image.config.v1+json", "application/vnd.docker.container.image.v1+json"}
)
"""OCI image-spec 1.1, Image Configuration, and its ancestor: other configurations know no labels."""
