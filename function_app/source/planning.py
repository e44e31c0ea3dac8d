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
from function_app.oci import MAX_DEPTH, Descriptor, find_obstacle, list_manifests
from function_app.ports import RegistryReader, SourceSide
from function_app.source.referrers import NONE, Selection, kind_of, summarize
from function_app.source.wire import Batch, Plan, Planned, Planning, RequestDocument, Resolution, Resolved
from function_app.storage.policies import policy_in_force
from function_app.storage.work_folder import WorkFolder

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
    and in ``tagged`` for each reference by tag when that was written last; referrers of kinds that are not
    wanted are in ``left`` with their kinds.
    """

    registry: RegistryReader
    selection: Selection
    artifacts: dict[str, Artifact] = field(default_factory=dict)
    tagged: dict[str, str] = field(default_factory=dict)
    left: dict[str, str] = field(default_factory=dict)
    _seen: set[tuple[str, str]] = field(default_factory=set)

    def add(self, reference: str) -> bool:
        """Include an artifact and all its referrers; ``False`` if the registry does not have it.

        Raises:
            PolicyRefusal: ``ARTIFACT_REFUSED``: a layer cannot cross, or there is no end to it.
        """
        repository, tag, digest = split_reference(reference)
        found = self._look_up(repository, tag) if tag else self.registry.resolve(repository, digest)
        if found is None:
            return False
        self.artifacts[reference] = Artifact(
            reference=reference,
            digest=found.digest,
            media_type=found.media_type,
            tags=(tag,) if tag else (),
        )
        self._follow(repository, found.digest, depth=0)
        return True

    def renew(self, member: Artifact) -> bool:
        """Include anew what was included before and stands elsewhere now; raises as :meth:`add`."""
        if member.subject is None:
            return self.add(member.reference)
        self._include_referrers(member.repository, member.subject, depth=0)
        return True

    def _look_up(self, repository: str, tag: str) -> Descriptor | None:
        """What a tag stands for, if it is there.

        Its state comes first, so that a write to it after this moment is seen when the run has ended.
        """
        state = self.registry.tag(repository, tag)
        if state is None:
            return None
        self.tagged.setdefault(f"{repository}:{tag}", state.written_at)
        return self.registry.resolve(repository, state.digest)

    def _follow(self, repository: str, digest: str, *, depth: int) -> None:
        if (repository, digest) in self._seen:
            return
        self._seen.add((repository, digest))
        about = f"{repository}@{digest}"
        self._require_end(about, depth)
        manifest = self.registry.manifest(repository, digest)
        if obstacle := find_obstacle(manifest, about):
            raise PolicyRefusal(Code.ARTIFACT_REFUSED, f"{about}: {obstacle}")
        for child in list_manifests(manifest, about):
            self._follow(repository, child.digest, depth=depth + 1)
        self._include_referrers(repository, digest, depth=depth)

    def _require_end(self, about: str, depth: int = 0) -> None:
        """Refuse what has no end: somebody may attach any number of things to things."""
        if depth > MAX_DEPTH or len(self._seen) + len(self.left) > MAX_ARTIFACTS:
            raise PolicyRefusal(
                Code.ARTIFACT_REFUSED,
                f"{about}: nested over {MAX_DEPTH} deep or over {MAX_ARTIFACTS} manifests",
            )

    def _include_referrers(self, repository: str, digest: str, *, depth: int) -> None:
        """Include what refers to ``digest`` and is wanted: by the referrers API, or by the referrers tag.

        That tag travels as well, or the far side would not find its referrers; an index brings along all that
        it lists, so it travels only with all of them.
        OCI distribution-spec 1.1 §Listing Referrers, §Referrers Tag Schema.
        """
        if self.selection.wanted == NONE:
            return
        tag = digest.replace(":", "-")
        listed, index = self.registry.referrers(repository, digest), None
        if listed is None:
            index = self._look_up(repository, tag)
            about = f"{repository}:{tag}"
            listed = list_manifests(self.registry.manifest(repository, index.digest), about) if index else []
        are_taken = [
            self._include_referrer(repository, one.digest, subject=digest, depth=depth) for one in listed
        ]
        if index is not None:
            self._take(f"{repository}:{tag}", index, index.media_type, digest, is_wanted=all(are_taken))
        for suffix in _COSIGN_SUFFIXES:
            if (found := self._look_up(repository, tag + suffix)) is not None:
                kind = kind_of(self.registry.manifest(repository, found.digest), found.media_type)
                is_wanted = self.selection.takes(kind)
                self._take(f"{repository}:{tag}{suffix}", found, kind, digest, is_wanted=is_wanted)

    def _include_referrer(self, repository: str, listed: str, *, subject: str, depth: int) -> bool:
        """Include one referrer, if it is wanted, with its own; whether nothing of it is left behind."""
        found = self.registry.resolve(repository, listed)
        if found is None:  # an index under a tag may list what was deleted
            return True
        kind = kind_of(self.registry.manifest(repository, found.digest), found.media_type)
        is_wanted = self.selection.takes(kind)
        self._take(f"{repository}@{found.digest}", found, kind, subject, is_wanted=is_wanted)
        if is_wanted:
            self._follow(repository, found.digest, depth=depth + 1)
        return is_wanted

    def _take(self, reference: str, found: Descriptor, kind: str, subject: str, *, is_wanted: bool) -> None:
        """Put a referrer among what travels or what is left, unless it was ordered by itself."""
        _, tag, _ = split_reference(reference)
        if not is_wanted:
            self.left.setdefault(reference, kind)
            self._require_end(reference)
            return
        self.artifacts.setdefault(
            reference,
            Artifact(
                reference=reference,
                digest=found.digest,
                media_type=found.media_type,
                tags=(tag,) if tag else (),
                artifact_type=kind,
                subject=subject,
            ),
        )


def resolve_artifacts(side: SourceSide, order: Item) -> Resolved:
    """Resolve one group of the request's references; what is found lies in the work folder.

    A plan is made of what this result names: if it is delivered once more and the registry says something
    else by then, there is no plan, or one that is not touched any more.
    """
    require_going(side.blobs, order.owner)
    work = WorkFolder(side.blobs, order.owner)
    request = work.get(REQUEST, RequestDocument, sha256=order.pinned)
    references = batch(request.artifacts)[order.number]
    scan = Scan(side.registry, Selection(request.referrers))
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
        left=scan.left,
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
    artifacts: dict[str, dict[str, Any]] = {}
    for artifact in (one for group in groups for one in group.artifacts):
        # What was ordered by itself is no mere referrer, although one group found it as one.
        if artifact["subject"] is None or artifact["reference"] not in artifacts:
            artifacts[artifact["reference"]] = artifact
    if len(artifacts) > MAX_ARTIFACTS:
        return ending(
            Code.REQUEST_INVALID,
            f"artifacts: with referrers {len(artifacts)}, at most {MAX_ARTIFACTS} allowed",
        )
    tagged = {reference: at for group in groups for reference, at in group.tagged.items()}
    batches = [_batch_of(members, tagged, request.referrers) for members in batch(list(artifacts.values()))]
    plan = Plan(batches=tuple(work.keep(BATCHES, one) for one in batches))
    left = {name: kind for group in groups for name, kind in group.left.items() if name not in artifacts}
    travelling = [(name, one["artifactType"]) for name, one in artifacts.items() if one["artifactType"]]
    return Planned(
        blobs=len(batches),
        artifacts=len(artifacts),
        referrers=tuple(summarize(travelling, left.items())),
        document_sha256=work.put(PLAN, plan),
    )


def _batch_of(
    members: list[dict[str, Any]], tagged: Mapping[str, str], referrers: str | tuple[str, ...]
) -> Batch:
    """What one run exports, with what is known of the tags among it."""
    references = [member["reference"] for member in members]
    return Batch(
        artifacts=tuple(members),
        tagged={one: tagged[one] for one in references if one in tagged},
        referrers=referrers,
    )


def _find_refusals(side: SourceSide, request: RequestDocument, now: datetime) -> list[Finding]:
    """What the target would refuse by the trust policy that the source has now, at ``now``."""
    policy = policy_in_force(side)
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
