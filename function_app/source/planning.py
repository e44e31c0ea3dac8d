"""Source, first steps: resolve references with all that belongs to them, refuse what cannot cross, split."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from airgap.division import MAX_PLANNED_ARTIFACTS, divide
from airgap.errors import Code, PolicyRefusal
from airgap.fields import parse_time
from airgap.holdings import Word
from airgap.manifest import MAX_ARTIFACTS
from airgap.pipeline_runs import batch
from airgap.preflight import Finding, Terms, judge_keys, judge_terms
from function_app.durable.outcomes import Failed, Refused
from function_app.durable.stopping import require_going
from function_app.messages import Item
from function_app.ports import SourceSide
from function_app.preflight import order_checks
from function_app.source.holdings import read_holdings, tell_word
from function_app.source.plan_pages import PlanPages
from function_app.source.referrers import Selection
from function_app.source.scanning import Scan, split_reference
from function_app.source.surveying import Refusals, Survey, too_large
from function_app.source.travelling import Run, Travelling
from function_app.source.wire import (
    Found,
    Held,
    HeldArtifacts,
    Plan,
    Planned,
    Planning,
    PlanRefusal,
    Portions,
    RequestDocument,
    Resolution,
    Resolved,
)
from function_app.storage.paths import LEDGER
from function_app.storage.policies import policy_in_force
from function_app.storage.work_folder import Documents, WorkFolder, digest_of

REQUEST = "request"
"""Name of the document with what was asked for."""

SELECTED = "selected"
"""Name of the document with the same request, in which every reference that it selects is named."""

_HELD_PER_PAGE = 500

HELD = "held"
"""Folder of what is left out, under its own digest: who else asks later may be told of more."""

_MAX_RECEIPTS_TOLD = 20

PLAN = "plan"
"""Name of the document that tells the batches."""

PORTIONS = "portions"
"""Name of the document that tells how the order is divided, where one bundle does not take it."""

BATCHES = "batches"
"""Folder of the batches, each under its own digest."""


def resolve_artifacts(side: SourceSide, order: Item) -> Resolved:
    """The activity that resolves one group of references; what it finds lies in the work folder.

    A plan is made only from the document that this result names by its digest: if the activity is delivered
    once more and the registry says something else by then, there is no plan yet, or it is not touched any
    more.

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
    """The request with every reference named: the original one, or what was selected by it.

    Raises:
        UntrustedInputError: ``BLOB_CHANGED``: neither document has this hex SHA-256.
    """
    request = work.get(REQUEST, RequestDocument)
    if digest_of(request) == sha256:
        return request
    return work.get(SELECTED if request.select else REQUEST, RequestDocument, sha256=sha256)


def find_held(side: SourceSide, order: Planning) -> Found | Refused | Failed:
    """The activity that finds which artifacts, referrers too, every registry of the audience holds already.

    An artifact is held if, by the receipts of the channel that are good now (:mod:`airgap.holdings`), its tag
    points to the very digest or, where no tag was ordered, its digest is there. Only one registry is in
    memory at a time, and of it only what the order is about; the result is written in pages.

    Raises:
        ServiceError: the storage cannot be read now.
    """
    work = WorkFolder(side.blobs, order.transfer_id)
    request = read_references(work, order.request)
    digests: dict[str, str] = {}
    for group in _resolutions(work, order):
        for artifact in group.artifacts:
            digests.setdefault(artifact["reference"], artifact["digest"])
        if len(digests) > MAX_PLANNED_ARTIFACTS:
            return too_large()
    about = {f"{split_reference(name)[0]}@{digest}" for name, digest in digests.items()} | digests.keys()
    words: dict[str, list[Word]] = {name: [] for name in digests}
    for registry in request.audience:
        holdings = read_holdings(side, request.channel, registry, now=parse_time(order.at), about=about)
        for reference in list(words):
            word = holdings.word_for(reference, digests[reference])
            if word is None:
                del words[reference]
            else:
                words[reference].append(word)
    pages: list[str] = []
    for some in batch(list(words), _HELD_PER_PAGE):
        by_registry = [dict(zip(request.audience, map(tell_word, words[name]), strict=True)) for name in some]
        artifacts = tuple(
            {"reference": name, "digest": digests[name], "held": by}
            for name, by in zip(some, by_registry, strict=True)
        )
        pages.append(work.keep(HELD, HeldArtifacts(artifacts=artifacts)))
    receipts = dict.fromkeys(word.receipt for by in words.values() for word in by)
    return Found(
        artifacts=len(words),
        receipts=tuple(f"{LEDGER}/{name}" for name in list(receipts)[:_MAX_RECEIPTS_TOLD]),
        document_sha256=work.keep(HELD, Held(pages=tuple(pages))),
    )


def plan_transfer(side: SourceSide, order: Planning) -> Planned | Refused | Failed:
    """The activity that puts the groups together and splits them into batches, one transfer blob each.

    Everything that cannot cross is refused here, before anything is exported; or told, by a dry run. Only the
    names of all that travels are in memory, and one group's details at a time.
    """
    work = WorkFolder(side.blobs, order.transfer_id)
    request = read_references(work, order.request)
    held = _Held(work, work.kept(HELD, order.held, Held).pages if order.held else ())
    left_out = frozenset(one["reference"] for one in held)
    travelling = Travelling(request=request, groups=_resolutions(work, order), left_out=left_out)
    survey = Survey.of(travelling)
    if not isinstance(survey, Survey):
        return survey
    of_all = _find_refusals(side, request, parse_time(order.at), max(survey.sizes))
    refusals = Refusals(of_all=of_all, survey=survey, travelling=travelling)
    if not order.is_dry_run and (end := refusals.end()) is not None:
        return end
    starts = divide(survey.sizes) if len(survey.kinds) > MAX_ARTIFACTS else (0,)
    runs = travelling.runs(starts)
    is_divided = len(starts) > 1
    batches: list[str] = []
    if not is_divided:
        runs = _kept(work, runs, request.referrers, batches)
    ends = (*starts[1:], len(request.artifacts))
    pages = PlanPages(
        work=work,
        settings=side.settings,
        requested=[end - start for start, end in zip(starts, ends, strict=True)],
    )
    blobs = pages.write(runs, held=held, refusals=refusals, refused=len(refusals))
    if is_divided:
        document_sha256 = work.put(PORTIONS, Portions(request=order.request, starts=starts))
    else:
        document_sha256 = work.put(PLAN, Plan(batches=tuple(batches)))
    return Planned(
        blobs=blobs,
        artifacts=len(survey.kinds),
        referrers=tuple(survey.referrers(left_out)),
        document_sha256=document_sha256,
        portions=len(starts) if is_divided else 0,
    )


def _resolutions(work: WorkFolder, order: Planning) -> Documents[Resolution]:
    return work.pinned(list(work.names("resolved/")), Resolution, order.resolved)


def _kept(
    work: WorkFolder, runs: Iterable[Run], referrers: str | tuple[str, ...], batches: list[str]
) -> Iterator[Run]:
    """The runs, of which each is kept as a batch; the SHA-256 of each is added to ``batches``."""
    for run in runs:
        batches.append(work.keep(BATCHES, run.to_batch(referrers)))
        yield run


@dataclass(frozen=True, slots=True)
class _Held:
    """What is left out, read page by page."""

    work: WorkFolder
    pages: Sequence[str]

    def __iter__(self) -> Iterator[dict[str, Any]]:
        for sha256 in self.pages:
            yield from self.work.kept(HELD, sha256, HeldArtifacts).artifacts


def _find_refusals(
    side: SourceSide, request: RequestDocument, now: datetime, largest: int
) -> list[PlanRefusal]:
    """Why the whole cannot cross as it was ordered: first what the target would refuse, then the pipeline."""
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
