"""Source, first steps: resolve references, refuse what cannot cross, add referrers, split into batches."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from airgap.errors import Code, PolicyRefusal
from airgap.fields import parse_time
from airgap.manifest import MAX_ARTIFACTS, Artifact
from airgap.pipeline_runs import batch
from airgap.preflight import Finding, Terms, judge_keys, judge_terms
from function_app.durable.outcomes import Failed, Refused, ending
from function_app.durable.stopping import require_going
from function_app.messages import Item
from function_app.oci import Descriptor, find_obstacle, list_manifests
from function_app.ports import RegistryReader, SourceSide
from function_app.source.wire import Batch, Plan, Planned, Planning, RequestDocument, Resolution, Resolved
from function_app.storage.work_folder import WorkFolder

_MAX_DEPTH = 8
_COSIGN_SUFFIXES = (".sig", ".att", ".sbom")
"""What cosign adds to ``sha256-<hex>`` where it does not use referrers.

https://github.com/sigstore/cosign/blob/main/specs/SIGNATURE_SPEC.md
"""
REQUEST = "request"
"""Name of the document with what was asked for."""

PLAN = "plan"
"""Name of the document that tells the batches."""

BATCHES = "batches"
"""Folder of the batches, each under its own digest."""


@dataclass(frozen=True, slots=True)
class Scan:
    """Walks from artifacts to all that belongs to them: an index's manifests, and referrers of either.

    Each manifest is looked at once. What is found is in ``artifacts`` by reference, in order of discovery,
    and in ``tagged`` for each reference by tag when that was written last.
    """

    registry: RegistryReader
    artifacts: dict[str, Artifact] = field(default_factory=dict)
    tagged: dict[str, str] = field(default_factory=dict)
    _seen: set[tuple[str, str]] = field(default_factory=set)

    def add(self, reference: str) -> bool:
        """Include an artifact and all its referrers; ``False`` if the registry does not have it.

        Raises:
            PolicyRefusal: ``ARTIFACT_REFUSED``: a layer cannot cross, or there is no end to it.
        """
        repository, tag, digest = split_reference(reference)
        found = self._include_tagged(repository, tag) if tag else self.registry.resolve(repository, digest)
        if found is None:
            return False
        if not tag:
            self._include(reference, found)
        self._follow(repository, found.digest, depth=0)
        return True

    def _include(self, reference: str, found: Descriptor, tags: tuple[str, ...] = ()) -> None:
        self.artifacts.setdefault(
            reference,
            Artifact(reference=reference, digest=found.digest, media_type=found.media_type, tags=tags),
        )

    def _follow(self, repository: str, digest: str, *, depth: int) -> None:
        if (repository, digest) in self._seen:
            return
        self._seen.add((repository, digest))
        about = f"{repository}@{digest}"
        if depth > _MAX_DEPTH or len(self._seen) > MAX_ARTIFACTS:
            raise PolicyRefusal(
                Code.ARTIFACT_REFUSED,
                f"{about}: nested over {_MAX_DEPTH} deep or over {MAX_ARTIFACTS} manifests",
            )
        manifest = self.registry.manifest(repository, digest)
        if obstacle := find_obstacle(manifest, about):
            raise PolicyRefusal(Code.ARTIFACT_REFUSED, f"{about}: {obstacle}")
        for child in list_manifests(manifest, about):
            self._follow(repository, child.digest, depth=depth + 1)
        for listed in self._referrers(repository, digest):
            referrer = self.registry.resolve(repository, listed.digest)
            if referrer is not None:  # an index under a tag may list what was deleted
                self._include(f"{repository}@{referrer.digest}", referrer)
                self._follow(repository, referrer.digest, depth=depth + 1)
        for suffix in _COSIGN_SUFFIXES:
            self._include_tagged(repository, digest.replace(":", "-") + suffix)

    def _referrers(self, repository: str, digest: str) -> list[Descriptor]:
        """What refers to ``digest``: by the referrers API, or by the index under the referrers tag.

        That tag travels as well, or the far side would not find its referrers.
        OCI distribution-spec 1.1 §Listing Referrers, §Referrers Tag Schema.
        """
        listed = self.registry.referrers(repository, digest)
        if listed is not None:
            return list(listed)
        tag = digest.replace(":", "-")
        index = self._include_tagged(repository, tag)
        if index is None:
            return []
        return list_manifests(self.registry.manifest(repository, index.digest), f"{repository}:{tag}")

    def _include_tagged(self, repository: str, tag: str) -> Descriptor | None:
        """Include what a tag stands for, if it is there.

        Its state comes first, so that a write to it after this moment is seen when the run has ended.
        """
        state = self.registry.tag(repository, tag)
        found = None if state is None else self.registry.resolve(repository, state.digest)
        if state is not None and found is not None:
            self._include(f"{repository}:{tag}", found, (tag,))
            self.tagged.setdefault(f"{repository}:{tag}", state.written_at)
        return found


def resolve_artifacts(side: SourceSide, order: Item) -> Resolved:
    """Resolve one group of the request's references; what is found lies in the work folder.

    A plan is made of what this result names: if it is delivered once more and the registry says something
    else by then, there is no plan, or one that is not touched any more.
    """
    require_going(side.blobs, order.owner)
    work = WorkFolder(side.blobs, order.owner)
    references = batch(work.get(REQUEST, RequestDocument, sha256=order.pinned).artifacts)[order.number]
    scan = Scan(side.registry)
    missing: list[str] = []
    obstacles: list[str] = []
    for reference in references:
        try:
            if not scan.add(reference):
                missing.append(reference)
        except PolicyRefusal as refusal:
            obstacles.append(refusal.detail)
    resolution = Resolution(
        artifacts=tuple(artifact.to_json() for artifact in scan.artifacts.values()),
        tagged=scan.tagged,
        missing=tuple(missing),
        obstacles=tuple(obstacles),
    )
    return Resolved(document_sha256=work.put(f"resolved/{order.number:06d}", resolution))


def plan_transfer(side: SourceSide, order: Planning) -> Planned | Refused | Failed:
    """Put the groups together and split them into batches, one transfer blob each.

    Everything that cannot cross is refused here, before anything is exported.
    """
    work = WorkFolder(side.blobs, order.transfer_id)
    request = work.get(REQUEST, RequestDocument, sha256=order.request)
    if findings := _find_refusals(side, request, parse_time(order.at)):
        texts = [f"{one.code.name}: {_about(one, request)}{one.wanted}" for one in findings]
        return ending(findings[0].code, _shorten(texts))
    groups = work.tallied(list(work.names("resolved/")), Resolution, order.resolved)
    if missing := [reference for group in groups for reference in group.missing]:
        return ending(Code.ARTIFACT_NOT_FOUND, _shorten(missing), missing)
    if obstacles := [text for group in groups for text in group.obstacles]:
        return ending(Code.ARTIFACT_REFUSED, _shorten(obstacles), obstacles)
    artifacts = {artifact["reference"]: artifact for group in groups for artifact in group.artifacts}
    if len(artifacts) > MAX_ARTIFACTS:
        return ending(
            Code.REQUEST_INVALID,
            f"artifacts: with referrers {len(artifacts)}, at most {MAX_ARTIFACTS} allowed",
        )
    tagged = {reference: at for group in groups for reference, at in group.tagged.items()}
    batches = [_batch_of(members, tagged) for members in batch(list(artifacts.values()))]
    plan = Plan(batches=tuple(work.keep(BATCHES, one) for one in batches))
    return Planned(blobs=len(batches), artifacts=len(artifacts), document_sha256=work.put(PLAN, plan))


def _batch_of(members: list[dict[str, Any]], tagged: Mapping[str, str]) -> Batch:
    """What one run exports, with what is known of the tags among it."""
    references = [member["reference"] for member in members]
    return Batch(artifacts=tuple(members), tagged={one: tagged[one] for one in references if one in tagged})


def _find_refusals(side: SourceSide, request: RequestDocument, now: datetime) -> list[Finding]:
    """What the target would refuse by the trust policy that the source has now, at ``now``."""
    policy = side.settings.trust_policy
    terms = Terms(
        channel=request.channel,
        audience=request.audience,
        repositories=[split_reference(reference)[0] for reference in request.artifacts],
        good_for=timedelta(seconds=request.expires_in_seconds),
    )
    keyids = {signer.public_key.keyid for signer in side.signing.signers()}
    return [*judge_keys(policy, request.channel, keyids, now=now), *judge_terms(policy, terms)]


def _about(finding: Finding, request: RequestDocument) -> str:
    match finding.path:
        case ("artifacts", int(index)):
            return f"{request.artifacts[index]} is not "
        case ("audience", int(index)):
            return f"{request.audience[index]} is not "
    return ""


def split_reference(reference: str) -> tuple[str, str, str]:
    """Repository, tag, digest of ``repo:tag`` or ``repo@digest``; what is absent is empty."""
    if "@" in reference:
        repository, _, digest = reference.partition("@")
        return repository, "", digest
    repository, _, tag = reference.partition(":")
    return repository, tag, ""


def _shorten(texts: list[str]) -> str:
    """The texts in one line, as many as fit in an error's detail, and how many more there are."""
    shown: list[str] = []
    for text in texts:
        if sum(len(one) + 2 for one in shown) + len(text) > 450:  # noqa: PLR2004 - a detail has 500
            break
        shown.append(text)
    rest = len(texts) - len(shown)
    return ", ".join(shown or [texts[0][:450]]) + (f" and {rest} more" if shown and rest else "")
