"""Overrides at the target: rules of time and order are lifted for one bundle manifest, on record."""

import logging
from collections.abc import Collection

from airgap.errors import Code, PolicyRefusal, UntrustedInputError
from airgap.fields import parse_time
from airgap.override import LIFTABLE, MAX_OVERRIDE_BYTES, override_name, verify_override
from airgap.policy import TrustPolicy
from airgap.receipt import OverrideUse
from function_app.ports import TargetSide
from function_app.storage.ledger import Ledger
from function_app.storage.policies import read_carried
from function_app.storage.work_folder import WorkFolder
from function_app.target.wire import Judging, OverrideNote

OVERRIDE = "override"
_LOG = logging.getLogger(__name__)


def lifted_by_override(
    side: TargetSide,
    order: Judging,
    policy: TrustPolicy,
    *,
    channel: str,
    manifest_sha256: str,
    code: Code | None,
) -> Collection[Code]:
    """The codes that an override lifts for a manifest refused with ``code``; none unless that is one of them.

    Its use is noted for the receipt, and the override kept in the ledger, before anybody goes by it. An
    override that does not count is told in the log, and lifts nothing.

    Raises:
        ServiceError: the storage could not be asked.
    """
    if code not in LIFTABLE:
        return frozenset()
    try:
        raw = read_carried(side.blobs, override_name(manifest_sha256), max_bytes=MAX_OVERRIDE_BYTES)
        if raw is None:
            return frozenset()
        override, use = verify_override(
            raw,
            manifest_sha256=manifest_sha256,
            channel=channel,
            target=side.settings.registry_login_server,
            policy=policy,
            now=parse_time(order.now),
        )
    except (UntrustedInputError, PolicyRefusal) as refusal:
        _LOG.warning("the override for %s does not count: %s", manifest_sha256, refusal)
        return frozenset()
    if code not in override.lifts:
        return frozenset()
    Ledger(side.blobs).keep_override(manifest_sha256, raw)
    WorkFolder(side.blobs, order.instance).put(OVERRIDE, OverrideNote(use=use.to_json()))
    return override.lifts


def noted_override(work: WorkFolder) -> OverrideUse | None:
    """The override by which the bundle of a work folder passed; ``None`` if it passed without one."""
    note = work.find(OVERRIDE, OverrideNote)
    return None if note is None else OverrideUse.from_json(note.use)
