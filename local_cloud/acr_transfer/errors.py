"""Refusals of the emulator: those of a request (ARM's error body) and those of a run (its error message)."""

from collections.abc import Mapping


class ArmError(Exception):
    """A request that is refused: the HTTP status, ARM's code and, as the text, ARM's message."""

    def __init__(
        self, status: int, code: str, message: str, *, headers: Mapping[str, str] | None = None
    ) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.headers = headers


class RunError(Exception):
    """Why a run, or one artifact of it, failed: the text of ``pipelineRunErrorMessage``. Holds no secret."""


class RunCancelled(Exception):  # noqa: N818 - the emulator is closing: nobody's fault
    """The emulator is being closed while the run goes on."""


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
