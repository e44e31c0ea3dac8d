"""The registry port on ACR's data plane: tokens are exchanged, then OCI distribution calls are made.

https://github.com/Azure/acr/blob/main/docs/AAD-OAuth.md and the OCI distribution specification 1.1; when a
tag was written last only ACR's own API tells: https://learn.microsoft.com/rest/api/containerregistry/tag/get-attributes
Needs the role AcrPull on the registry, which lets tags and their attributes be read, too; of a staging
registry also AcrDelete.
"""

import hashlib
import json
import re
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any
from urllib.parse import quote, urlencode, urljoin, urlsplit

from azure.core import PipelineClient
from azure.core.credentials import TokenCredential
from azure.core.exceptions import HttpResponseError
from azure.core.pipeline.policies import HeadersPolicy, RetryPolicy, UserAgentPolicy
from azure.core.rest import HttpRequest, HttpResponse

from airgap.errors import Code, ServiceError
from airgap.fields import DIGEST
from function_app.azure.errors import CONNECT_S, READ_S, service_errors
from function_app.oci import Descriptor, TagState, list_manifests

_MAX_ANSWER_BYTES = 4 * 1024 * 1024
"""The largest manifest that registries must accept (OCI distribution-spec §Pushing manifests)."""

_INDEX = "application/vnd.oci.image.index.v1+json"
_MANIFESTS = (
    _INDEX,
    "application/vnd.oci.image.manifest.v1+json",
    "application/vnd.docker.distribution.manifest.v2+json",
    "application/vnd.docker.distribution.manifest.list.v2+json",
    "application/vnd.oci.artifact.manifest.v1+json",
)
_ACCEPT = ", ".join(_MANIFESTS)
_TOKEN_LIFE_S = 600
_PAGE = 100
_MAX_PAGES = 10_000
_HTTP_OK = 200
_HTTP_ACCEPTED = 202
_HTTP_UNAUTHORIZED = 401
_HTTP_NOT_FOUND = 404
_REDIRECTS = {302, 303, 307}
"""A registry gives out blobs from a storage of its own: what is to be had elsewhere is there.

The operation ContainerRegistryBlob_CheckBlobExists in https://github.com/Azure/azure-rest-api-specs,
containerregistry.json of the data plane.
"""

_MAX_REFERRERS = 10_000
_NEXT = re.compile(r'<([^<>]{1,2048})>\s*;\s*rel="?next"?')


class AzureRegistry:
    """The port :class:`~function_app.ports.StagingRegistry` on one Azure Container Registry."""

    def __init__(self, login_server: str, *, scope: str, credential: TokenCredential) -> None:
        self._login_server = login_server
        self._scope = scope
        self._credential = credential
        self._tokens: dict[str, tuple[str, float]] = {}
        self._lock = threading.Lock()
        self._client: PipelineClient[HttpRequest, HttpResponse] = PipelineClient(
            f"https://{login_server}",
            connection_timeout=CONNECT_S,
            read_timeout=READ_S,
            policies=[HeadersPolicy(), UserAgentPolicy("acr-airgap-transfer"), RetryPolicy(retry_total=4)],
        )

    def close(self) -> None:
        """Close all connections to the registry."""
        self._client.close()

    def resolve(self, repository: str, reference: str) -> Descriptor | None:
        """See the port."""
        with service_errors(f"artifact {repository} {reference}"):
            path = f"/v2/{repository}/manifests/{reference}"
            response = self._get(repository, path, method="HEAD", accept=_ACCEPT)
            if response is None:
                return None
        digest = response.headers.get("Docker-Content-Digest", "")
        media_type = response.headers.get("Content-Type", "").partition(";")[0].strip()
        if not DIGEST.fullmatch(digest) or not media_type:
            raise ServiceError(Code.SERVICE_UNEXPECTED, f"artifact {repository} {reference}: no digest given")
        return Descriptor(digest=digest, media_type=media_type)

    def tag(self, repository: str, tag: str) -> TagState | None:
        """See the port."""
        about = f"tag {repository}:{tag}"
        with service_errors(about):
            response = self._get(repository, f"/acr/v1/{repository}/_tags/{tag}", accept="application/json")
            if response is None:
                return None
            content = _read(response)
        match _json_object(content, about):
            case {"tag": {"digest": str(digest), "lastUpdateTime": str(written_at)}} if (
                DIGEST.fullmatch(digest) and written_at
            ):
                return TagState(digest=digest, written_at=written_at)
        raise ServiceError(Code.SERVICE_UNEXPECTED, f"{about}: no digest and time given")

    def manifest(self, repository: str, digest: str) -> Mapping[str, Any]:
        """See the port."""
        about = f"manifest {repository}@{digest}"
        with service_errors(about):
            response = self._get(repository, f"/v2/{repository}/manifests/{digest}", accept=_ACCEPT)
            content = b"" if response is None else _read(response)
        if response is None:
            raise ServiceError(Code.NOT_FOUND, about)
        if f"sha256:{hashlib.sha256(content).hexdigest()}" != digest:
            raise ServiceError(Code.SERVICE_UNEXPECTED, f"{about}: the registry sent other bytes")
        return _json_object(content, about)

    def has_blob(self, repository: str, digest: str) -> bool:
        """See the port."""
        with service_errors(f"blob {repository}@{digest}"):
            path = f"/v2/{repository}/blobs/{digest}"
            response = self._get(repository, path, method="HEAD", accept="application/octet-stream")
            if response is None:
                return False
            response.close()
        return True

    def config(self, repository: str, digest: str) -> Mapping[str, Any]:
        """See the port."""
        about = f"configuration {repository}@{digest}"
        with service_errors(about):
            response = self._get(repository, f"/v2/{repository}/blobs/{digest}", accept="*/*")
            if response is not None and response.status_code in _REDIRECTS:
                response = self._fetch_elsewhere(response)
            content = b"" if response is None else _read(response)
        if response is None:
            raise ServiceError(Code.NOT_FOUND, about)
        if f"sha256:{hashlib.sha256(content).hexdigest()}" != digest:
            raise ServiceError(Code.SERVICE_UNEXPECTED, f"{about}: the registry sent other bytes")
        return _json_object(content, about)

    def referrers(self, repository: str, digest: str) -> Sequence[Descriptor] | None:
        """See the port."""
        about = f"referrers of {repository}@{digest}"
        found: list[Descriptor] = []
        query = ""
        while True:
            with service_errors(about):
                path = f"/v2/{repository}/referrers/{digest}"
                response = self._get(repository, path, accept=_INDEX, query=query)
                if response is None:
                    return None
                content = _read(response)
            if response.headers.get("Content-Type", "").partition(";")[0].strip() != _INDEX:
                return None
            listed = list_manifests(_json_object(content, about), about)
            found += listed
            following = _next_query(response)
            if not following:
                return found
            if not listed or following == query or len(found) > _MAX_REFERRERS:
                raise ServiceError(Code.SERVICE_UNEXPECTED, f"{about}: there is no end to them")
            query = following

    def catalog(self) -> Iterator[str]:
        """See the port."""
        for page in self._pages("/v2/_catalog", "registry:catalog:*", "repositories"):
            for name in page:
                if not isinstance(name, str):
                    raise ServiceError(Code.SERVICE_UNEXPECTED, "repositories: a name is none")
                yield name

    def list_tags(self, repository: str) -> Iterator[tuple[str, TagState]]:
        """See the port."""
        path, scope = f"/acr/v1/{repository}/_tags", f"repository:{repository}:metadata_read"
        for page in self._pages(path, scope, "tags"):
            for one in page:
                match one:
                    case {"name": str(name), "digest": str(digest), "lastUpdateTime": str(written_at)} if (
                        name and DIGEST.fullmatch(digest) and written_at
                    ):
                        yield name, TagState(digest=digest, written_at=written_at)
                    case _:
                        about = f"tags of {repository}: no name, digest and time given"
                        raise ServiceError(Code.SERVICE_UNEXPECTED, about)

    def repositories(self) -> Iterator[str]:
        """See the port."""
        for name in self.catalog():  # one whose manifests are all deleted may be listed for a while
            if next(self.digests(name), None) is not None:
                yield name

    def digests(self, repository: str) -> Iterator[str]:
        """See the port."""
        path, scope = f"/acr/v1/{repository}/_manifests", f"repository:{repository}:metadata_read"
        for page in self._pages(path, scope, "manifests"):
            for one in page:
                match one:
                    case {"digest": str(digest)} if DIGEST.fullmatch(digest):
                        yield digest
                    case _:
                        raise ServiceError(Code.SERVICE_UNEXPECTED, f"manifests of {repository}: no digest")

    def delete_repository(self, repository: str) -> None:
        """See the port."""
        with service_errors(f"repository {repository}"):
            path, scope = f"/acr/v1/{repository}", f"repository:{repository}:delete"
            response = self._send(path, scope, method="DELETE", accept="application/json")
            if response is not None:
                response.close()

    def _pages(self, path: str, scope: str, member: str) -> Iterator[list[Any]]:
        """The pages of a list, each after the last entry of the one before; none for 404.

        ACR's lists go on after the entry ``last``, which is a name, or the digest of what has none.
        """
        last = ""
        for _ in range(_MAX_PAGES):
            query = urlencode({"n": _PAGE, **({"last": last} if last else {})})
            with service_errors(path):
                response = self._send(path, scope, query=query, accept="application/json")
                if response is None:
                    return
                content = _read(response)
            page = _json_object(content, path).get(member) or []
            if not isinstance(page, list):
                raise ServiceError(Code.SERVICE_UNEXPECTED, f"{path}: no list of {member}")
            yield page
            if 'rel="next"' not in response.headers.get("Link", "") or not page:
                return
            last = _mark_of(page[-1])
        raise ServiceError(Code.SERVICE_UNEXPECTED, f"{path}: more than {_MAX_PAGES} pages")

    def _fetch_elsewhere(self, response: HttpResponse) -> HttpResponse | None:
        """What the registry says lies in its storage: asked for once, over HTTPS, without our token.

        https://learn.microsoft.com/azure/container-registry/container-registry-firewall-access-rules
        """
        response.close()
        where = urljoin(self._client.format_url("/"), response.headers.get("Location", ""))
        if not where.startswith("https://"):
            raise ServiceError(Code.SERVICE_UNEXPECTED, "the registry sends elsewhere, and not to https")
        found = self._client.send_request(HttpRequest("GET", where), stream=True)
        if found.status_code != _HTTP_OK:
            found.close()
            raise HttpResponseError(message=f"HTTP {found.status_code}", response=found)
        return found

    def _get(
        self, repository: str, path: str, *, accept: str, method: str = "GET", query: str = ""
    ) -> HttpResponse | None:
        """The answer, its body unread, or ``None`` for 404."""
        scope = f"repository:{repository}:pull,metadata_read"
        return self._send(path, scope, accept=accept, method=method, query=query)

    def _send(
        self, path: str, scope: str, *, accept: str, method: str = "GET", query: str = ""
    ) -> HttpResponse | None:
        """The answer, its body unread, or ``None`` for 404; a refused token is fetched anew, once."""
        url = self._client.format_url(quote(path, safe="/:")) + (f"?{query}" if query else "")
        for is_last in (False, True):
            request = HttpRequest(
                method, url, headers={"Accept": accept, "Authorization": f"Bearer {self._token(scope)}"}
            )
            response = self._client.send_request(request, stream=True)
            if response.status_code == _HTTP_UNAUTHORIZED and not is_last:
                response.close()
                self._tokens.pop(scope, None)
                continue
            break
        if response.status_code == _HTTP_NOT_FOUND:
            response.close()
            return None
        if response.status_code not in {_HTTP_OK, _HTTP_ACCEPTED, *_REDIRECTS}:
            response.close()
            raise HttpResponseError(message=f"HTTP {response.status_code}", response=response)
        return response

    def _token(self, scope: str) -> str:
        with self._lock:
            token, expires = self._tokens.get(scope, ("", 0.0))
            if time.monotonic() < expires:
                return str(token)
            entra = self._credential.get_token(self._scope).token
            form = {"service": self._login_server}
            exchanged = self._post(
                "/oauth2/exchange", {**form, "grant_type": "access_token", "access_token": entra}
            )
            granted = self._post(
                "/oauth2/token",
                {
                    **form,
                    "grant_type": "refresh_token",
                    "refresh_token": exchanged["refresh_token"],
                    "scope": scope,
                },
            )
            token = str(granted["access_token"])
            self._tokens[scope] = (token, time.monotonic() + _TOKEN_LIFE_S)
            return token

    def _post(self, path: str, form: Mapping[str, str]) -> Mapping[str, Any]:
        """What the token service answers; asked once more where it refuses, as any other request is.

        One refusal in passing must not end an import whose number is taken: denied is what stays denied.
        """
        for is_last in (False, True):
            request = HttpRequest("POST", self._client.format_url(path), data=dict(form))
            response = self._client.send_request(request, stream=True)
            if response.status_code != _HTTP_UNAUTHORIZED or is_last:
                break
            response.close()
        if response.status_code != _HTTP_OK:
            response.close()
            raise HttpResponseError(message=f"{path} answered {response.status_code}", response=response)
        return _json_object(_read(response), path)


def _read(response: HttpResponse) -> bytes:
    content = bytearray()
    for chunk in response.iter_bytes():
        content += chunk
        if len(content) > _MAX_ANSWER_BYTES:
            response.close()
            raise ServiceError(Code.SERVICE_UNEXPECTED, "the registry's answer is larger than 4 MiB")
    return bytes(content)


def _next_query(response: HttpResponse) -> str:
    """The query of the page after, of which the registry tells the address; empty after the last.

    OCI distribution-spec 1.1 §Listing Referrers; RFC 8288.
    """
    match = _NEXT.search(response.headers.get("Link", ""))
    return urlsplit(match[1]).query if match else ""


def _mark_of(entry: Any) -> str:
    """The text by which a list goes on after this entry."""
    match entry:
        case str(name) | {"name": str(name)} | {"digest": str(name)}:
            return name
    raise ServiceError(Code.SERVICE_UNEXPECTED, "an entry of a list has neither name nor digest")


def _json_object(content: bytes, about: str) -> dict[str, Any]:
    try:
        value = json.loads(content)
    except (ValueError, RecursionError):
        value = None
    if not isinstance(value, dict):
        raise ServiceError(Code.SERVICE_UNEXPECTED, f"{about}: not a JSON object")
    return value
