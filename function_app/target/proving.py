"""The proving of an import at the target: the registry must have all that is declared, and nothing else."""

import logging
from collections.abc import Iterator

from airgap.errors import Code, ServiceError
from airgap.manifest import Artifact
from airgap.pipeline_runs import compare_imports
from airgap.receipt import MAX_UNDECLARED, ArtifactProof
from function_app.durable.outcomes import Failed, Pending, Refused, ending
from function_app.durable.stopping import require_going
from function_app.messages import Item
from function_app.ports import TargetSide
from function_app.storage.work_folder import WorkFolder
from function_app.target.acceptance import number_taken
from function_app.target.admission import VERDICT, declared_folder
from function_app.target.custody import INSPECTION, inspected_blob
from function_app.target.importing import RUN_ATTEMPTS, import_run_name
from function_app.target.looking_up import look_up, proofs_of, tell_missing
from function_app.target.wire import (
    Closing,
    Declared,
    Inspection,
    LookedUp,
    Proofs,
    Proven,
    Reported,
    RunReport,
    StockTaken,
    Survey,
    Upload,
    VerdictNote,
)

_PROOFS = "proofs/"
_REPORTED = "reported/"
SURVEY = "survey"
_REMOVED = "what the bundle declares was removed"
_LOG = logging.getLogger(__name__)


def note_report(side: TargetSide, order: Item) -> Reported:
    """The activity that compares what a blob's runs report as imported with what is declared of it.

    Runs that failed count, too. An undeclared artifact is in the pipeline's registry by now, so an error in
    the log raises an alarm.
    """
    work = WorkFolder(side.blobs, order.owner)
    blob = inspected_blob(work.get(INSPECTION, Inspection), order.number).name
    imported: list[object] = []
    for attempt in range(RUN_ATTEMPTS):
        properties = side.pipelines.get_run(import_run_name(order.owner, blob, attempt)) or {}
        imported += (properties.get("response") or {}).get("importedArtifacts") or []
    declared = [
        artifact for group in work.all(declared_folder(blob), Declared) for artifact in read_declared(group)
    ]
    found = compare_imports(
        declared,
        (str(reference) for reference in imported),
        login_server=side.settings.pipeline_registry.login_server,
    )
    if found.undeclared:
        _LOG.error(
            "%s: %s: blob %s brought %d artifacts that its manifest does not declare, such as %s",
            Code.UNDECLARED_ARTIFACTS.name,
            order.owner,
            blob,
            len(found.undeclared),
            found.undeclared[0],
        )
    report = RunReport(
        unreported=len(found.unreported),
        undeclared=found.undeclared[:MAX_UNDECLARED],
        undeclared_count=len(found.undeclared),
    )
    work.put(f"{_REPORTED}{blob}", report)
    return Reported()


def prove_artifacts(side: TargetSide, order: Item) -> LookedUp | Pending:
    """The activity that asks the registry for a group of artifacts; ``pending`` until all was asked for.

    Raises:
        PolicyRefusal: ``TRANSITION_REFUSED``: the work was called off.
        ServiceError: ``NOT_FOUND``: the declared artifacts are removed, since all is done.
    """
    require_going(side.blobs, order.owner)
    work = WorkFolder(side.blobs, order.owner)
    is_done = look_up(side.registry, work, declared_group(work, order.number), _PROOFS)
    return LookedUp() if is_done else Pending()


def declared_group(work: WorkFolder, number: int) -> str:
    """The name of the document with the ``number``-th group, from 0, of declared artifacts.

    Raises:
        ServiceError: ``NOT_FOUND``: the declared artifacts are removed, since all is done.
    """
    names = list(work.names(declared_folder()))
    if number >= len(names):  # delivered late, when all was cleaned up
        raise ServiceError(Code.NOT_FOUND, _REMOVED)
    return names[number]


def take_stock(side: TargetSide, order: Closing) -> StockTaken | Pending:
    """The activity that asks the registry for what was not looked up yet of an import that broke off.

    It asks for a group at a time. Artifacts that its runs brought until then stay in the registry, and the
    receipt names them. Nothing is asked for a bundle whose number this orchestration did not take: no run was
    started for it.
    """
    work = WorkFolder(side.blobs, order.instance)
    noted = work.find(VERDICT, VerdictNote)
    if noted is None or number_taken(side, noted, order.instance) is None:
        return StockTaken()
    known = set(work.names(_PROOFS))
    missing = [name for name in work.names(declared_folder()) if proofs_of(name, _PROOFS) not in known]
    is_done = not missing or look_up(side.registry, work, missing[0], _PROOFS)
    return Pending() if len(missing) > 1 or not is_done else StockTaken()


def conclude_import(side: TargetSide, order: Upload) -> Proven | Refused | Failed:
    """The activity that judges an import by what is noted of every run and every artifact.

    ``UNDECLARED_ARTIFACTS`` if a run brought anything that the manifest does not declare;
    ``IMPORT_INCOMPLETE`` if an artifact is not as signed. An artifact that runs do not report and the
    registry has all the same is only remarked on.

    Raises:
        ServiceError: ``NOT_FOUND``: a run was not compared, or a group of artifacts not looked up.
    """
    return judge_proofs(WorkFolder(side.blobs, order.instance), _PROOFS)


def judge_proofs(work: WorkFolder, folder: str) -> Proven | Refused | Failed:
    """Judge by the notes of every run, of the staging registry, and those in ``folder`` of every artifact.

    Raises:
        ServiceError: ``NOT_FOUND``: as :func:`conclude_import`.
    """
    reports = [
        work.get(f"{_REPORTED}{blob.name}", RunReport) for blob in work.get(INSPECTION, Inspection).blobs
    ]
    groups = [work.get(proofs_of(name, folder), Proofs) for name in work.names(declared_folder())]
    count = sum(len(group.proofs) for group in groups)
    if not count:  # every bundle has some
        raise ServiceError(Code.NOT_FOUND, _REMOVED)
    lacking = sum(group.lacking for group in groups)
    shortfall = f"{lacking} of {count} artifacts are not as signed"
    listed, undeclared = noted_undeclared(work)
    if undeclared:
        example = listed[0]
        remark = f"; {shortfall}" if lacking else ""
        return ending(Code.UNDECLARED_ARTIFACTS, f"{undeclared} artifacts, such as {example}{remark}")
    unreported = sum(report.unreported for report in reports)
    remark = f"; {unreported} not reported as imported" if unreported else ""
    if lacking:
        lack = next(proof for proof in noted_proofs(work, folder) if not proof.is_proven)
        told = f"{lack.reference}, {tell_missing(lack)}"
        return ending(Code.IMPORT_INCOMPLETE, f"{shortfall}, such as {told}{remark}")
    return Proven(detail=f"{count} artifacts{remark}")


def noted_proofs(work: WorkFolder, folder: str = _PROOFS) -> Iterator[ArtifactProof]:
    """The answers of the registry, in the manifest's order, as far as it was asked."""
    for group in work.all(folder, Proofs):
        for proof in group.proofs:
            yield ArtifactProof.from_json(proof, "proof")


def noted_undeclared(work: WorkFolder) -> tuple[tuple[str, ...], int]:
    """The undeclared artifacts that came along, as many as a receipt holds, and how many there are in all.

    An artifact that a run names by a tag, and the survey of the staging registry by its digest, is named
    twice.
    """
    survey = work.find(SURVEY, Survey)
    reports: list[RunReport | Survey] = list(work.all(_REPORTED, RunReport))
    reports += [] if survey is None else [survey]
    found = tuple(reference for report in reports for reference in report.undeclared)
    return found[:MAX_UNDECLARED], sum(report.undeclared_count for report in reports)


def read_declared(group: Declared) -> Iterator[Artifact]:
    """The artifacts in a document of declared ones."""
    return (Artifact.from_json(artifact, "artifact") for artifact in group.artifacts)
