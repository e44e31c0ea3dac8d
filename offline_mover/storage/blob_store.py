"""A container of Azure Blob Storage, to which the mover's ports lead by REST calls.

With :mod:`blob_wire` (bytes on the wire, a range read from it) and :mod:`offline_mover.storage.blob_answers`
(what a failure means), which nothing else imports, this is all of the mover that knows Azure.
"""

from __future__ import annotations

import base64
import threading
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Self

from azure.core.credentials import TokenCredential
from azure.core.rest import HttpResponse

from airgap import __version__
from airgap.errors import AirgapError, Code, ServiceError, UntrustedInputError
from blob_wire.answers import PassingError, Refusal
from blob_wire.ranges import length_of, range_headers, range_pieces, range_statuses
from blob_wire.wire import API_VERSION, NETWORK_ERRORS, SeekableStream, Wire, read_capped
from offline_mover.progress import Meter
from offline_mover.storage.blob_answers import (
    WRONG_PERMISSION,
    meaning,
    meaning_for_identity,
    meaning_for_sas,
    network_meaning,
)
from offline_mover.storage.plain_xml import PlainXmlError, read_texts
from offline_mover.storage.ports import Block, StoredBlob, WritableContainer
from offline_mover.storage.retrying import Retrying
from offline_mover.storage.signing_in import signed_in_identity
from offline_mover.storage.storage_address import Rights, Sas, TransferAddress, require_token_host

_MAX_LIST_BYTES = 16 * 1024 * 1024  # 50,000 blocks of a hundred bytes and more, or 5,000 names
_MAX_NAMES_A_PAGE = 5000
_MAX_REFUSAL_BYTES = 8192
_MAX_PAGES = 200
_MAX_BARREN_PAGES = 10
"""In a row without a name that was not there before. A page may be empty and still not be the last."""

_LISTING = ("EnumerationResults/Blobs/Blob/Name", "EnumerationResults/NextMarker")
_MAX_CREDENTIALS = 3
"""With how many SAS one request is sent; further ones only after a wait (:mod:`.retrying`)."""

CONTAINERS = ("transfer", "incoming", "receipts")
"""Those that an operator has a SAS for (infra/README.md)."""

_NOT_ASKED = ""
_ONE_BLOB = "b"
"""In a SAS: it is for one blob, and no other."""

_META = "x-ms-meta-"
_USER_AGENT = f"offline-mover/{__version__}"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Call:
    """One request: ``needed`` are the SAS permissions of which one is enough for it."""

    method: str
    name: str
    needed: str
    success: frozenset[int]
    query: Mapping[str, str] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)
    body: SeekableStream | bytes | None = None


class _NoBlobError(Exception):
    """There is no such blob, in a container that is there."""


@contextmanager
def open_container(
    address: TransferAddress,
    *,
    sas: Rights | None,
    renew: Callable[[], Rights | None] | None,
    token_host: str | None = None,
    retries: int,
    meter: Meter,
    notice: Callable[[str], None],
) -> Iterator[WritableContainer]:
    """Open the container at ``address``; calls that fail for a passing reason are repeated ``retries`` times.

    Arguments are those of :class:`AzureContainer` and :class:`~offline_mover.storage.retrying.Retrying`.
    """
    with AzureContainer(address, sas=sas, renew=renew, token_host=token_host) as container:
        yield Retrying(container, retries=retries, meter=meter, notice=notice)


class AzureContainer:
    """A container of Azure Blob Storage behind the mover's ports; no call is tried twice here.

    Args:
        address: the container's address.
        sas: the SAS to show, for each blob its own where they differ; without one, requests are made as
            whoever :func:`~offline_mover.storage.signing_in.signed_in_identity` finds.
        renew: reads the SAS again after the service refused it; the request is then sent with the new one.
            ``None``, or an :class:`~airgap.errors.AirgapError`, when there is none.
        clock: the current time, aware, for when the service does not tell its own.
        credential: the credential to use in place of that identity.
        token_host: a host and port besides Azure's own storages that a sign-in may be shown to.

    Raises:
        OperatorError: ``USAGE``: there is no SAS, and the host is none that a sign-in may be shown to.
    """

    def __init__(
        self,
        address: TransferAddress,
        *,
        sas: Rights | None,
        renew: Callable[[], Rights | None] | None = None,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
        credential: TokenCredential | None = None,
        token_host: str | None = None,
    ) -> None:
        if sas is None:
            require_token_host(address, token_host)
        self._address = address
        self._sas = sas
        self._renew = renew
        self._clock = clock
        self._lock = threading.Lock()
        self._accepted_by: str | None = _NOT_ASKED
        identity = credential or signed_in_identity() if sas is None else None
        self._wire = Wire(address.container_url, user_agent=_USER_AGENT, credential=identity)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._wire.close()

    # --- reading ---------------------------------------------------------------------------------------

    def read_small(self, name: str, *, max_bytes: int) -> bytes | None:
        """See the port."""
        call = _Call(method="GET", name=name, needed="r", success=frozenset({200}))
        try:
            with self._answer(call) as answer:
                size = length_of(answer)
                if size is not None and size > max_bytes:
                    raise UntrustedInputError(
                        Code.TOO_LARGE, f"{name}: {size} bytes, at most {max_bytes} allowed"
                    )
                return read_capped(answer, name, max_bytes=max_bytes)
        except _NoBlobError:
            return None

    def describe(self, name: str) -> StoredBlob | None:
        """See the port."""
        call = _Call(method="HEAD", name=name, needed="r", success=frozenset({200}))
        try:
            with self._answer(call) as answer:
                read_capped(answer, name, max_bytes=0)
                return self._stored_blob(name, answer)
        except _NoBlobError:
            return None

    def _stored_blob(self, name: str, answer: HttpResponse) -> StoredBlob:
        size, etag = length_of(answer), answer.headers.get("ETag")
        if size is None or not etag:
            raise self._strange(name, "no size or no ETag")
        return StoredBlob(
            size_bytes=size,
            etag=str(etag),
            content_md5=answer.headers.get("Content-MD5") or None,
            metadata={
                key[len(_META) :]: value
                for key, value in answer.headers.items()
                if key.lower().startswith(_META)
            },
        )

    def read_range(self, name: str, *, offset_bytes: int, size_bytes: int, etag: str) -> Iterator[bytes]:
        """See the port."""
        call = _Call(
            method="GET",
            name=name,
            needed="r",
            success=range_statuses(offset_bytes=offset_bytes),
            headers=range_headers(offset_bytes=offset_bytes, size_bytes=size_bytes, etag=etag),
        )
        with self._found(name, call) as answer:
            yield from range_pieces(
                answer,
                f"{self._address.host}: {name}",
                offset_bytes=offset_bytes,
                size_bytes=size_bytes,
                etag=etag,
            )

    def list_names(self, prefix: str, *, most: int) -> list[str]:
        """See the port."""
        names: dict[str, None] = {}  # in order, each once
        marker = ""
        barren = 0
        for _ in range(_MAX_PAGES):
            if len(names) >= most:
                return list(names)[:most]
            asked = min(most - len(names), _MAX_NAMES_A_PAGE)
            call = _Call(
                method="GET",
                name="",
                needed="l",
                success=frozenset({200}),
                query={"restype": "container", "comp": "list", "prefix": prefix, "maxresults": str(asked)}
                | ({"marker": marker} if marker else {}),
            )
            listing = self._texts(prefix, call, *_LISTING)
            before = len(names)
            names |= dict.fromkeys(name for name in listing[_LISTING[0]] if name.startswith(prefix))
            marker = "".join(listing[_LISTING[1]])
            if not marker:
                return list(names)[:most]
            barren = 0 if len(names) > before else barren + 1
            if barren > _MAX_BARREN_PAGES:
                break
        raise self._strange(prefix, "a listing without an end")

    # --- writing ---------------------------------------------------------------------------------------

    def committed_blocks(self, name: str) -> list[Block]:
        """See the port."""
        return self._blocks(name, "committed", "BlockList/CommittedBlocks/Block")

    def staged_blocks(self, name: str) -> list[Block]:
        """See the port."""
        return self._blocks(name, "uncommitted", "BlockList/UncommittedBlocks/Block")

    def _blocks(self, name: str, kind: str, path: str) -> list[Block]:
        call = _Call(
            method="GET",
            name=name,
            needed="r",
            success=frozenset({200}),
            query={"comp": "blocklist", "blocklisttype": kind},
        )
        try:
            found = self._texts(name, call, f"{path}/Name", f"{path}/Size")
            return [
                Block(
                    block_id=base64.b64decode(block_id).decode("utf-8", "replace"), size_bytes=int(size_bytes)
                )
                for block_id, size_bytes in zip(*found.values(), strict=True)
            ]
        except _NoBlobError:
            return []
        except ValueError:
            raise self._strange(name, "its block list makes no sense") from None

    def stage(self, name: str, block_id: str, body: SeekableStream) -> None:
        """See the port."""
        self._write(
            name,
            query={"comp": "block", "blockid": _wire_id(block_id)},
            headers={"Content-Length": str(len(body)), "Content-Type": "application/octet-stream"},
            body=body,
        )

    def commit(
        self,
        name: str,
        block_ids: Sequence[str],
        *,
        content_md5: str | None,
        metadata: Mapping[str, str],
    ) -> None:
        """See the port."""
        self._put_block_list(
            name,
            [("Latest", block_id) for block_id in block_ids],
            {"If-None-Match": "*", **_properties(content_md5, metadata)},
        )

    def replace_blocks(
        self,
        name: str,
        block_ids: Sequence[str],
        *,
        replaced: Collection[str],
        etag: str,
        content_md5: str | None,
        metadata: Mapping[str, str],
    ) -> None:
        """See the port."""
        kinds = [("Uncommitted" if block_id in replaced else "Committed", block_id) for block_id in block_ids]
        self._put_block_list(name, kinds, {"If-Match": etag, **_properties(content_md5, metadata)})

    def _put_block_list(
        self, name: str, blocks: Iterable[tuple[str, str]], headers: Mapping[str, str]
    ) -> None:
        """Source: https://learn.microsoft.com/rest/api/storageservices/put-block-list#request-body."""
        listed = "".join(f"<{kind}>{_wire_id(block_id)}</{kind}>" for kind, block_id in blocks)
        self._write(
            name,
            query={"comp": "blocklist"},
            headers={"Content-Type": "application/xml", **headers},
            body=f'<?xml version="1.0" encoding="utf-8"?><BlockList>{listed}</BlockList>'.encode(),
        )

    def create_small(self, name: str, content: bytes) -> None:
        """See the port."""
        self._write(
            name,
            headers={
                "Content-Type": "application/json",
                "If-None-Match": "*",
                "x-ms-blob-type": "BlockBlob",
            },
            body=content,
        )

    def _write(
        self,
        name: str,
        *,
        headers: Mapping[str, str],
        body: SeekableStream | bytes,
        query: Mapping[str, str] | None = None,
    ) -> None:
        call = _Call(
            method="PUT",
            name=name,
            needed="cw",
            success=frozenset({201}),
            query=query or {},
            headers=headers,
            body=body,
        )
        with self._found(name, call) as answer:
            read_capped(answer, name, max_bytes=_MAX_LIST_BYTES)

    # --- requests and answers --------------------------------------------------------------------------

    def _texts(self, what: str, call: _Call, *paths: str) -> dict[str, list[str]]:
        """The texts at ``paths`` in the document that a call is answered with."""
        with self._answer(call) as answer:
            document = read_capped(answer, what, max_bytes=_MAX_LIST_BYTES)
        try:
            return read_texts(document, *paths)
        except PlainXmlError as error:
            raise self._strange(what, str(error)) from None

    @contextmanager
    def _found(self, name: str, call: _Call) -> Iterator[HttpResponse]:
        """The answer as by ``_answer``, where a blob that is missing is an error like any other."""
        try:
            with self._answer(call) as answer:
                yield answer
        except _NoBlobError:
            raise ServiceError(Code.NOT_FOUND, f"{self._address.container}/{name}") from None

    @contextmanager
    def _answer(self, call: _Call) -> Iterator[HttpResponse]:
        """The answer of success, its body unread; afterwards its connection is free or closed.

        Raises:
            _NoBlobError: the blob is missing.
            AirgapError: any other answer, or none.
        """
        try:
            answer = self._sent(call)
            try:
                yield answer
            finally:
                answer.close()
        except NETWORK_ERRORS as error:
            raise network_meaning(error, self._address.host) from None

    def _sent(self, call: _Call) -> HttpResponse:
        for number in range(1, _MAX_CREDENTIALS + 1):
            sas = None if self._sas is None else self._sas.for_blob(call.name)
            answer = self._wire.send(
                *(call.method, call.name),
                query=call.query,
                headers=call.headers,
                body=call.body,
                sas="" if sas is None else sas.token,
                version=_version_for(sas),
            )
            if answer.status_code in call.success:
                return answer
            refusal = Refusal.of(answer)
            with suppress(UntrustedInputError, *NETWORK_ERRORS):
                # Unread, it would cost the connection: a handshake for each blob that is not there yet.
                read_capped(answer, "refusal", max_bytes=_MAX_REFUSAL_BYTES)
            answer.close()
            if number == _MAX_CREDENTIALS or not (
                refusal.is_of_credential and self._has_other_sas(sas, call.name)
            ):
                break
            if call.body is not None and not isinstance(call.body, bytes):
                call.body.seek(0)
        if refusal.is_no_blob:
            raise _NoBlobError
        raise self._meaning(refusal, call, sas)

    def _has_other_sas(self, refused: Sas | None, name: str) -> bool:
        """Whether another SAS than the one that was refused is there by now; it is used from now on."""
        with self._lock:
            if self._sas is None or self._renew is None or refused is None:
                return False
            if self._sas.for_blob(name).token != refused.token:
                return True  # another thread was faster
            try:
                renewed = self._renew()
                if renewed is None or renewed.for_blob(name).token == refused.token:
                    return False
            except AirgapError:  # the file is just being written, or holds something else
                return False
            self._sas = renewed
            return True

    def _meaning(self, refusal: Refusal, call: _Call, sas: Sas | None) -> AirgapError:
        what = f"{self._address.container}/{call.name}".rstrip("/")
        if not refusal.is_of_credential:
            return meaning(refusal, what, call.needed)
        if sas is None:
            return meaning_for_identity(refusal, what, call.needed)
        return meaning_for_sas(
            refusal,
            what,
            call.needed,
            sas,
            now=self._clock(),
            is_renewable=self._renew is not None,
            accepted_by=self._accepting_container(sas) if refusal.blames_signature else None,
        )

    def _accepting_container(self, sas: Sas) -> str | None:
        """The container beside this one that takes the SAS: what somebody has who took the wrong file.

        Asked only after the SAS was refused, once; nothing is learnt from the answers but whether its
        signature is valid there.
        """
        if self._accepted_by == _NOT_ASKED:
            found = (container for container in CONTAINERS if self._is_accepted_by(container, sas))
            self._accepted_by = next(found, None)
        return self._accepted_by

    def _is_accepted_by(self, container: str, sas: Sas) -> bool:
        if container == self._address.container or sas.resource == _ONE_BLOB:
            return False
        base = self._address.container_url.rsplit("/", 1)[0]
        with closing(Wire(f"{base}/{container}", user_agent=_USER_AGENT)) as wire:
            try:
                answer = wire.send("HEAD", "none", sas=sas.token)
            except NETWORK_ERRORS:
                return False
            refusal = Refusal.of(answer)
            answer.close()
        return not refusal.is_of_credential or refusal.said == WRONG_PERMISSION

    def _strange(self, what: str, why: str) -> PassingError:
        return PassingError(Code.SERVICE_UNEXPECTED, f"{self._address.host}: {what}: {why}")


def _version_for(sas: Sas | None) -> str:
    """The version that a request is sent in: of a ticket's SAS, which an older one may not allow to create.

    https://learn.microsoft.com/rest/api/storageservices/version-2026-04-06
    """
    return sas.version if sas is not None and sas.resource == _ONE_BLOB and sas.version else API_VERSION


def _properties(content_md5: str | None, metadata: Mapping[str, str]) -> dict[str, str]:
    """The headers that give a blob its properties and metadata."""
    return {
        "x-ms-blob-content-type": "application/octet-stream",
        **({"x-ms-blob-content-md5": content_md5} if content_md5 else {}),
        **{_META + key: value for key, value in metadata.items()},
    }


def _wire_id(block_id: str) -> str:
    return base64.b64encode(block_id.encode()).decode("ascii")
