"""The preflight: each service is asked once, and :mod:`airgap.readiness` judges what it answers.

Nothing is changed by it, and nothing of a bundle is read. The questions are asked side by side; a service
that has not answered in time fails its check.
"""

from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import suppress
from datetime import datetime, timedelta
from functools import partial
from typing import Any
from urllib.parse import urlsplit

from cryptography.exceptions import InvalidSignature

from airgap.checks import ScanCheck
from airgap.errors import AirgapError, Code, ServiceError
from airgap.pipeline_sas import ends_at, period
from airgap.policy import TrustPolicy
from airgap.readiness import (
    Check,
    Need,
    judge_access,
    judge_chain,
    judge_container,
    judge_events,
    judge_image_import,
    judge_own_keys,
    judge_pipeline,
    judge_poison,
    judge_policy,
    judge_registry,
    judge_renewed_access,
    judge_settings,
    judge_signed_checks,
    judge_signing,
    judge_staging,
    judge_table,
    judge_tickets,
    unanswered,
)
from airgap.signatures import UnverifiedSignatureError
from airgap.states import Kind
from function_app.ports import EventReceiver, Ports, RowFilter, TargetSide
from function_app.settings import Role, TargetSettings
from function_app.storage import paths
from function_app.storage.event_notes import longest_trouble
from function_app.storage.policies import policy_chain, require_never_newer

WAIT_S = 45
"""For all answers together; the front of Azure Functions cuts a request after 230 seconds."""

CONTAINERS: Mapping[Role, Mapping[str, Need]] = {
    "source": {
        paths.TRANSFER: "write",
        paths.LEDGER: "add",
        paths.WORK: "write",
        paths.JOURNAL: "add",
        paths.RECEIPTS: "read",
        paths.POLICY: "read",
    },
    "target": {
        paths.INCOMING: "write",
        paths.STAGING: "write",
        paths.TRANSFER: "write",
        paths.QUARANTINE: "write",
        paths.RECEIPTS: "add",
        paths.LEDGER: "add",
        paths.WORK: "write",
        paths.JOURNAL: "add",
        paths.CUSTODY: "add",
        paths.POLICY: "read",
    },
}
"""What each side needs to do in each container."""

_POLICY = "TRUST_POLICY"
_NOTES = 50
"""Of events that are still to be told, so many are looked at."""
_NOBODY = "airgap-preflight"
"""A repository that need not be there: to be told so, the app must be let in."""

_NOTHING = f"sha256:{'0' * 64}"
"""A digest that nothing has."""

_PROBE = b"preflight of acr-airgap-transfer: this signature says nothing\n"
"""What the keys sign: never the encoding that DSSE signs, which begins with ``DSSEv1``."""


def check_side(
    role: Role, ports: Ports | None, faults: Mapping[str, str], *, now: datetime, wait_s: int = WAIT_S
) -> tuple[Check, ...]:
    """The results of all checks of a side, in a fixed order.

    Args:
        role: the side.
        ports: the side's ports; ``None`` where the settings are too faulty for them.
        faults: what is wrong with each faulty setting, by its name.
        now: the current time, aware, for what expires.
        wait_s: the seconds for which answers are waited for.
    """
    others = {name: why for name, why in faults.items() if name != _POLICY}
    first = judge_settings(others)
    if ports is None:
        return (first,)
    policy = None if _POLICY in faults else ports.settings.trust_policy
    questions = _questions(role, ports, policy, now)
    executor = ThreadPoolExecutor(max_workers=8, thread_name_prefix="preflight")
    asked = {name: executor.submit(question) for name, question in questions.items()}
    answered, _ = wait(asked.values(), timeout=wait_s)
    executor.shutdown(wait=False, cancel_futures=True)  # who is late ends by timeouts of its own
    checks = [first] if policy else [first, judge_policy(None, faults.get(_POLICY, ""), now=now)]
    for name, answer in asked.items():
        checks += answer.result() if answer in answered else [unanswered(name, wait_s)]
    return tuple(checks)


def _questions(
    role: Role, ports: Ports, policy: TrustPolicy | None, now: datetime
) -> dict[str, Callable[[], Iterable[Check]]]:
    """What is asked, by the name of the check that it is asked for."""
    of_policy = {} if policy is None else {"policy-chain": partial(_ask_policy, ports, policy, now)}
    return {
        **of_policy,
        "signing-keys": partial(_ask_keys, role, ports, policy, now),
        **{
            f"container-{name}": partial(_ask_container, ports, name, need)
            for name, need in CONTAINERS[role].items()
        },
        "journal-table": partial(_ask_table, role, ports),
        "tickets": partial(_ask_tickets, ports, now),
        "poison": partial(_ask_poison, ports),
        **({} if ports.events is None else {"events": partial(_ask_events, ports, ports.events, now)}),
        "registry": partial(_ask_registry, ports),
        "pipeline": partial(_ask_pipeline, role, ports, now),
        **_staged_questions(ports),
    }


def _ask_policy(ports: Ports, pinned: TrustPolicy, now: datetime) -> list[Check]:
    """What is in force, as far as it can be said; the pinned one where nothing more can."""
    chain, error = None, None
    try:
        chain = policy_chain(ports)
        require_never_newer(ports, chain)
    except AirgapError as found:
        error = found
    in_force = pinned if chain is None else chain.last
    checks = [judge_policy(in_force, "", now=now), judge_chain(chain, error)]
    if isinstance(ports.settings, TargetSettings):
        services = [check.name for check in ports.settings.checks if not isinstance(check, ScanCheck)]
        checks.append(judge_signed_checks(in_force, ports.settings.registry_login_server, services))
    return checks


def _ask_keys(role: Role, ports: Ports, policy: TrustPolicy | None, now: datetime) -> list[Check]:
    try:
        signers = ports.signing.signers()
        for signer in signers:
            signer.public_key.verify_signature(signer.sign(_PROBE), _PROBE)
    except AirgapError as error:
        return [judge_signing((), error)]
    except (UnverifiedSignatureError, InvalidSignature):
        broken = ServiceError(Code.SIGNING_FAILED, "a key's signature is not verified by its public half")
        return [judge_signing((), broken)]
    keyids = [signer.public_key.keyid for signer in signers]
    checks = [judge_signing(keyids, None)]
    if policy is not None:
        with suppress(AirgapError):  # which is told by the check of the chain
            policy = policy_chain(ports).last
        checks.append(judge_own_keys(policy, role, keyids, ports.settings.registry_login_server, now=now))
    return checks


def _ask_container(ports: Ports, container: str, need: Need) -> list[Check]:
    def ask() -> None:
        ports.blobs.list_page(container, "", marker=None, limit=1)
        if need != "read":
            ports.blobs.require_write(container)

    return [judge_container(container, need, _error_of(ask))]


def _ask_table(role: Role, ports: Ports) -> list[Check]:
    kind = Kind.TRANSFERS if role == "source" else Kind.IMPORTS
    return [judge_table(_error_of(lambda: ports.projection.page(kind, where=RowFilter(), limit=1)))]


def _ask_tickets(ports: Ports, now: datetime) -> list[Check]:
    """Nothing is signed: a key is asked for, and no blob named."""
    until = now + timedelta(hours=1)
    error = _error_of(lambda: ports.tickets.sign(paths.INCOMING, {}, valid_from=now, expires_at=until))
    return [judge_tickets(error)]


def _ask_poison(ports: Ports) -> list[Check]:
    # https://ACCOUNT.queue.SUFFIX in every cloud; a gateway that serves accounts by path names it there.
    url = urlsplit(ports.settings.queue_service_url)
    account = url.path.strip("/") or (url.hostname or "").partition(".")[0]
    try:
        return [judge_poison(account, ports.poison.count(), None)]
    except AirgapError as error:
        return [judge_poison(account, None, error)]


def _ask_events(ports: Ports, receiver: EventReceiver, now: datetime) -> list[Check]:
    """Nothing is sent: what became of the last tries is on record."""
    error = _error_of(receiver.require_ready)
    found = None if error else longest_trouble(ports.blobs, at_most=_NOTES)
    late = None
    if found is not None and found[1].is_long(now):
        name, trouble = found
        late = f"{name} was not taken since {trouble.since}, {trouble.tries} tries: {trouble.why}"
    return [judge_events(late, error)]


def _ask_registry(ports: Ports) -> list[Check]:
    error = _error_of(lambda: ports.registry.resolve(_NOBODY, "none"))
    return [judge_registry(ports.settings.registry_login_server, error)]


def _staged_questions(ports: Ports) -> dict[str, Callable[[], Iterable[Check]]]:
    """What is asked besides where imports are staged."""
    if not isinstance(ports, TargetSide) or ports.staged is None or ports.settings.staging_registry is None:
        return {}
    staging = ports.settings.staging_registry.login_server
    real = ports.settings.registry_login_server
    registry, imports = ports.staged.registry, ports.staged.imports

    def ask_staging() -> list[Check]:
        error = _error_of(lambda: next(iter(registry.repositories()), None))
        return [judge_staging(staging, error or _error_of(lambda: registry.delete_repository(_NOBODY)))]

    def ask_imports() -> list[Check]:
        """Whoever is told that the image is not there is let in."""
        error = _error_of(lambda: imports.begin(_NOBODY, _NOTHING, ()))
        is_let_in = error is not None and error.code is Code.IMAGE_IMPORT_FAILED
        return [judge_image_import(real, None if is_let_in else error)]

    return {"staging-registry": ask_staging, "image-import": ask_imports}


def pipeline_checks(role: Role, ports: Ports) -> tuple[Mapping[str, Any] | None, tuple[Check, ...]]:
    """The properties that ARM tells of this side's pipeline, and all checks of them that need no clock.

    Raises:
        ServiceError: ARM could not be asked.
    """
    settings = ports.settings
    found = ports.pipelines.get_pipeline(settings.pipeline_kind, settings.pipeline)
    wanted = f"{settings.blob_service_url}/{paths.TRANSFER}"
    return found, judge_pipeline(role, settings.pipeline, found, None, container_url=wanted)


def require_fit_pipeline(role: Role, ports: Ports) -> None:
    """Refuse to go on unless the pipeline is made, is at the container ``transfer``, and has fitting options.

    At the target it must start nothing itself, too. Not checked: what its identity may do, which lets it
    import nothing else; ``infra/check`` does (``docs/adr/0021-rights-of-the-pipelines-identity.md``).

    Raises:
        ServiceError: ``PIPELINE_UNFIT``: it is not, as the detail says.
    """
    for check in pipeline_checks(role, ports)[1]:
        if not check.is_ok:
            name = ports.settings.pipeline
            raise ServiceError(Code.PIPELINE_UNFIT, f"{name}, {check.id}: {check.detail}")


def order_checks(role: Role, ports: Ports, *, now: datetime) -> tuple[Check, ...]:
    """The checks of this side's pipeline by which an order is refused at once.

    A SAS that ends soon is no reason to refuse an order; one that has ended is. A pipeline that is being
    changed at this moment makes it wait: the result of the change decides.

    Raises:
        ServiceError: ARM could not be asked; ``PIPELINE_UNFIT``: it is being made or changed.
    """
    found, checks = pipeline_checks(role, ports)
    for check in checks:
        if check.is_passing:
            raise ServiceError(Code.PIPELINE_UNFIT, f"{ports.settings.pipeline}, {check.id}: {check.detail}")
    if found is None or not _has_no_sas(ports, now):
        return checks
    return (*checks, _access_check(role, ports, found, now))


def _has_no_sas(ports: Ports, now: datetime) -> bool:
    """Whether the SAS of the pipeline is known to have ended, or to have been withdrawn.

    What the vault does not tell at this moment refuses no order: the pipeline itself asks it later.
    """
    if ports.pipeline_sas is None:
        ends = ports.settings.pipeline_sas_expires_at
        return ends is not None and ends <= now
    try:
        newest = ports.pipeline_sas.newest()
    except AirgapError:
        return False
    if newest is None or not newest.is_enabled:
        return True
    ends = ends_at(newest, deployed=ports.settings.pipeline_sas_expires_at)
    return ends is not None and ends <= now


def _access_check(role: Role, ports: Ports, found: Mapping[str, Any], now: datetime) -> Check:
    """The check of how the pipeline gets at its container, of which ARM says ``found``.

    Where the app renews the SAS, it is asked for a key to sign with, too, before the renewal needs one.
    """
    settings = ports.settings
    if ports.pipeline_sas is None or settings.pipeline_sas_secret is None:
        return judge_access(role, found, settings.pipeline_sas_expires_at, now=now)
    newest, error = None, None
    try:
        newest = ports.pipeline_sas.newest()
        if newest is not None and newest.is_enabled:  # else nothing will be renewed
            valid_from, expires_at = period(now)
            ports.pipeline_sas.require_key(valid_from=valid_from, expires_at=expires_at)
    except AirgapError as refusal:
        error = refusal
    return judge_renewed_access(
        role,
        found,
        newest,
        error,
        sas_expires_at=ends_at(newest, deployed=settings.pipeline_sas_expires_at),
        secret=settings.pipeline_sas_secret,
        now=now,
    )


def _ask_pipeline(role: Role, ports: Ports, now: datetime) -> Iterable[Check]:
    settings = ports.settings
    try:
        found, checks = pipeline_checks(role, ports)
    except AirgapError as error:
        return judge_pipeline(role, settings.pipeline, None, error, container_url="")
    if found is None:
        return checks
    return (*checks, _access_check(role, ports, found, now))


def _error_of(ask: Callable[[], object]) -> AirgapError | None:
    try:
        ask()
    except AirgapError as error:
        return error
    return None
