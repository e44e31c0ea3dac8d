"""A client of the registry's data plane, by which the transfer service reads and writes artifacts.

It authenticates as any client of ACR does: an Entra token is exchanged for a refresh token, that for an
access token to one repository. Blocking; used from worker threads.
"""

import hashlib
import json
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self
from urllib.parse import urljoin, urlsplit

import requests

from local_cloud.acr_transfer.errors import RunError
from local_cloud.acr_transfer.layout import MAX_JSON_BYTES, PIECE_BYTES, Descriptor, digest_of
from local_cloud.tokens import REGISTRY_AUDIENCE, TokenAuthority

MANIFEST_TYPES = (
    "application/vnd.oci.image.index.v1+json",
    "application/vnd.docker.distribution.manifest.list.v2+json",
    "application/vnd.oci.image.manifest.v1+json",
    "application/vnd.docker.distribution.manifest.v2+json",
)
_TIMEOUT_S = (5, 60)  # connect, read
_TOKEN_LIFE_S = 15 * 60
_MAX_ANSWER_BYTES = 64 * 1024
_OK, _CREATED, _ACCEPTED, _NOT_FOUND = 200, 201, 202, 404


@dataclass(frozen=True, slots=True, kw_only=True)
class RegistryAccess:
    """The registry that the pipelines belong to, and the principal as which the transfer service calls it.

    ``principal_id`` needs AcrPull for exports and AcrPush for imports.
    """

    login_server: str  # host:port
    principal_id: str
    ca_file: Path


class RegistryClient:
    """A run's session with the registry, to be closed at its end."""

    def __init__(self, access: RegistryAccess, tokens: TokenAuthority) -> None:
        self._access = access
        self._tokens = tokens
        self._session = requests.Session()
        self._session.verify = str(access.ca_file)
        self._session.trust_env = False  # neither a proxy nor a netrc has a say in loopback traffic
        self._bearers: dict[str, tuple[float, str]] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._session.close()

    def resolve(self, repository: str, reference: str) -> Descriptor | None:
        """Return the descriptor of the manifest at a tag or digest; None if there is none."""
        answer = self._manifest_answer("HEAD", repository, reference)
        if answer.status_code == _NOT_FOUND:
            return None
        _expect(answer, _OK, f"{repository}: manifest {reference}")
        return Descriptor.from_json(
            {
                "mediaType": answer.headers.get("Content-Type", ""),
                "digest": answer.headers.get("Docker-Content-Digest", ""),
                "size": int(answer.headers.get("Content-Length", "-1")),
            }
        )

    def manifest(self, repository: str, descriptor: Descriptor) -> bytes:
        """Return a manifest's bytes, checked against the descriptor.

        Raises:
            RunError: It is too large, or not what the descriptor says.
        """
        if descriptor.size > MAX_JSON_BYTES:
            raise RunError(f"manifest {descriptor.digest} is larger than {MAX_JSON_BYTES} bytes")
        with self._manifest_answer("GET", repository, descriptor.digest, stream=True) as answer:
            _expect(answer, _OK, f"{repository}: manifest {descriptor.digest}")
            content = _read(answer, descriptor.size)
        if digest_of(content) != descriptor.digest:
            raise RunError(f"{repository}: manifest {descriptor.digest} is not what its digest says")
        return content

    def open_blob(
        self, repository: str, descriptor: Descriptor, checkpoint: Callable[[], None]
    ) -> Iterator[bytes]:
        """Ask for a blob and return its pieces; a blob that cannot be had fails here, before the first piece.

        Raises:
            RunError: Here, or after the last piece when the bytes are not those of the descriptor.
        """
        path = f"/v2/{repository}/blobs/{descriptor.digest}"
        answer = self._send("GET", path, repository, stream=True)
        try:
            _expect(answer, _OK, f"{repository}: blob {descriptor.digest}")
        except RunError:
            answer.close()
            raise
        return _checked_pieces(answer, descriptor, checkpoint)

    def has_blob(self, repository: str, digest: str) -> bool:
        """Tell whether the repository holds a blob."""
        return self._send("HEAD", f"/v2/{repository}/blobs/{digest}", repository).status_code == _OK

    def push_blob(self, repository: str, descriptor: Descriptor, pieces: Iterator[bytes]) -> None:
        """Upload a blob in one streamed request; the registry checks the digest before it keeps it."""
        begun = self._send("POST", f"/v2/{repository}/blobs/uploads/", repository, action="pull,push")
        _expect(begun, _ACCEPTED, f"{repository}: upload")
        location = urljoin(self._url("/"), begun.headers.get("Location", ""))
        if urlsplit(location).netloc != self._access.login_server:
            raise RunError(f"{repository}: the registry names an upload on another host")
        path = location.removeprefix(f"https://{self._access.login_server}")
        done = self._send(
            "PUT",
            f"{path}{'&' if '?' in path else '?'}digest={descriptor.digest}",
            repository,
            action="pull,push",
            headers={"Content-Type": "application/octet-stream"},
            data=_Body(descriptor.size, pieces) if descriptor.size else b"",
        )
        _expect(done, _CREATED, f"{repository}: upload of {descriptor.digest}")

    def push_manifest(self, repository: str, reference: str, descriptor: Descriptor, content: bytes) -> None:
        """Put a manifest at a tag or at its digest."""
        answer = self._send(
            "PUT",
            f"/v2/{repository}/manifests/{reference}",
            repository,
            action="pull,push",
            headers={"Content-Type": descriptor.media_type},
            data=content,
        )
        _expect(answer, _CREATED, f"{repository}: manifest {reference}")

    def referrers(self, repository: str, digest: str) -> list[Descriptor]:
        """Return the first page of the manifests that refer to one; nothing without a referrers API."""
        with self._send("GET", f"/v2/{repository}/referrers/{digest}", repository, stream=True) as answer:
            if answer.status_code == _NOT_FOUND:
                return []
            _expect(answer, _OK, f"{repository}: referrers of {digest}")
            listed = _json(_read(answer, MAX_JSON_BYTES, exact=False)).get("manifests")
        return [Descriptor.from_json(entry) for entry in listed] if isinstance(listed, list) else []

    def _manifest_answer(
        self, method: str, repository: str, reference: str, *, stream: bool = False
    ) -> requests.Response:
        accept = {"Accept": ", ".join(MANIFEST_TYPES)}
        path = f"/v2/{repository}/manifests/{reference}"
        return self._send(method, path, repository, headers=accept, stream=stream)

    def _url(self, path: str) -> str:
        return f"https://{self._access.login_server}{path}"

    def _send(
        self,
        method: str,
        path: str,
        repository: str,
        *,
        action: str = "pull",
        headers: dict[str, str] | None = None,
        **options: Any,
    ) -> requests.Response:
        bearer = self._bearer(f"repository:{repository}:{action}")
        try:
            return self._session.request(
                method,
                self._url(path),
                headers={
                    "Authorization": f"Bearer {bearer}",
                    "Accept-Encoding": "identity",
                    **(headers or {}),
                },
                timeout=_TIMEOUT_S,
                **options,
            )
        except requests.RequestException as error:
            raise RunError(f"{repository}: the registry cannot be reached ({type(error).__name__})") from None

    def _bearer(self, scope: str) -> str:
        until, bearer = self._bearers.get(scope, (0.0, ""))
        if time.monotonic() < until:
            return bearer
        entra = self._tokens.mint(self._access.principal_id, REGISTRY_AUDIENCE)
        service = {"service": self._access.login_server}
        refresh = self._token(
            "/oauth2/exchange",
            "refresh_token",
            {"grant_type": "access_token", "access_token": entra, **service},
        )
        form = {"grant_type": "refresh_token", "refresh_token": refresh, "scope": scope, **service}
        bearer = self._token("/oauth2/token", "access_token", form)
        self._bearers[scope] = (time.monotonic() + _TOKEN_LIFE_S, bearer)
        return bearer

    def _token(self, path: str, field: str, form: dict[str, str]) -> str:
        try:
            answer = self._session.post(self._url(path), data=form, timeout=_TIMEOUT_S)
        except requests.RequestException as error:
            raise RunError(f"the registry cannot be reached ({type(error).__name__})") from None
        _expect(answer, _OK, "registry sign-in")
        token = _json(answer.content).get(field)
        if not isinstance(token, str):
            raise RunError("the registry gave no token")
        return token


class _Body:
    """A request body of known length that is never whole in memory."""

    def __init__(self, size: int, pieces: Iterator[bytes]) -> None:
        self._size = size
        self._pieces = pieces

    def __len__(self) -> int:
        return self._size

    def __iter__(self) -> Iterator[bytes]:
        return self._pieces


def _json(content: bytes) -> dict[str, Any]:
    try:
        parsed = json.loads(content)
    except (ValueError, RecursionError):
        parsed = None
    return parsed if isinstance(parsed, dict) else {}


def _expect(answer: requests.Response, status: int, what: str) -> None:
    if answer.status_code == status:
        return
    first: Any = {}
    if int(answer.headers.get("Content-Length", _MAX_ANSWER_BYTES)) < _MAX_ANSWER_BYTES:
        errors = _json(answer.content).get("errors")
        first = errors[0] if isinstance(errors, list) and errors and isinstance(errors[0], dict) else {}
    raise RunError(f"{what}: the registry answered {answer.status_code} {first.get('code', '')}".rstrip())


def _read(answer: requests.Response, size: int, *, exact: bool = True) -> bytes:
    content = bytearray()
    try:
        for piece in answer.iter_content(PIECE_BYTES):
            content += piece
            if len(content) > size:
                break
    except requests.RequestException as error:
        raise RunError(f"the registry broke off ({type(error).__name__})") from None
    if len(content) > size or (exact and len(content) < size):
        raise RunError(f"the registry sent more or less than the {size} bytes it announced")
    return bytes(content)


def _checked_pieces(
    answer: requests.Response, descriptor: Descriptor, checkpoint: Callable[[], None]
) -> Iterator[bytes]:
    hasher, count = hashlib.sha256(), 0
    with answer:
        try:
            for piece in answer.iter_content(PIECE_BYTES):
                checkpoint()
                count += len(piece)
                if count > descriptor.size:
                    break
                hasher.update(piece)
                yield piece
        except requests.RequestException as error:
            raise RunError(
                f"blob {descriptor.digest}: the registry broke off ({type(error).__name__})"
            ) from None
    if count != descriptor.size or f"sha256:{hasher.hexdigest()}" != descriptor.digest:
        raise RunError(f"blob {descriptor.digest} is not what its descriptor says")
