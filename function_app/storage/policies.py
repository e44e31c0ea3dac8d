"""The trust policy in force on a side: the pinned one, or the last that follows it in the storage.

The setting ``TRUST_POLICY`` pins what the chain starts from; the versions after it lie in the container
``policy`` and prove themselves (:mod:`airgap.policy_chain`). Each policy that was in force is recorded in the
ledger, where nothing is ever changed, so that none that is older is used again.
"""

import re
from dataclasses import dataclass, field
from functools import lru_cache

from airgap.errors import Code, PolicyRefusal, ServiceError
from airgap.policy import TrustPolicy
from airgap.policy_chain import (
    MAX_RECORD_BYTES,
    MAX_VERSION_BYTES,
    Chain,
    UsedPolicy,
    follow,
    require_newest,
    version_name,
)
from function_app.ports import BlobStore, Ports
from function_app.storage.paths import LEDGER, POLICY

_RECORDS = "policies/"
_RECORD = re.compile(rf"{_RECORDS}[0-9]{{8}}\.json")
"""With sixteen digits it is a number of a channel that somebody has called ``policies``."""


@dataclass(slots=True)
class _Known:
    """What this process has seen of one side's storage, of which nothing can change any more."""

    chain: Chain | None = None
    """That was in force last."""
    used: dict[str, UsedPolicy] = field(default_factory=dict)
    """By the name of the record."""


@lru_cache(maxsize=8)
def _known(_blobs: BlobStore, _pinned_sha256: str) -> _Known:
    return _Known()


def policy_chain(side: Ports) -> Chain:
    """The pinned policy and every version that follows it, as the storage has them now; changes nothing.

    What this process has had in force it does not read again: usually this costs one request.

    Raises:
        UntrustedInputError: ``NEWER_FORMAT``: the next version is signed as it must be, by a newer tool.
        ServiceError: the storage could not be asked, so that nobody knows which policy is in force.
    """
    pinned = side.settings.trust_policy
    known = _known(side.blobs, pinned.sha256)

    def find(version: int) -> bytes | None:
        return read_carried(side.blobs, version_name(version), max_bytes=MAX_VERSION_BYTES)

    return follow(known.chain or Chain(links=(pinned,)), find)


def read_carried(blobs: BlobStore, name: str, *, max_bytes: int) -> bytes | None:
    """Read a blob of the container ``policy``, to which others write; ``None`` if there is none.

    Raises:
        PolicyRefusal: ``POLICY_NOT_NEXT``: it is there, and the storage never gives it: it was archived, say.
            Whoever may write there stops nothing by that.
        UntrustedInputError, ServiceError: as the port's ``read`` raises them.
    """
    try:
        return blobs.read(POLICY, name, max_bytes=max_bytes)
    except ServiceError as error:
        if error.code is not Code.CONFLICT:
            raise
        raise PolicyRefusal(Code.POLICY_NOT_NEXT, f"{POLICY}/{name} cannot be read: {error.detail}") from None


def require_never_newer(side: Ports, chain: Chain) -> None:
    """Refuse a chain that is older than, or forks from, a policy that ever was in force here.

    Raises:
        PolicyRefusal: ``POLICY_ROLLED_BACK``: a higher version was in force; ``POLICY_FORKED``: another
            policy of a number in the chain was; ``POLICY_MALFORMED``: somebody wrote a record that is none.
    """
    used = _used(side)
    require_newest(chain, {one.version: one.sha256 for one in used})


def policy_in_force(side: Ports) -> TrustPolicy:
    """The trust policy by which this side judges now, recorded as in force before anybody uses it.

    Raises:
        PolicyRefusal, UntrustedInputError: as :func:`require_never_newer` and :func:`policy_chain`.
        ServiceError: as :func:`policy_chain`.
    """
    chain = policy_chain(side)
    require_never_newer(side, chain)
    record = UsedPolicy(version=chain.last.version, sha256=chain.last.sha256)
    name = f"{_RECORDS}{record.version:08d}.json"
    known = _known(side.blobs, chain.pinned.sha256)
    if name not in known.used:
        side.blobs.create(LEDGER, name, record.to_bytes())
        require_never_newer(side, chain)  # another process may have been faster, with another policy
    known.chain = chain
    return chain.last


def _used(side: Ports) -> list[UsedPolicy]:
    """Every record there is; one that was read before is not read again, since none ever changes."""
    known = _known(side.blobs, side.settings.trust_policy.sha256).used
    for name in side.blobs.list_names(LEDGER, _RECORDS):
        if _RECORD.fullmatch(name) and name not in known:
            raw = side.blobs.read(LEDGER, name, max_bytes=MAX_RECORD_BYTES)
            if raw is None:
                raise ServiceError(Code.SERVICE_UNEXPECTED, f"{LEDGER}/{name} came and went")
            known[name] = UsedPolicy.from_bytes(raw)
    return [*known.values()]
