"""Refusals of the emulator: those of a request (ARM's error body) and those of a run (its error message)."""

from collections.abc import Mapping
from typing import Any


class ArmError(Exception):
    """A request that is refused: the HTTP status, ARM's code and, as the text, ARM's message."""

    def __init__(
        self, status: int, code: str, message: str, *, headers: Mapping[str, str] | None = None
    ) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.headers = headers

    def to_json(self) -> dict[str, Any]:
        """The member ``error`` of ARM's answer."""
        return {"code": self.code, "message": str(self)}


class RunError(Exception):
    """The failure of a run, or of one artifact: the text of ``pipelineRunErrorMessage``, without secrets."""


class RunCancelled(Exception):  # noqa: N818 - the emulator is closing: nobody's fault
    """The sign that the emulator is being closed while the run goes on."""


def invalid(message: str) -> ArmError:
    """Return the refusal of a malformed body."""
    return ArmError(400, "InvalidRequestContent", f"The request content was invalid: {message}")


def not_found(resource_id: str) -> ArmError:
    """Return ARM's refusal for a resource that does not exist."""
    message = (
        f"The Resource '{resource_id[:300]}' was not found."
        " For more details please go to https://aka.ms/ARMResourceNotFoundFix"
    )
    return ArmError(404, "ResourceNotFound", message)


def not_authorized(caller: str, action: str, scope: str) -> ArmError:
    """Return ARM's refusal of a caller who lacks a role."""
    message = (
        f"The client '{caller}' with object id '{caller}' does not have authorization to perform"
        f" action '{action}' over scope '{scope}' or the scope is invalid."
        " If access was recently granted, please refresh your credentials."
    )
    return ArmError(403, "AuthorizationFailed", message)
