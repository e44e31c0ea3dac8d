"""Refusals as Azure Storage answers them."""

import json
import uuid
from datetime import UTC, datetime
from xml.sax.saxutils import escape

from aiohttp import web

from local_cloud.storage_front.operations import Service
from local_cloud.tokens import STORAGE_AUDIENCE

_SEE_HEADER = (
    "Server failed to authenticate the request."
    " Please refer to the information in the www-authenticate header."
)
_MESSAGES = {
    "AuthenticationFailed": (
        "Server failed to authenticate the request. Make sure the value of Authorization header is formed"
        " correctly including the signature."
    ),
    "InvalidAuthenticationInfo": _SEE_HEADER,
    "NoAuthenticationInformation": _SEE_HEADER,
    "PublicAccessNotPermitted": "Public access is not permitted on this storage account.",
    "KeyBasedAuthenticationNotPermitted": (
        "Key based authentication is not permitted on this storage account."
    ),
    "AuthorizationPermissionMismatch": (
        "This request is not authorized to perform this operation using this permission."
    ),
    "BlobImmutableDueToPolicy": "This operation is not permitted as the blob is immutable due to a policy.",
    "CannotVerifyCopySource": "The specified resource does not exist.",
    "InvalidUri": "The request URI is invalid.",
    "UnauthorizedBlobOverwrite": "This request is not authorized to perform blob overwrites.",
    "NotImplemented": "The requested operation is not implemented on the specified resource.",
    "ServerBusy": "The server is busy.",
}
_STATUS = {
    **dict.fromkeys(("InvalidAuthenticationInfo", "NoAuthenticationInformation"), 401),
    **dict.fromkeys(("AuthenticationFailed", "AuthorizationPermissionMismatch"), 403),
    **dict.fromkeys(("KeyBasedAuthenticationNotPermitted", "UnauthorizedBlobOverwrite"), 403),
    **dict.fromkeys(("PublicAccessNotPermitted", "BlobImmutableDueToPolicy"), 409),
    "CannotVerifyCopySource": 404,
    "InvalidUri": 400,
    "NotImplemented": 501,
    "ServerBusy": 503,
}
_REASONS = {
    "expired": "Lifetime validation failed. The token is expired.",
    "audience": "Audience validation failed. Audience did not match.",
    "issuer": "Issuer validation failed. Issuer did not match.",
    "signature": "Signature validation failed. Invalid signature.",
    "malformed": "Invalid JWT.",
}
_SERVER = "Azurite-Front/1.0"


class StorageRefusal(Exception):  # noqa: N818 - a refusal is an answer to the caller, not a fault
    """A request that is refused: Azure's error code, and `detail` where Azure says more."""

    def __init__(self, code: str, detail: str | None = None) -> None:
        super().__init__(code)
        self.code = code
        self.detail = detail

    @classmethod
    def of_token(cls, reason: str) -> "StorageRefusal":
        """The refusal for an access token that is not accepted, by the code of a `TokenRefused`."""
        return cls("InvalidAuthenticationInfo", _REASONS[reason])

    def response(self, service: Service, authority: str, request: web.BaseRequest) -> web.Response:
        """The answer: XML, of tables JSON; the challenge with it where a token would help."""
        request_id, now = str(uuid.uuid4()), datetime.now(UTC).isoformat().replace("+00:00", "Z")
        message = f"{_MESSAGES[self.code]}\nRequestId:{request_id}\nTime:{now}"
        headers = {
            "x-ms-request-id": request_id,
            "x-ms-error-code": self.code,
            "x-ms-version": request.headers.get("x-ms-version", "2021-12-02"),
            "Server": _SERVER,
        }
        if (client_id := request.headers.get("x-ms-client-request-id")) is not None:
            headers["x-ms-client-request-id"] = client_id
        if _STATUS[self.code] == 401:  # noqa: PLR2004
            headers["WWW-Authenticate"] = (
                f"Bearer authorization_uri={authority}/oauth2/authorize resource_id={STORAGE_AUDIENCE}"
            )
        body, headers["Content-Type"] = (
            (_odata(self.code, message), "application/json;odata=minimalmetadata")
            if service == "table"
            else (_xml(self.code, message, self.detail), "application/xml")
        )
        return web.Response(status=_STATUS[self.code], body=body, headers=headers)


def _xml(code: str, message: str, detail: str | None) -> bytes:
    more = f"<AuthenticationErrorDetail>{escape(detail)}</AuthenticationErrorDetail>" if detail else ""
    head = '<?xml version="1.0" encoding="utf-8"?>'
    return f"{head}<Error><Code>{code}</Code><Message>{escape(message)}</Message>{more}</Error>".encode()


def _odata(code: str, message: str) -> bytes:
    error = {"code": code, "message": {"lang": "en-US", "value": message}}
    return json.dumps({"odata.error": error}).encode()
