"""Staged imports at the target: what the staging registry holds, and how the signed part of it comes over.

The staging registry belongs to one import at a time, whatever its channel: the app empties it first, the
pipeline imports into it, what is there is held against the manifest, the signed digests are brought into the
real registry, then the tags, and it is emptied again. So nothing is proven by what another import has left
behind, and nothing that the manifest does not name ever comes into the real registry
(``docs/adr/0018-staged-import.md``).
"""

import itertools
import logging
from collections.abc import Callable, Iterator

import msgspec

from airgap.errors import Code, PolicyRefusal, ServiceError
from airgap.fields import parse_time
from airgap.manifest import Artifact
from airgap.pipeline_runs import RunState, judge_run
from airgap.receipt import MAX_UNDECLARED
from function_app.durable.outcomes import Failed, Pending, Refused
from function_app.durable.stopping import require_going
from function_app.messages import Item
from function_app.oci import list_manifests
from function_app.ports import Staged, StagingRegistry, TargetSide
from function_app.preflight import require_fit_pipeline
from function_app.storage.paths import STAGING_RUNS, WORK
from function_app.storage.turns import STAGING_QUEUE, Turns
from function_app.storage.work_folder import WorkFolder
from function_app.target.admission import declared_folder
from function_app.target.judging import require_undecided
from function_app.target.longest_waits import FOR_STAGING, require_time
from function_app.target.looking_up import look_up
from function_app.target.proving import SURVEY, declared_group, judge_proofs, read_declared
from function_app.target.wire import (
    Brought,
    Crossing,
    Declared,
    Emptied,
    EmptiedNote,
    Judging,
    LookedUp,
    Proven,
    StagingTurn,
    Survey,
    Surveyed,
    Upload,
)

STAGED_PROOFS = "staged-proofs/"
_EMPTIED = "staging-emptied"
_REPOSITORIES_AT_ONCE = 50
_OPERATIONS_AT_ONCE = 10
"""Of a group of artifacts; groups are brought over side by side."""
_ATTEMPTS = 3
_LOG = logging.getLogger(__name__)


def _staged(side: TargetSide) -> Staged:
    if side.staged is None:
        raise ServiceError(Code.STAGING_UNFIT, "the app is not told of the staging registry any more")
    return side.staged


def take_staging(side: TargetSide, order: Judging) -> StagingTurn | Pending:
    """The activity that takes the turn of the staging registry, or is ``pending``; the first to ask is first.

    Raises:
        PolicyRefusal: ``TRANSITION_REFUSED``: the work was called off, or decided upon.
        ServiceError: ``TURN_EXPIRED``: the import has waited for as long as it may.
    """
    require_going(side.blobs, order.instance)
    require_undecided(side, order.instance)
    turns = Turns(side.blobs, STAGING_QUEUE)
    turns.enter(int(parse_time(order.now).timestamp()), order.instance)
    if turns.take(order.instance):
        return StagingTurn()
    require_time(WorkFolder(side.blobs, order.instance), parse_time(order.now), FOR_STAGING)
    return Pending()


def empty_staging(side: TargetSide, order: Upload) -> Emptied | Pending:
    """The activity that deletes everything in the staging registry, some repositories at a time.

    It ends once the registry is seen to be empty. It waits for the runs of imports that were given up: they
    would go on bringing things in.

    Raises:
        PolicyRefusal: ``TRANSITION_REFUSED``: it is not this import's turn, and another's content stays.
        ServiceError: ``STAGING_UNFIT``: the app may not delete there; ``PIPELINE_UNFIT``: the registry in the
            settings has not the app's import pipeline, so it is taken for another registry.
    """
    work = WorkFolder(side.blobs, order.instance)
    if work.find(_EMPTIED, EmptiedNote) is not None:  # by an earlier delivery: runs may be at work by now
        return Emptied()
    turns = Turns(side.blobs, STAGING_QUEUE)
    is_over = lambda: not turns.has(order.instance) or work.find(_EMPTIED, EmptiedNote) is not None  # noqa: E731
    emptied = _empty(side, order, is_over=is_over)
    if isinstance(emptied, Emptied):
        work.create(_EMPTIED, EmptiedNote())
    return emptied


def _empty(side: TargetSide, order: Upload, *, is_over: Callable[[], bool]) -> Emptied | Pending:
    """Remove what was found before it was last asked whether that ``is_over``.

    What another delivery of the step makes room for is not taken for what lay there before, unless this one
    is held up in the very call that removes something.
    """
    registry = _staged(side).registry
    if not Turns(side.blobs, STAGING_QUEUE).has(order.instance):
        raise PolicyRefusal(Code.TRANSITION_REFUSED, f"{order.instance} has not the turn to empty it")
    require_fit_pipeline("target", side)
    if _is_written_to(side):
        return Pending()
    found = list(itertools.islice(registry.repositories(), _REPOSITORIES_AT_ONCE))
    for repository in found:
        if is_over():
            return Emptied()
        try:
            registry.delete_repository(repository)
        except ServiceError as error:
            if error.code.is_retryable:
                raise
            raise ServiceError(Code.STAGING_UNFIT, f"it cannot be emptied: {error.detail}") from error
    return Pending() if found else Emptied()


def _is_written_to(side: TargetSide) -> bool:
    """Whether a run goes on; the note of one that has ended is removed."""
    for name in list(side.blobs.list_names(WORK, STAGING_RUNS)):
        properties = side.pipelines.get_run(name.removeprefix(STAGING_RUNS))
        if properties is not None and judge_run(properties)[0] is RunState.ACTIVE:
            return True
        side.blobs.delete(WORK, name)
    return False


def leave_staging(side: TargetSide, order: Upload) -> Emptied | Pending:
    """The activity that empties the staging registry, as :func:`empty_staging`, and gives its turn back."""
    turns = Turns(side.blobs, STAGING_QUEUE)
    if not turns.has(order.instance):  # given back by an earlier delivery
        return Emptied()
    emptied = _empty(side, order, is_over=lambda: not turns.has(order.instance))
    if isinstance(emptied, Emptied):
        turns.leave(order.instance)
    return emptied


def prove_staged(side: TargetSide, order: Item) -> LookedUp | Pending:
    """The activity that asks the staging registry for a group of artifacts, as the real one will be asked."""
    require_going(side.blobs, order.owner)
    work = WorkFolder(side.blobs, order.owner)
    is_done = look_up(_staged(side).registry, work, declared_group(work, order.number), STAGED_PROOFS)
    return LookedUp() if is_done else Pending()


def survey_staging(side: TargetSide, order: Upload) -> Surveyed | Pending:
    """The activity that lists what is in the staging registry undeclared, some repositories at a time.

    It does not go by what the runs reported: the registry was empty before them, and nobody else imports into
    it. A manifest that a declared index lists is declared with it.
    """
    require_going(side.blobs, order.instance)
    registry, work = _staged(side).registry, WorkFolder(side.blobs, order.instance)
    survey = work.find(SURVEY, Survey) or Survey(after="", undeclared=(), undeclared_count=0)
    rest = (name for name in registry.repositories() if name > survey.after)
    names = list(itertools.islice(rest, _REPOSITORIES_AT_ONCE))
    declared = _declared_in(work, frozenset(names))
    found = [one for name in names for one in _undeclared_in(registry, name, declared.get(name, []))]
    if found:
        _LOG.error(
            "%s: %s: %d artifacts are in the staging registry and not declared, such as %s",
            Code.UNDECLARED_ARTIFACTS.name,
            order.instance,
            len(found),
            found[0],
        )
    work.put(
        SURVEY,
        Survey(
            after=names[-1] if names else survey.after,
            undeclared=(*survey.undeclared, *found)[:MAX_UNDECLARED],
            undeclared_count=survey.undeclared_count + len(found),
        ),
    )
    return Pending() if len(names) == _REPOSITORIES_AT_ONCE else Surveyed()


def _declared_in(work: WorkFolder, repositories: frozenset[str]) -> dict[str, list[Artifact]]:
    found: dict[str, list[Artifact]] = {}
    for group in work.all(declared_folder(), Declared):
        for artifact in read_declared(group):
            if artifact.repository in repositories:
                found.setdefault(artifact.repository, []).append(artifact)
    return found


def _undeclared_in(registry: StagingRegistry, repository: str, declared: list[Artifact]) -> Iterator[str]:
    present = list(registry.digests(repository))
    known = {artifact.digest for artifact in declared}
    if not known.issuperset(present):
        open_ones = [digest for digest in present if digest in known]
        while open_ones:
            digest = open_ones.pop()
            about = f"{repository}@{digest}"
            children = {one.digest for one in list_manifests(registry.manifest(repository, digest), about)}
            open_ones += (children - known) & set(present)
            known |= children
    return (f"{repository}@{digest}" for digest in present if digest not in known)


def conclude_staged(side: TargetSide, order: Upload) -> Proven | Refused | Failed:
    """The activity that judges the staging registry, as ``conclude_import`` judges the real one.

    If it is refused here, nothing of it has come into the real registry.
    """
    require_going(side.blobs, order.instance)
    found = judge_proofs(WorkFolder(side.blobs, order.instance), STAGED_PROOFS)
    if isinstance(found, Proven):
        return found
    where = (
        f"in the staging registry, from which nothing was brought into {side.settings.registry_login_server}"
    )
    return msgspec.structs.replace(found, detail=f"{where}: {found.detail}"[:500])


def bring_digests(side: TargetSide, order: Item) -> Brought | Pending:
    """The activity that brings the digests of a group into the real registry, untagged, or is ``pending``.

    An artifact that is there already is not asked for, so that a repeat brings the rest only.

    Raises:
        PolicyRefusal: ``TRANSITION_REFUSED``: the work was called off.
        ServiceError: ``IMAGE_IMPORT_FAILED``: an artifact's import failed three times.
    """
    return _bring(side, order, "digests")


def bring_tags(side: TargetSide, order: Item) -> Brought | Pending:
    """The activity that sets the signed tags of a group in the real registry, wherever they point now.

    Raises:
        PolicyRefusal, ServiceError: as :func:`bring_digests`.
    """
    return _bring(side, order, "tags")


def _bring(side: TargetSide, order: Item, what: str) -> Brought | Pending:
    require_going(side.blobs, order.owner)
    staged, work = _staged(side), WorkFolder(side.blobs, order.owner)
    group = declared_group(work, order.number)
    name = f"crossing/{what}/{group.removeprefix(declared_folder())}"
    noted = work.find(name, Crossing) or Crossing(done=(), operations={}, attempts={})
    done, operations, attempts = set(noted.done), dict(noted.operations), dict(noted.attempts)
    artifacts = {one.reference: one for one in read_declared(work.get(group, Declared))}
    for reference, artifact in artifacts.items():
        tags = artifact.tags if what == "tags" else ()
        if reference in done:
            continue
        if _is_there(side, artifact, tags if what == "tags" else (artifact.digest,)):
            done.add(reference)
            operations.pop(reference, None)
            continue
        operation = operations.get(reference)
        if operation is not None:
            why = staged.imports.failure(operation) if operation else "it was done, and is not there"
            if why is None:
                continue
            del operations[reference]
            attempts[reference] = attempts.get(reference, 0) + 1
            if attempts[reference] >= _ATTEMPTS:
                raise ServiceError(Code.IMAGE_IMPORT_FAILED, f"{reference}: {why}")
        if len(operations) < _OPERATIONS_AT_ONCE:
            operations[reference] = staged.imports.begin(artifact.repository, artifact.digest, tags) or ""
    work.put(name, Crossing(done=tuple(sorted(done)), operations=operations, attempts=attempts))
    return Brought() if len(done) == len(artifacts) else Pending()


def _is_there(side: TargetSide, artifact: Artifact, references: tuple[str, ...]) -> bool:
    found = (side.registry.resolve(artifact.repository, reference) for reference in references)
    return all(one is not None and one.digest == artifact.digest for one in found)
