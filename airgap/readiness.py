"""Whether a side of the deployment is ready to work: named checks, each with its remedy.

The facts are gathered elsewhere (``function_app/preflight.py``); here is only what they mean. A fact that
could not be had is the error that came instead, and then the check fails: deny unless proven.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Literal
from urllib.parse import urlsplit

from airgap.errors import AirgapError, Code, PolicyRefusal, ServiceError
from airgap.fields import format_time
from airgap.pipeline_sas import SasVersion, is_overdue
from airgap.policy import TrustPolicy, keyids_of
from airgap.policy_chain import Chain, version_name

Side = Literal["source", "target"]
Need = Literal["read", "add", "write"]
"""To read, to read and add what is never changed, or to read, write and delete."""

_ROLES: Mapping[Need, str] = {
    "read": "Storage Blob Data Reader",
    "add": "blobAppender, or Storage Blob Data Contributor where roles are built in,",
    "write": "blobWriter, or Storage Blob Data Contributor where roles are built in,",
}
_MAY: Mapping[Need, str] = {"read": "read", "add": "read and added to", "write": "read and written"}
_OPTIONS: Mapping[Side, str] = {"source": "OverwriteBlobs", "target": "OverwriteTags"}
"""What a run of each side's pipeline cannot do without, once something lies there already."""
_UNFIT_OPTIONS: Mapping[Side, tuple[str, str]] = {
    "source": ("ContinueOnErrors", "a run leaves out what it cannot export, and says succeeded"),
    "target": ("DeleteSourceBlobOnSuccess", "the blob is gone before it is proven what was imported"),
}
"""What a pipeline must not have, and why: an export's answer does not list what went into the blob."""
POISON_QUEUE = "webjobs-blobtrigger-poison"
"""What the host calls the queue of the blobs' account in which it puts aside what a blob trigger has
failed on five times, whether the trigger polls or is told by Event Grid.

HostQueueNames and SharedBlobQueueListenerFactory in https://github.com/Azure/azure-sdk-for-net,
Microsoft.Azure.WebJobs.Extensions.Storage.Blobs.
"""
_FINAL_FAILURES = ("Failed", "Canceled")
SAS_LEFT = timedelta(days=14)
"""How long before its end a SAS is told of: a new one may have to be asked for."""
_DEPLOY = "Deploy the side's template again (infra/README.md)"
_LATER = "a role that was given just now takes effect within ten minutes"
_ACCESS = "pipeline-access"
_RENEWAL = (
    "See in the app's log what follows `the SAS of the pipeline was not renewed`; the identity of "
    "PIPELINE_SAS_CLIENT_ID needs its role on the container transfer, Storage Blob Delegator on the account, "
    "and secretRenewer, or Key Vault Secrets Officer where roles are built in, on the secret. "
    f"Deploying again gives all three; {_LATER}."
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """The result of checking one thing that must be right, and what to do if it is not.

    Args:
        id: stable, lower-case words with hyphens.
        is_ok: whether it was seen to be right.
        detail: what was seen, in words; no secret.
        remedy: what to do; empty if it is right.
        is_passing: whether what was seen ends by itself, so that looking again may show something else.
    """

    id: str
    is_ok: bool
    detail: str
    remedy: str = ""
    is_passing: bool = False

    def to_json(self) -> dict[str, Any]:
        """The check as an element of ``checks`` in an answer of the API."""
        return {"id": self.id, "ok": self.is_ok, "detail": self.detail, "remedy": self.remedy}


_BY_IDENTITY = Check(id=_ACCESS, is_ok=True, detail="it comes to the storage by its identity")


def unanswered(name: str, seconds: int) -> Check:
    """A failed check of that name, because its fact did not come within ``seconds``."""
    return Check(
        id=name,
        is_ok=False,
        detail=f"no answer within {seconds} seconds",
        remedy="Check that the app can reach the service: DNS, firewall, private endpoint. Then ask again.",
    )


def judge_settings(faults: Mapping[str, str]) -> Check:
    """Judge the settings by what is wrong with each faulty one; the trust policy's has its own check."""
    if not faults:
        return Check(id="settings", is_ok=True, detail="all settings can be read")
    told = "; ".join(f"{name}: {why}" for name, why in sorted(faults.items()))
    return Check(id="settings", is_ok=False, detail=told, remedy=f"{_DEPLOY}, or correct what is named.")


def judge_policy(policy: TrustPolicy | None, why: str, *, now: datetime) -> Check:
    """Judge the trust policy: is it there, valid and in force? ``why`` says it if it was not readable."""
    name = "trust-policy"
    if policy is None:
        return Check(
            id=name,
            is_ok=False,
            detail=why,
            remedy="Hold the key ceremony (docs/key-ceremony.md), then deploy with --policy FILE.",
        )
    try:
        policy.require_in_force(now)
    except PolicyRefusal as refusal:
        return Check(
            id=name,
            is_ok=False,
            detail=refusal.detail,
            remedy="Sign a newer policy and deploy it on both sides.",
        )
    return Check(
        id=name,
        is_ok=True,
        detail=f"version {policy.version}, until {format_time(policy.expires_at)}, "
        f"channels: {', '.join(sorted(policy.channels))}",
    )


def judge_chain(chain: Chain | None, error: AirgapError | None) -> Check:
    """Judge the versions after the pinned policy: all that are there must be used, and none newer was before.

    Args:
        chain: the chain as far as it was found; ``None`` if it could not be had.
        error: what the storage, the ledger's records or the next version had against it.
    """
    name = "policy-chain"
    if chain is None or error is not None:
        remedies = {
            Code.NOT_FOUND: f"{_DEPLOY}: the container policy is missing.",
            Code.SERVICE_DENIED: f"Give the app's identity {_ROLES['read']} on the container policy; "
            f"{_LATER}.",
        }
        return _failed(name, error or ServiceError(Code.SERVICE_UNEXPECTED), remedies)
    told = f"pinned version {chain.pinned.version}, in force version {chain.last.version}"
    if chain.stop is None:
        return Check(id=name, is_ok=True, detail=told)
    stop = chain.stop
    return Check(
        id=name,
        is_ok=False,
        detail=f"{told}; version {stop.version} is there and not used: {stop.code.name}: {stop.detail}",
        remedy=f"Look at it with `offline-mover policy show`; delete {version_name(stop.version)} from the "
        "container policy if it is not yours, and push the right one.",
    )


def judge_signing(keyids: Collection[str], error: AirgapError | None) -> Check:
    """Judge the signing keys: has each just signed something, and was that signature verified?"""
    if error is None:
        return Check(id="signing-keys", is_ok=True, detail=f"sign: {', '.join(sorted(keyids))}")
    remedies = {
        Code.SERVICE_DENIED: f"Give the app's identity keySigner, or Key Vault Crypto User where roles are "
        f"built in, on the key; {_LATER}.",
        Code.NOT_FOUND: f"{_DEPLOY}: the vault has no key of this name.",
    }
    return _failed("signing-keys", error, remedies)


def judge_own_keys(
    policy: TrustPolicy, side: Side, keyids: Collection[str], registry: str, *, now: datetime
) -> Check:
    """Judge whether what this side signs counts: its keys must be in roles of the channels it serves.

    At the source one channel is enough, since others may be other sources'; at the target each channel that
    serves ``registry`` must take its receipts.
    """
    name = "trust-policy-keys"
    valid = policy.keys_in_force(now).keys() & set(keyids)
    concerned = {
        channel: keyids_of(rules.bundle_roles if side == "source" else rules.receipt_roles)
        for channel, rules in policy.channels.items()
        if side == "source" or registry in rules.audience
    }
    counted = sorted(channel for channel, named in concerned.items() if valid & named)
    if counted and (side == "source" or len(counted) == len(concerned)):
        return Check(id=name, is_ok=True, detail=f"the app's keys count in: {', '.join(counted)}")
    if not concerned:
        return Check(
            id=name,
            is_ok=False,
            detail=f"no channel of the trust policy serves {registry}",
            remedy="Name this registry in the `audience` of a channel; deploy the policy on both sides.",
        )
    missing = ", ".join(sorted(concerned.keys() - set(counted)))
    kind = "bundleRoles" if side == "source" else "receiptRoles"
    return Check(
        id=name,
        is_ok=False,
        detail=f"none of the app's keys ({', '.join(sorted(keyids))}) counts in {kind} of: {missing}",
        remedy="Put the public half of this side's signing key into the policy (docs/key-ceremony.md).",
    )


def judge_signed_checks(policy: TrustPolicy, registry: str, asked: Collection[str]) -> Check:
    """Judge whether every check that the policy wants signed is asked, and is a service that can sign.

    Args:
        policy: the one in force.
        registry: the target's; only channels that serve it count.
        asked: names of the checks among the settings that are services, and so can sign.
    """
    name = "signed-checks"
    wanted = {
        check: channel
        for channel, rules in sorted(policy.channels.items())
        if registry in rules.audience
        for check in rules.check_roles
    }
    missing = sorted(wanted.keys() - set(asked))
    if not missing:
        told = f"asked: {', '.join(sorted(wanted))}" if wanted else "none has to sign"
        return Check(id=name, is_ok=True, detail=told)
    return Check(
        id=name,
        is_ok=False,
        detail=f"the channel {wanted[missing[0]]} wants signed answers of {', '.join(missing)}",
        remedy="Name a service for each in CHECKS (docs/operations.md, Have bundles checked), or take it out "
        "of the trust policy's checkRoles: until then nothing of the channel is imported.",
    )


def judge_container(container: str, need: Need, error: AirgapError | None) -> Check:
    """Judge a container: is it there, and open to the app as far as the app needs it?"""
    name = f"container-{container}"
    if error is None:
        return Check(id=name, is_ok=True, detail=f"there, and can be {_MAY[need]}")
    remedies = {
        Code.NOT_FOUND: f"{_DEPLOY}: the container {container} is missing.",
        Code.SERVICE_DENIED: f"Give the app's identity {_ROLES[need]} on this container; {_LATER}.",
    }
    return _failed(name, error, remedies)


def judge_table(error: AirgapError | None) -> Check:
    """Judge the table from which the lists of transfers and imports are read: could it be read?"""
    if error is None:
        return Check(id="journal-table", is_ok=True, detail="there, and can be read")
    remedies = {
        Code.NOT_FOUND: f"{_DEPLOY}: the table journal is missing.",
        Code.SERVICE_DENIED: f"Give the app's identity Storage Table Data Contributor on it; {_LATER}.",
    }
    return _failed("journal-table", error, remedies)


def judge_tickets(error: AirgapError | None) -> Check:
    """Judge whether tickets can be signed: the app's identity got a key for that from the storage.

    Not checked: whether a ticket signed by that key is accepted.
    """
    if error is None:
        return Check(id="tickets", is_ok=True, detail="the identity that signs them gets a key")
    remedies = {
        Code.SETTING_INVALID: f"{_DEPLOY}: it makes the identity, and names it in TICKET_CLIENT_ID.",
        Code.SERVICE_DENIED: "Give the app's identity for tickets (TICKET_CLIENT_ID) the role "
        f"Storage Blob Delegator on the account; {_LATER}.",
    }
    return _failed("tickets", error, remedies)


def judge_poison(account: str, count: int | None, error: AirgapError | None) -> Check:
    """Judge the poison queue: it must be empty, or else the host has given up an event.

    Args:
        account: the name of the storage account that has the queue.
        count: about how many messages are in it; ``None`` if that could not be had.
        error: the error that came instead.
    """
    name = "poison"
    if count is None or error is not None:
        remedies = {
            Code.NOT_FOUND: f"{_DEPLOY}: it makes the queue.",
            Code.SERVICE_DENIED: f"Give the app's identity Storage Queue Data Reader on the queue; {_LATER}.",
        }
        return _failed(name, error or ServiceError(Code.SERVICE_UNEXPECTED), remedies)
    if not count:
        return Check(id=name, is_ok=True, detail=f"{POISON_QUEUE} is empty")
    return Check(
        id=name,
        is_ok=False,
        detail=f"{POISON_QUEUE} holds {count}: what a blob trigger has failed on five times",
        remedy="See in the app's log why it failed; what it missed the reconciler starts. Empty the queue: "
        f"az storage message clear --auth-mode login --queue-name {POISON_QUEUE} --account-name {account}",
    )


def judge_events(late: str | None, error: AirgapError | None) -> Check:
    """The receiver of events: they can be signed, and the last ones were taken.

    Args:
        late: which one has not been taken for long, and why.
        error: why none can be signed.
    """
    name = "events"
    if error is not None:
        remedies = {
            Code.SERVICE_DENIED: "Give the app's identity Key Vault Secrets User on the secret that "
            f"EVENTS_WEBHOOK_SECRET names; {_LATER}.",
            Code.NOT_FOUND: "Put the secret that EVENTS_WEBHOOK_SECRET names into the vault.",
            Code.SIGNING_FAILED: "Put whsec_ and the base64 of 24 to 64 random bytes into the secret.",
        }
        return _failed(name, error, remedies)
    if late is None:
        return Check(id=name, is_ok=True, detail="can be signed, and none has been refused for long")
    return Check(
        id=name,
        is_ok=False,
        detail=late,
        remedy="See at the receiver why it does not take it. It is sent again every 15 minutes until it "
        "does; transfers and imports go on.",
    )


def judge_registry(registry: str, error: AirgapError | None) -> Check:
    """Judge the registry's data plane: does it answer, and let the app read?"""
    if error is None:
        return Check(id="registry", is_ok=True, detail=f"{registry} answers")
    remedies = {
        Code.SERVICE_DENIED: f"Give the app's identity AcrPull on the registry; {_LATER}. In another cloud "
        "than public Azure check REGISTRY_SCOPE as well.",
    }
    return _failed("registry", error, remedies)


def judge_staging(registry: str, error: AirgapError | None) -> Check:
    """Judge the staging registry: does it answer, and let the app list and delete?"""
    name = "staging-registry"
    if error is None:
        return Check(id=name, is_ok=True, detail=f"{registry} can be listed and emptied")
    remedies = {
        Code.SERVICE_DENIED: f"Give the app's identity AcrPull and AcrDelete on it; {_LATER}.",
    }
    return _failed(name, error, remedies)


def judge_image_import(registry: str, error: AirgapError | None) -> Check:
    """Judge the import from the staging registry into the real one: does the service allow it to the app?"""
    name = "image-import"
    if error is None:
        return Check(id=name, is_ok=True, detail=f"{registry} takes what is brought over")
    remedies = {
        Code.SERVICE_DENIED: "Give the app's identity imageImporter on the registry, or Container Registry "
        "Data Importer and Data Reader where roles are built in, and importSource, or Reader, on the staging "
        f"registry; {_LATER}.",
    }
    return _failed(name, error, remedies)


def judge_pipeline(
    side: Side,
    name: str,
    properties: Mapping[str, Any] | None,
    error: AirgapError | None,
    *,
    container_url: str,
) -> tuple[Check, ...]:
    """Judge the pipeline: is it made, for the right container, with options that never let it run by itself?

    Not checked: how it gets access to its container; see :func:`judge_access`.
    """
    if error is not None:
        remedies = {
            Code.SERVICE_DENIED: "Give the app's identity pipelineRunner, or Container Registry Transfer "
            f"Pipeline Contributor where roles are built in, on the registry; {_LATER}.",
        }
        return (_failed("pipeline", error, remedies),)
    if properties is None:
        remedy = f"{_DEPLOY}: the registry has no pipeline of this name."
        return (Check(id="pipeline", is_ok=False, detail=f"{name} is not there", remedy=remedy),)
    checks = [
        _judge_state(name, properties.get("provisioningState")),
        _judge_container_url(side, properties, container_url),
        _judge_options(side, properties),
    ]
    if side == "target":
        checks.append(_judge_trigger(properties))
    return tuple(checks)


def _judge_state(name: str, state: object) -> Check:
    """Whether the pipeline is made; what is no final state of ARM's passes.

    https://learn.microsoft.com/azure/azure-resource-manager/management/async-operations
    """
    if state == "Succeeded":
        return Check(id="pipeline", is_ok=True, detail=f"{name}: {state}")
    is_passing = state not in _FINAL_FAILURES
    return Check(
        id="pipeline",
        is_ok=False,
        detail=f"{name}: {_word(state)}",
        remedy=f"Wait until it is made; if it stays so: {_DEPLOY}." if is_passing else f"{_DEPLOY}.",
        is_passing=is_passing,
    )


def judge_access(
    side: Side, properties: Mapping[str, Any], sas_expires_at: datetime | None, *, now: datetime
) -> Check:
    """Judge how the pipeline gets at its container: by its identity, or a SAS that is good for a while.

    Without ``storageAccessMode`` it is a SAS, as in api-versions before 2025-06-01-preview. What the SAS
    allows is not seen: the pipeline alone may read it. What roles its identity has, ``infra/check`` asks.

    Args:
        side: the side that has the pipeline.
        properties: the pipeline's properties, as ARM tells them.
        sas_expires_at: when the SAS ends, by the setting; ``None`` where it says nothing.
        now: the current time, aware.
    """
    name = _ACCESS
    if _comes_by_identity(side, properties):
        return _BY_IDENTITY
    remedy = f"{_DEPLOY} with a later pipelineSasExpiry: that makes a new SAS."
    if sas_expires_at is None:
        told = "it comes to the storage by a SAS, and PIPELINE_SAS_EXPIRES_AT does not say until when"
        return Check(id=name, is_ok=False, detail=told, remedy=remedy)
    ends = format_time(sas_expires_at)
    if sas_expires_at <= now:
        return Check(id=name, is_ok=False, detail=f"its SAS ended at {ends}: each run fails", remedy=remedy)
    is_ok = sas_expires_at - now >= SAS_LEFT
    told = f"it comes to the storage by a SAS that ends at {ends}"
    return Check(id=name, is_ok=is_ok, detail=told, remedy="" if is_ok else remedy)


def judge_renewed_access(
    side: Side,
    properties: Mapping[str, Any],
    newest: SasVersion | None,
    error: AirgapError | None,
    *,
    sas_expires_at: datetime | None,
    secret: str,
    now: datetime,
) -> Check:
    """Judge how the pipeline gets at its container where the app renews its SAS.

    What the SAS allows is not seen: the app may write it and not read it.

    Args:
        side: the side that has the pipeline.
        properties: the pipeline's properties, as ARM tells them.
        newest: the newest version of the secret with the SAS; ``None`` if there is none.
        error: the error that came instead of an answer of the vault, or of a key to sign the next SAS with.
        sas_expires_at: when the SAS of that version ends; ``None`` where nobody knows.
        secret: the address of the secret, for the remedy.
        now: the current time, aware.
    """
    if _comes_by_identity(side, properties):
        return _BY_IDENTITY
    if error is not None:
        remedies = {
            Code.SERVICE_DENIED: "Give the identity of PIPELINE_SAS_CLIENT_ID its role on the container "
            "transfer, Storage Blob Delegator on the account, and secretRenewer, or Key Vault Secrets "
            f"Officer where roles are built in, on the secret; {_LATER}.",
        }
        return _failed(_ACCESS, error, remedies)
    if newest is None:
        told = "there is no secret with its SAS: each run fails"
        remedy = f"If nobody has withdrawn it on purpose: az keyvault secret recover --id {_deleted(secret)}"
        return Check(
            id=_ACCESS, is_ok=False, detail=told, remedy=f"{remedy} or, if it never was there, deploy again."
        )
    if not newest.is_enabled:
        told = "the secret with its SAS is disabled, and is not renewed: each run fails"
        remedy = "If nobody has withdrawn it on purpose: az keyvault secret set-attributes --enabled true"
        return Check(id=_ACCESS, is_ok=False, detail=told, remedy=f"{remedy} --id {secret}")
    ends = "" if sas_expires_at is None else f" at {format_time(sas_expires_at)}"
    if sas_expires_at is not None and sas_expires_at <= now:
        told = f"its SAS ended{ends}, and was not renewed: each run fails"
    elif is_overdue(newest, now=now):
        since = format_time(newest.due_at)
        told = f"its SAS ends{ends or ' nobody knows when'}, and is to be renewed since {since}"
    else:
        told = f"it comes to the storage by a SAS that the app renews; this one ends{ends or ' soon'}"
        return Check(id=_ACCESS, is_ok=True, detail=told)
    return Check(id=_ACCESS, is_ok=False, detail=told, remedy=_RENEWAL)


def _comes_by_identity(side: Side, properties: Mapping[str, Any]) -> bool:
    mode = str(_end(side, properties).get("storageAccessMode") or "SasToken")
    return mode.lower() == "managedidentity"


def _deleted(secret: str) -> str:
    """The address at which a vault keeps a secret that was deleted."""
    return secret.replace("/secrets/", "/deletedsecrets/")


def _end(side: Side, properties: Mapping[str, Any]) -> Mapping[str, Any]:
    """What a pipeline says of its container."""
    end = properties.get("target" if side == "source" else "source")
    return end if isinstance(end, Mapping) else {}


def _judge_options(side: Side, properties: Mapping[str, Any]) -> Check:
    """Options that are not known change nothing, as the service has it.

    https://learn.microsoft.com/azure/container-registry/container-registry-transfer-cli
    """
    options = properties.get("options")
    found = [_word(one) for one in options] if isinstance(options, list) else []
    lowered = {one.lower() for one in found}
    wanted, (unfit, why) = _OPTIONS[side], _UNFIT_OPTIONS[side]
    faults = [f"without {wanted}"] if wanted.lower() not in lowered else []
    faults += [f"with {unfit}: {why}"] if unfit.lower() in lowered else []
    return Check(
        id="pipeline-options",
        is_ok=not faults,
        detail="; ".join(faults) or ", ".join(found[:10]),
        remedy=f"{_DEPLOY}: the pipeline must have {wanted}, and not {unfit}." if faults else "",
    )


def _judge_container_url(side: Side, properties: Mapping[str, Any], wanted: str) -> Check:
    found = _end(side, properties).get("uri")
    is_ok = isinstance(found, str) and _address(found) == _address(wanted)
    # A query would be a SAS: only what names the place is told.
    told = "".join(_address(found)) if isinstance(found, str) else "no container"
    return Check(
        id="pipeline-container",
        is_ok=is_ok,
        detail=f"it {'writes' if side == 'source' else 'reads'} {told}",
        remedy="" if is_ok else f"{_DEPLOY}: the pipeline must be at {wanted} and nowhere else.",
    )


def _judge_trigger(properties: Mapping[str, Any]) -> Check:
    """Absent counts as Enabled, as the service has it."""
    match properties.get("trigger"):
        case {"sourceTrigger": {"status": "Disabled"}}:
            return Check(id="source-trigger", is_ok=True, detail="Disabled")
        case {"sourceTrigger": {"status": str(status)}}:
            pass
        case _:
            status = "not set, which is Enabled"
    return Check(
        id="source-trigger",
        is_ok=False,
        detail=f"{_word(status)}: whatever lies in the container is imported unasked",
        remedy=f"{_DEPLOY}: the import pipeline's source trigger must be Disabled.",
    )


def _address(url: str) -> tuple[str, str, str]:
    parts = urlsplit(url)
    return f"{parts.scheme.lower()}://", parts.netloc.lower(), parts.path.rstrip("/")


def _word(value: object) -> str:
    return str(value)[:60]


def _failed(name: str, error: AirgapError, remedies: Mapping[Code, str]) -> Check:
    return Check(
        id=name,
        is_ok=False,
        detail=f"{error.code.name}: {error.detail}",
        remedy=remedies.get(error.code, error.code.remedy),
    )
