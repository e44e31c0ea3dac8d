"""The judging of a bundle manifest at the target: the whole of it, each time that it is asked for.

A decision goes stale: a key is revoked, a bundle expires, a number is taken while it waits. So admission and
acceptance ask the same questions, the second time with the policy and the clock of that moment.
"""

import itertools
from dataclasses import replace
from functools import partial

from airgap.carried_receipt import decision_name
from airgap.errors import Code, PolicyRefusal, UntrustedInputError
from airgap.fields import parse_time
from airgap.journal import parse_entry_name
from airgap.ledger import judge_previous, judge_sequence, judge_taken
from airgap.manifest import BundleManifest
from airgap.policy import TrustPolicy
from airgap.states import DECIDED, Kind, State
from airgap.verify import Verdict, verify_bundle
from function_app.journal.store import JournalStore
from function_app.ports import TargetSide
from function_app.storage.ledger import Ledger
from function_app.storage.paths import JOURNAL, RECEIPTS
from function_app.storage.policies import policy_in_force
from function_app.target.overriding import lifted_by_override
from function_app.target.wire import Judging, Upload

_INSTANCE_CHARACTERS = len("import") + 32
_MAX_INSTANCES = 50


def judge_bundle(side: TargetSide, order: Judging, envelope: bytes) -> Verdict:
    """The verdict on an uploaded envelope now: its signatures and rules, its path, replays, its predecessor.

    Not checked: the order of the channel's numbers, which is judged at the turn and the acceptance.
    """
    verdict = judge_envelope(side, order, envelope)
    if not verdict.is_accepted:
        return verdict
    manifest = verdict.require()
    try:
        _require_own_path(order, manifest)
        require_new(side, order, manifest, str(verdict.manifest_sha256))
    except (UntrustedInputError, PolicyRefusal) as refusal:
        return replace(verdict, code=refusal.code, detail=refusal.detail)
    return verdict


def judge_envelope(side: TargetSide, order: Judging, envelope: bytes) -> Verdict:
    """The verdict on an envelope by the policy in force now: signatures, and rules that no override lifts."""
    try:
        policy = policy_in_force(side)
    except (UntrustedInputError, PolicyRefusal) as refusal:
        return Verdict(
            code=refusal.code, detail=refusal.detail, manifest=None, manifest_sha256=None, signers=()
        )
    judge = partial(
        verify_bundle,
        envelope,
        policy=policy,
        now=parse_time(order.now),
        target=side.settings.registry_login_server,
    )
    verdict = judge()
    if verdict.manifest is not None:
        lifted = lifted_by_override(
            side,
            order,
            policy,
            channel=verdict.manifest.channel,
            manifest_sha256=str(verdict.manifest_sha256),
            code=verdict.code,
        )
        verdict = judge(lifted=lifted) if lifted else verdict
    return verdict


def _require_own_path(order: Upload, manifest: BundleManifest) -> None:
    if manifest.transfer_id != order.incoming:
        raise UntrustedInputError(
            Code.BLOB_MISMATCH, f"signed for transfer {manifest.transfer_id}, uploaded as {order.incoming}"
        )


def require_undecided(side: TargetSide, instance: str) -> None:
    """Refuse to go on once an orchestration's upload was decided: a late delivery must not begin anew.

    Raises:
        PolicyRefusal: ``TRANSITION_REFUSED``: the import was decided upon, or has ended.
    """
    journal = JournalStore(side.blobs, side.projection).read(Kind.IMPORTS, instance)
    if journal.state in DECIDED or (journal.entries and not journal.is_active):
        raise PolicyRefusal(Code.TRANSITION_REFUSED, f"{instance} is {journal.state}")


def require_new(side: TargetSide, order: Upload, manifest: BundleManifest, manifest_sha256: str) -> bool:
    """Refuse a manifest whose number another has taken; returns whether this very orchestration has it.

    The ledger is asked first. Where it knows nothing, decisions are asked for that stand on record
    elsewhere, so that removing an entry lets nothing in a second time.

    Raises:
        PolicyRefusal: ``REPLAYED``: the same manifest was decided upon before; ``SEQUENCE_REUSED``: another
            manifest has the number; ``HISTORY_FORKED``: it does not follow the manifest that has the number
            before.
    """
    ledger = Ledger(side.blobs)
    entry = ledger.find(manifest.channel, manifest.sequence)
    if entry is not None:
        judge_taken(entry, manifest_sha256=manifest_sha256, owner=order.instance)
        return True
    if _is_decided(side, order, manifest.transfer_id, manifest_sha256):
        raise PolicyRefusal(Code.REPLAYED, "its number was taken before; the ledger has lost the entry")
    judge_previous(manifest, ledger.find(manifest.channel, manifest.sequence - 1))  # 0 is nobody's
    return False


def missing_numbers(
    side: TargetSide, order: Judging, policy: TrustPolicy, manifest: BundleManifest, manifest_sha256: str
) -> tuple[int, ...]:
    """The numbers of the channel that are missing before this one; none once this import has taken it.

    Raises:
        PolicyRefusal: as :func:`require_new`; ``CHANNEL_UNKNOWN``: the channel is not in the policy; or as
            :func:`judge_sequence`.
    """
    if require_new(side, order, manifest, manifest_sha256):
        return ()  # the order was judged before it was taken
    channel = policy.channels.get(manifest.channel)
    if channel is None:
        raise PolicyRefusal(Code.CHANNEL_UNKNOWN, manifest.channel)
    ledger = Ledger(side.blobs)
    taken, voids = ledger.numbers(manifest.channel), ledger.voids(manifest.channel)
    try:
        return judge_sequence(manifest, channel, taken, voids)
    except PolicyRefusal as refusal:
        lifted = lifted_by_override(
            side,
            order,
            policy,
            channel=manifest.channel,
            manifest_sha256=manifest_sha256,
            code=refusal.code,
        )
        return judge_sequence(manifest, channel, taken, voids, lifted)  # refuses again what is not lifted


def _is_decided(side: TargetSide, order: Upload, transfer_id: str, manifest_sha256: str) -> bool:
    """Whether another orchestration took the number of this very manifest, by its receipt or its journal.

    Of an envelope that was uploaded again and again, the first 50 journals are asked.
    """
    receipt = decision_name(transfer_id, manifest_sha256)
    if side.blobs.stat(RECEIPTS, receipt) is not None:
        return True
    names = side.blobs.list_names(JOURNAL, f"{Kind.IMPORTS}/{order.instance[:_INSTANCE_CHARACTERS]}")
    entries = (entry for name in names if (entry := parse_entry_name(name)) is not None)
    instances = (instance for instance, _ in itertools.groupby(about for _, about, _ in entries))
    journals = JournalStore(side.blobs, side.projection)
    return any(
        journals.read(Kind.IMPORTS, instance).newest(State.VERIFIED) is not None
        for instance in itertools.islice(instances, _MAX_INSTANCES)
        if instance != order.instance
    )
