"""Source, first steps: resolve references with all that belongs to them, refuse what cannot cross, split."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import zip_longest
from math import ceil
from typing import Any

from airgap.division import divide
from airgap.errors import Code, PolicyRefusal
from airgap.fields import parse_time
from airgap.manifest import MAX_ARTIFACTS
from airgap.parts import blob_name, fitting_part_size, part_count
from airgap.pipeline_runs import batch
from airgap.preflight import Finding, Terms, judge_keys, judge_terms
from function_app.durable.outcomes import Failed, Refused, ending
from function_app.durable.stopping import require_going
from function_app.messages import Item
from function_app.ports import SourceSide
from function_app.preflight import order_checks
from function_app.source.holdings import read_holdings, tell_word
from function_app.source.referrers import Selection, summarize
from function_app.source.scanning import Scan, split_reference
from function_app.source.wire import (
    Batch,
    Found,
    HeldArtifacts,
    Plan,
    Planned,
    PlannedBlob,
    PlannedPortion,
    Planning,
    PlanPage,
    PlanRefusal,
    PlanSummary,
    Portions,
    RequestDocument,
    Resolution,
    Resolved,
)
from function_app.storage.policies import policy_in_force
from function_app.storage.work_folder import WorkFolder, digest_of

REQUEST = "request"
"""Name of the document with what was asked for."""

SELECTED = "selected"
"""Name of the document with the same request, in which every reference that it selects is named."""

SUMMARY = "preview/summary"
PAGES = "preview/blobs/"
"""Folder of what the API shows of a plan: documents of ten blobs and 500 artifacts left out, in order."""

BLOBS_PER_PAGE = 10
HELD_PER_PAGE = 500

HELD = "held"
"""Folder of what is left out, under its own digest: who else asks later may be told of more."""

_MAX_RECEIPTS_TOLD = 20

PLAN = "plan"
"""Name of the document that tells the batches."""

PORTIONS = "portions"
"""Name of the document that tells how the order is divided, where one bundle does not take it."""

BATCHES = "batches"
"""Folder of the batches, each under its own digest."""

_MISSING = Code.ARTIFACT_NOT_FOUND.name
_RUN_S = 60
_EXPORT_BYTES_PER_S = 50 * 1024 * 1024
_HASH_BYTES_PER_S = 60 * 1024 * 1024
"""What an estimate assumes: a minute for each run, a run's rate, and that of one activity that hashes."""


def resolve_artifacts(side: SourceSide, order: Item) -> Resolved:
    """Resolve one group of the request's references; what is found lies in the work folder.

    A plan is made of what this result names: if it is delivered once more and the registry says something
    else by then, there is no plan, or one that is not touched any more.

    Raises:
        PolicyRefusal: ``TRANSITION_REFUSED``: the transfer was called off.
        ServiceError: the registry or the storage does not answer now. A reference that is unknown or cannot
            cross is in the result, and nothing is raised for it.
    """
    require_going(side.blobs, order.owner)
    work = WorkFolder(side.blobs, order.owner)
    request = read_references(work, order.pinned)
    references = batch(request.artifacts)[order.number]
    scan = Scan(side.registry, Selection(request.referrers))
    missing: list[str] = []
    obstacles: dict[str, str] = {}
    for reference in references:
        try:
            if not scan.add(reference):
                missing.append(reference)
        except PolicyRefusal as refusal:
            obstacles[reference] = refusal.detail
            scan.artifacts.pop(reference, None)
    resolution = Resolution(
        artifacts=tuple(artifact.to_json() for artifact in scan.artifacts.values()),
        tagged=scan.tagged,
        left=scan.left,
        missing=tuple(missing),
        obstacles=obstacles,
        content=scan.content,
        platforms=scan.platforms,
    )
    return Resolved(document_sha256=work.put(f"resolved/{order.number:06d}", resolution))


def read_references(work: WorkFolder, sha256: str) -> RequestDocument:
    """The request in which every reference is named: the one that was made, or what was selected by it.

    Raises:
        UntrustedInputError: ``BLOB_CHANGED``: neither has this hex SHA-256.
    """
    request = work.get(REQUEST, RequestDocument)
    if digest_of(request) == sha256:
        return request
    return work.get(SELECTED if request.select else REQUEST, RequestDocument, sha256=sha256)


def find_held(side: SourceSide, order: Planning) -> Found:
    """Find what every registry of the audience holds already, each artifact by itself: referrers, too.

    Held is a tag that points to the very digest, or a digest where no tag was ordered, by the receipts of the
    channel that are good now (:mod:`airgap.holdings`).
    """
    work = WorkFolder(side.blobs, order.transfer_id)
    request = read_references(work, order.request)
    groups = work.tallied(list(work.names("resolved/")), Resolution, order.resolved)
    artifacts, now = _artifacts_of(groups), parse_time(order.at)
    words: dict[str, dict[str, Any]] = {name: {} for name in artifacts}
    for registry in request.audience:
        holdings = read_holdings(side, request.channel, registry, now=now)
        for reference in list(words):
            word = holdings.word_for(reference, artifacts[reference]["digest"])
            if word is None:
                del words[reference]
            else:
                words[reference][registry] = tell_word(word)
    held = HeldArtifacts(
        artifacts=tuple(
            {"reference": name, "digest": artifacts[name]["digest"], "held": by} for name, by in words.items()
        )
    )
    receipts = dict.fromkeys(word["receipt"] for by in words.values() for word in by.values())
    return Found(
        artifacts=len(words),
        receipts=tuple(receipts)[:_MAX_RECEIPTS_TOLD],
        document_sha256=work.keep(HELD, held),
    )


def plan_transfer(side: SourceSide, order: Planning) -> Planned | Refused | Failed:
    """Put the groups together and split them into batches, one transfer blob each.

    Everything that cannot cross is refused here, before anything is exported; or told, by a dry run.
    """
    work = WorkFolder(side.blobs, order.transfer_id)
    request = read_references(work, order.request)
    groups = work.tallied(list(work.names("resolved/")), Resolution, order.resolved)
    found = _artifacts_of(groups)
    held = work.kept(HELD, order.held, HeldArtifacts).artifacts if order.held else ()
    left_out = {one["reference"] for one in held}
    artifacts = {name: artifact for name, artifact in found.items() if name not in left_out}
    portions = _divide(request.artifacts, groups, artifacts)
    largest = max(len(portion.artifacts) for portion in portions)
    refusals = _find_refusals(side, request, parse_time(order.at), groups, largest)
    if refusals and not order.is_dry_run:
        return _refuse(refusals)
    tagged = {reference: at for group in groups for reference, at in group.tagged.items()}
    batches = [
        [_batch_of(members, tagged, request.referrers) for members in batch(list(portion.artifacts.values()))]
        for portion in portions
    ]
    _tell(side, work, portions, batches, groups, refusals=refusals, held=held)
    is_divided = len(portions) > 1
    if is_divided:
        starts = tuple(portion.start for portion in portions)
        document_sha256 = work.put(PORTIONS, Portions(request=order.request, starts=starts))
    else:
        plan = Plan(batches=tuple(work.keep(BATCHES, one) for one in batches[0]))
        document_sha256 = work.put(PLAN, plan)
    left = {name: kind for group in groups for name, kind in group.left.items() if name not in found}
    travelling = [(name, one["artifactType"]) for name, one in artifacts.items() if one["artifactType"]]
    return Planned(
        blobs=sum(len(each) for each in batches),
        artifacts=len(artifacts),
        referrers=tuple(summarize(travelling, left.items())),
        document_sha256=document_sha256,
        portions=len(portions) if is_divided else 0,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Portion:
    """What one bundle takes of an order: all of it, or the references from ``start`` on that go together."""

    start: int
    requested: int
    artifacts: Mapping[str, dict[str, Any]]


def _divide(
    references: Sequence[str], groups: Sequence[Resolution], artifacts: Mapping[str, dict[str, Any]]
) -> list[_Portion]:
    """The whole where one bundle takes it; else portions, as :mod:`airgap.division` says."""
    if len(artifacts) <= MAX_ARTIFACTS:
        return [_Portion(start=0, requested=len(references), artifacts=artifacts)]
    families = _families(references, groups, artifacts)
    starts = divide([len(family) for family in families])
    return [
        _Portion(
            start=start,
            requested=end - start,
            artifacts={name: artifacts[name] for family in families[start:end] for name in family},
        )
        for start, end in zip(starts, (*starts[1:], len(references)), strict=True)
    ]


def _families(
    references: Sequence[str], groups: Sequence[Resolution], artifacts: Mapping[str, dict[str, Any]]
) -> list[list[str]]:
    """What travels with each reference, itself included; what two of a group share is with the first."""
    families: dict[str, list[str]] = {reference: [] for reference in references}
    for members, group in zip(batch(references), groups, strict=True):
        own, family = set(members), members[0]
        for name in (artifact["reference"] for artifact in group.artifacts):
            family = name if name in own else family
            if name in artifacts:
                families[family].append(name)
    return list(families.values())


def _refuse(refusals: Sequence[PlanRefusal]) -> Refused | Failed:
    """End with what comes first: with all that the policy says, or with all references of one code."""
    code = refusals[0].code
    if refusals[0].reference is None:
        return ending(Code[code], _shorten([one.detail for one in refusals if one.reference is None]))
    about = {one.reference: one.detail for one in refusals if one.reference and one.code == code}
    return ending(Code[code], _shorten(list(about if code == _MISSING else about.values())), list(about))


def _artifacts_of(groups: Sequence[Resolution]) -> dict[str, dict[str, Any]]:
    """What all groups have found, by reference."""
    artifacts: dict[str, dict[str, Any]] = {}
    for artifact in (one for group in groups for one in group.artifacts):
        # What was ordered by itself is no mere referrer, although one group found it as one.
        if artifact["subject"] is None or artifact["reference"] not in artifacts:
            artifacts[artifact["reference"]] = artifact
    return artifacts


def _tell(
    side: SourceSide,
    work: WorkFolder,
    portions: Sequence[_Portion],
    batches: Sequence[Sequence[Batch]],
    groups: Sequence[Resolution],
    *,
    refusals: Sequence[PlanRefusal],
    held: Sequence[dict[str, Any]],
) -> None:
    """Write down what the API shows of the plan; nothing is decided by it."""
    content = {name: sizes for group in groups for name, sizes in group.content.items()}
    for_what = {name: names for group in groups for name, names in group.platforms.items()}

    def tell(members: Batch, number: int, portion: int) -> PlannedBlob:
        names = [one["reference"] for one in members.artifacts]
        size_bytes = sum({digest: size for name in names for digest, size in content[name].items()}.values())
        told = [
            {**one, "sizeBytes": sum(content[name].values()), "platforms": list(for_what.get(name, ()))}
            for name, one in zip(names, members.artifacts, strict=True)
        ]
        return PlannedBlob(
            name=blob_name(number),
            size_bytes=size_bytes,
            parts=part_count(size_bytes, fitting_part_size(size_bytes, side.settings.part_size_bytes)),
            artifacts=tuple(told),
            portion=portion if len(portions) > 1 else None,
        )

    divided = [
        [tell(members, number, portion) for number, members in enumerate(each, start=1)]
        for portion, each in enumerate(batches, start=1)
    ]
    blobs = [blob for each in divided for blob in each]
    pages = zip_longest(batch(blobs, BLOBS_PER_PAGE), batch(held, HELD_PER_PAGE), fillvalue=())
    for number, (some, left_out) in enumerate(pages):
        work.put(f"{PAGES}{number:06d}", PlanPage(blobs=tuple(some), held=tuple(left_out)))
    summary = PlanSummary(
        size_bytes=sum(blob.size_bytes for blob in blobs),
        parts=sum(blob.parts for blob in blobs),
        duration_s=sum(_estimate_s(side, [blob.size_bytes for blob in each]) for each in divided),
        refused=tuple(refusals),
        portions=tuple(
            PlannedPortion(
                requested=portion.requested,
                artifacts=len(portion.artifacts),
                blobs=len(each),
                size_bytes=sum(blob.size_bytes for blob in each),
                parts=sum(blob.parts for blob in each),
            )
            for portion, each in zip(portions, divided, strict=True)
        )
        if len(portions) > 1
        else (),
    )
    work.put(SUMMARY, summary)


def _estimate_s(side: SourceSide, sizes: Sequence[int]) -> int:
    """How long exporting and hashing blobs of these sizes may take, in seconds, by rates that are assumed."""
    lanes = max(1, min(side.settings.pipeline_runs_at_once, len(sizes)))
    exporting = [
        sum(_RUN_S + size / _EXPORT_BYTES_PER_S for size in sizes[lane::lanes]) for lane in range(lanes)
    ]
    hashing = sum(sizes) / (_HASH_BYTES_PER_S * side.settings.hashes_at_once)
    return ceil(max(exporting, default=0) + hashing)


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


def _find_refusals(
    side: SourceSide, request: RequestDocument, now: datetime, groups: Sequence[Resolution], largest: int
) -> list[PlanRefusal]:
    """Why it cannot cross as it was ordered: first what the target would refuse, then the pipeline."""
    refusals = [
        PlanRefusal(
            reference=None, code=one.code.name, detail=f"{one.code.name}: {_about(one, request)}{one.wanted}"
        )
        for one in _refused_by_policy(side, request, now)
    ]
    refusals += [
        PlanRefusal(
            reference=None,
            code=Code.PIPELINE_UNFIT.name,
            detail=f"{side.settings.pipeline}, {check.id}: {check.detail}",
        )
        for check in order_checks("source", side, now=now)
        if not check.is_ok
    ]
    missing = [reference for group in groups for reference in group.missing]
    refusals += [PlanRefusal(reference=one, code=Code.ARTIFACT_NOT_FOUND.name, detail=one) for one in missing]
    refusals += [
        PlanRefusal(reference=reference, code=Code.ARTIFACT_REFUSED.name, detail=detail)
        for group in groups
        for reference, detail in group.obstacles.items()
    ]
    if largest > MAX_ARTIFACTS:  # a single reference has so many referrers: nothing is left to divide
        detail = f"artifacts: one of them has {largest} with its referrers, at most {MAX_ARTIFACTS} allowed"
        refusals.append(PlanRefusal(reference=None, code=Code.REQUEST_INVALID.name, detail=detail))
    return refusals


def _refused_by_policy(side: SourceSide, request: RequestDocument, now: datetime) -> list[Finding]:
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


def _shorten(texts: list[str]) -> str:
    """The texts in one line, as many as fit in an error's detail, and how many more there are."""
    shown: list[str] = []
    for text in texts:
        if sum(len(one) + 2 for one in shown) + len(text) > 450:  # noqa: PLR2004 - a detail has 500
            break
        shown.append(text)
    rest = len(texts) - len(shown)
    return ", ".join(shown or [texts[0][:450]]) + (f" and {rest} more" if shown and rest else "")
