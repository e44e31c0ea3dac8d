"""What an orchestration's state means to those who ordered the transfer."""

from collections.abc import Mapping
from typing import Any

from airgap.errors import Code
from airgap.fields import format_time
from function_app.durable.instances import Instance
from function_app.durable.outcomes import ending
from function_app.messages import dump

PHASES = ("planning", "exporting", "hashing", "sealing")
ENDED = ("sealed", "failed", "refused", "cancelled")
STATUSES = ("accepted", *PHASES, *ENDED)


def status_of(instance: Instance) -> str:
    """One of :data:`STATUSES`."""
    match instance.runtime_status:
        case "Completed":
            outcome = _outcome(instance)["outcome"]
            return outcome if outcome in ENDED else "failed"
        case "Terminated" | "Canceled":
            return "cancelled"
        case "Failed":
            return "failed"
    phase = instance.progress.get("phase")
    return phase if phase in PHASES else "accepted"


def describe(instance: Instance) -> dict[str, Any]:
    """The body of ``GET /api/transfers/{id}``."""
    order = instance.order
    body: dict[str, Any] = {
        **summarize(instance),
        "progress": instance.progress,
        "request": {
            "artifacts": order.get("artifacts"),
            **{name: order.get(name) for name in ("channel", "audience", "expiresInSeconds")},
        },
        "links": links_of(instance.instance_id),
    }
    match body["status"]:
        case "sealed":
            body["bundle"] = _outcome(instance)["bundle"]
        case "failed" | "refused":
            body["error"] = _describe_error(_outcome(instance))
    return body


def summarize(instance: Instance) -> dict[str, Any]:
    """One line of the list of transfers."""
    return {
        "transferId": instance.instance_id,
        "status": status_of(instance),
        "createdAt": format_time(instance.created_at),
        "updatedAt": format_time(instance.updated_at),
    }


def links_of(transfer_id: str) -> dict[str, str]:
    """Where the transfer is looked at (``GET``) and cancelled (``DELETE``)."""
    path = f"/api/transfers/{transfer_id}"
    return {"self": path, "cancel": path}


def _describe_error(outcome: Mapping[str, Any]) -> dict[str, Any]:
    """Code, detail and remedy of a transfer that did not succeed."""
    code = Code.__members__.get(str(outcome.get("code")), Code.SERVICE_UNEXPECTED)
    error = {"code": code.name, "detail": outcome.get("detail", ""), "remedy": code.remedy}
    return error | ({"artifacts": outcome["artifacts"]} if outcome.get("artifacts") else {})


def _outcome(instance: Instance) -> dict[str, Any]:
    """What the orchestration returned; a fault of ours where it ended with an exception."""
    if "outcome" in instance.outcome:
        return instance.outcome
    return dump(ending(Code.SERVICE_UNEXPECTED, "the orchestration ended unexpectedly; see the app's log"))
