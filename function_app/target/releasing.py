"""The releasing of a verified bundle at the target, by people, while nothing changes about it.

Releases are kept in the ledger, one blob for each key, and counted by the policy in force. Only blobs that
are named by keys of this policy are read, so that anything else that lies there costs nothing.
"""

from datetime import datetime
from typing import Any

from airgap.errors import Code, PolicyRefusal, UntrustedInputError
from airgap.fields import format_time, parse_time
from airgap.journal import Journal
from airgap.policy import Channel, TrustPolicy, keyids_of
from airgap.release import ReleasedBundle, ReleaseTally, VerifiedRelease, count_releases
from airgap.states import State
from function_app.durable.outcomes import Failed, Pending, Refused, ending
from function_app.durable.stopping import require_going
from function_app.http.bodies import read_body
from function_app.ports import TargetSide
from function_app.storage.ledger import Ledger
from function_app.storage.policies import policy_in_force
from function_app.storage.work_folder import WorkFolder
from function_app.target import bodies
from function_app.target.admission import admitted_envelope, judging_policy, note_policy_version
from function_app.target.checking import require_signed_checks
from function_app.target.judging import judge_bundle, require_undecided
from function_app.target.wire import Cleared, Clearing, PostNote, ReleasesNote

RELEASES = "releases"
_POSTED = "posted/"
_OPEN = frozenset(
    {
        State.ADMITTED,
        State.WAITING,
        State.VERIFIED,
        State.CHECKING,
        State.AWAITING_RELEASE,
        State.HELD,
    }
)
"""When a release can still matter: the bundle is vouched for, and not decided upon."""


def needs_release(channel: Channel | None) -> bool:
    """Whether people must release the bundles of a channel; also if the policy does not have it any more."""
    return channel is None or bool(channel.release_roles)


def clear_bundle(side: TargetSide, order: Clearing) -> Cleared | Pending | Refused | Failed:
    """The activity that judges the bundle again, and counts its releases; ``pending`` while some are missing.

    It goes by the policy and the clock of this moment, so that a bundle that has expired, or whose key was
    revoked, while people were waited for is not imported, and gives the channel's turn back at once.

    Returns:
        The releases; or ``RELEASE_EXPIRED``, saying what is missing, once the order's time is over; or the
        result of :func:`require_signed_checks`.

    Raises:
        UntrustedInputError, PolicyRefusal: what :func:`judge_bundle` found; ``TRANSITION_REFUSED``: the work
            was called off, or decided upon.
    """
    require_going(side.blobs, order.instance)
    require_undecided(side, order.instance)
    work = WorkFolder(side.blobs, order.instance)
    verdict = judge_bundle(side, order, admitted_envelope(side.blobs, order.envelope_sha256))
    note_policy_version(work, verdict.policy_version, is_accepted=verdict.is_accepted)
    policy = judging_policy(side, work)
    if (unproven := require_signed_checks(side, order, policy)) is not None:
        return unproven
    target = side.settings.registry_login_server
    bundle = ReleasedBundle.of(verdict.require(), str(verdict.manifest_sha256), target=target)
    tally = count_kept(side, bundle, policy, parse_time(order.now))
    is_late = parse_time(order.now) >= parse_time(order.until)
    if not tally.is_complete and not is_late:
        return Pending()
    releases = tuple(release.to_json() for release in tally.releases)
    work.create(RELEASES, ReleasesNote(releases=releases))
    if not tally.is_complete:
        return ending(Code.RELEASE_EXPIRED, f"until {order.until}, {'; '.join(tally.missing)}")
    return Cleared(releases=tuple({**one, **_posted(work, one["keyid"])} for one in releases))


def _posted(work: WorkFolder, keyid: str) -> dict[str, str]:
    """Who brought a release to this import; nothing of one that was brought to an earlier upload."""
    note = work.find(f"{_POSTED}{keyid}", PostNote)
    return {} if note is None else {"postedBy": note.by, "postedAt": note.at}


def bundle_of(side: TargetSide, journal: Journal) -> ReleasedBundle | None:
    """The bundle that an import is about; ``None`` as long as no trusted signature vouches for one."""
    admitted = journal.newest(State.ADMITTED)
    if admitted is None:
        return None
    return ReleasedBundle(
        manifest_sha256=admitted.facts["manifestSha256"],
        transfer_id=admitted.facts["transferId"],
        channel=admitted.facts["channel"],
        sequence=admitted.facts["sequence"],
        target=side.settings.registry_login_server,
    )


def keep_release(
    side: TargetSide, journal: Journal, release: VerifiedRelease, *, by: str, now: datetime
) -> None:
    """Keep a release for an import, one blob for each key; a repeat changes nothing.

    Args:
        side: the target's settings and ports.
        journal: the import's journal.
        release: the release, verified by :func:`airgap.release.verify_release`.
        by: the words for who brought it.
        now: the current time, aware.

    Raises:
        PolicyRefusal: ``TRANSITION_REFUSED``: the import is decided, and this is not what was released then.
    """
    ledger, sha256 = Ledger(side.blobs), release.statement.bundle.manifest_sha256
    new = {
        keyid: envelope
        for keyid, envelope in release.apart().items()
        if ledger.find_release(sha256, keyid) is None
    }
    if new and journal.state not in _OPEN:
        raise PolicyRefusal(Code.TRANSITION_REFUSED, f"the import has come to this: {journal.state}")
    work = WorkFolder(side.blobs, journal.about)
    for keyid, envelope in new.items():
        # One that is held decides nothing more: the upload that completes it is an import of its own.
        if journal.state is not State.HELD:
            work.create(f"{_POSTED}{keyid}", PostNote(by=by, at=format_time(now)))
        ledger.keep_release(sha256, keyid, envelope)


def count_kept(side: TargetSide, bundle: ReleasedBundle, policy: TrustPolicy, now: datetime) -> ReleaseTally:
    """Count the releases that were kept for a bundle, by a policy; raises as :func:`count_releases`."""
    ledger = Ledger(side.blobs)
    channel = policy.channels.get(bundle.channel)
    keyids = frozenset[str]() if channel is None else keyids_of(channel.release_roles)
    found = (ledger.find_release(bundle.manifest_sha256, keyid) for keyid in sorted(keyids))
    envelopes = (envelope for envelope in found if envelope is not None)
    return count_releases(envelopes, bundle=bundle, policy=policy, now=now)


def told_releases(side: TargetSide, journal: Journal, now: datetime) -> bodies.Releases | None:
    """The member ``release`` of an import: who has released it, what is missing, until when there is time.

    It is ``None`` where nobody must release it, or where it was decided otherwise: then the receipt tells who
    did.
    """
    promoted = journal.newest(State.PROMOTING)
    if promoted is not None:
        releases = promoted.facts.get("releases")
        return None if releases is None else _told(releases, [], None)
    bundle = bundle_of(side, journal)
    if bundle is None or journal.state not in _OPEN:
        return None
    awaited = journal.newest(State.AWAITING_RELEASE)
    until = None if awaited is None else awaited.facts["until"]
    try:
        policy = policy_in_force(side)
        if not needs_release(policy.channels.get(bundle.channel)):
            return None
        tally = count_kept(side, bundle, policy, now)
    except (PolicyRefusal, UntrustedInputError) as refusal:  # nothing counts by this policy
        return _told([], [str(refusal)], until)
    return _told([release.to_json() for release in tally.releases], list(tally.missing), until)


def _told(releases: list[Any], missing: list[str], until: str | None) -> bodies.Releases:
    told = tuple(read_body(one, bodies.Release) for one in releases)
    return bodies.Releases(releases=told, missing=tuple(missing), until=until)
