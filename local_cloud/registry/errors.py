"""Refusals in the form of the OCI distribution specification."""

from collections.abc import Mapping

from aiohttp import web

_STATUS = {
    "BLOB_UNKNOWN": 404,
    "BLOB_UPLOAD_INVALID": 400,
    "BLOB_UPLOAD_UNKNOWN": 404,
    "DENIED": 403,
    "DIGEST_INVALID": 400,
    "MANIFEST_BLOB_UNKNOWN": 404,
    "MANIFEST_INVALID": 400,
    "MANIFEST_UNKNOWN": 404,
    "NAME_INVALID": 400,
    "NAME_UNKNOWN": 404,
    "PAGINATION_NUMBER_INVALID": 400,
    "RANGE_INVALID": 416,
    "SIZE_INVALID": 413,
    "TAG_UNKNOWN": 404,
    "TOOMANYREQUESTS": 429,
    "UNAUTHORIZED": 401,
    "UNAVAILABLE": 503,
    "UNSUPPORTED": 405,
}


class RegistryError(Exception):
    """A request the registry refuses; `code` is one of the specification's.

    `detail` is what a program may read, and the specification leaves its shape to the registry: here it is
    that of ACR and of the distribution registry where that is known, and none elsewhere.
    """

    def __init__(
        self, code: str, message: str, *, detail: object = None, headers: Mapping[str, str] | None = None
    ) -> None:
        super().__init__(message)
        self.code = code
        self.detail = detail
        self.headers = dict(headers or {})

    def response(self) -> web.Response:
        """The specification's error body with the status that goes with the code."""
        body = {"errors": [{"code": self.code, "message": str(self), "detail": self.detail}]}
        return web.json_response(body, status=_STATUS[self.code], headers=self.headers)
