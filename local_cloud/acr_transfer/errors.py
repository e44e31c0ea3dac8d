"""Refusals of the emulator: those of a request (ARM's error body) and those of a run (its error message)."""

from collections.abc import Mapping

from aiohttp import web


class ArmError(Exception):
    """A request that is refused: an HTTP status and ARM's ``{"error": {"code", "message"}}``."""

    def __init__(
        self, status: int, code: str, message: str, *, headers: Mapping[str, str] | None = None
    ) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.headers = headers

    def response(self) -> web.Response:
        """Return the answer to send."""
        body = {"error": {"code": self.code, "message": str(self)}}
        return web.json_response(body, status=self.status, headers=self.headers)


class RunError(Exception):
    """Why a run, or one artifact of it, failed: the text of ``pipelineRunErrorMessage``. Holds no secret."""


class RunCancelled(Exception):  # noqa: N818 - the emulator is closing: nobody's fault
    """The emulator is being closed while the run goes on."""


def invalid(message: str) -> ArmError:
    """Return the refusal of a malformed body."""
    return ArmError(400, "InvalidRequestContent", f"The request content was invalid: {message}")
