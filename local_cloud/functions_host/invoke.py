"""The calling of one function as the worker does it: through the converters of azure-functions."""

import asyncio
import contextvars
import json
import threading
import traceback
import uuid
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Any, cast

import azure.functions as func
from azure.functions.meta import Datum
from azurefunctions.extensions.base import get_binding_registry

from local_cloud.functions_host.app import App, Function

_OUT_OF_PROC = "\n\n$OutOfProcData$:"
_SYNC_THREADS = 8
_invocation = threading.local()


class InvocationError(Exception):
    """The function raised; the text is `Type: message`, `stack` the traceback."""

    def __init__(self, text: str, stack: str) -> None:
        super().__init__(text)
        self.stack = stack


@dataclass(frozen=True, slots=True, kw_only=True)
class HttpReply:
    """The answer of an HTTP function; a header may occur more than once."""

    status: int
    headers: tuple[tuple[str, str], ...]
    body: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class BlobReference:
    """The reference to a blob in place of its content: the protocol's `ModelBindingData`."""

    connection: str
    container: str
    name: str
    version: str = "1.0"
    source: str = "AzureStorageBlobs"
    content_type: str = "application/json"

    @property
    def content(self) -> bytes:
        """The names that the storage extension sends, as JSON."""
        names = {"Connection": self.connection, "ContainerName": self.container, "BlobName": self.name}
        return json.dumps(names).encode()


class _Context(func.Context):
    """The optional `context` parameter of a function."""

    def __init__(self, function: Function, directory: str, invocation_id: str) -> None:
        self._function = function
        self._directory = directory
        self._invocation_id = invocation_id

    @property
    def invocation_id(self) -> str:
        return self._invocation_id

    @property
    def thread_local_storage(self) -> Any:
        return _invocation

    @property
    def function_name(self) -> str:
        return self._function.name

    @property
    def function_directory(self) -> str:
        return self._directory

    @property
    def trace_context(self) -> Any:
        return None

    @property
    def retry_context(self) -> Any:
        return None


class Invoker:
    """The caller of functions: async ones on the event loop, sync ones in a pool, orchestrators in a thread.

    The real worker has one pool for the last two; here a host full of slow activities still takes steps.
    """

    def __init__(self, app: App, client_binding: Callable[[], str]) -> None:
        """`client_binding` gives the JSON text that a durable client is built from."""
        self._app = app
        self._client_binding = client_binding
        self._pool = ThreadPoolExecutor(_SYNC_THREADS, thread_name_prefix="function")
        self._orchestrators = ThreadPoolExecutor(1, thread_name_prefix="orchestrator")

    def close(self) -> None:
        """Take no more calls; calls that run now go on in their threads."""
        self._pool.shutdown(wait=False, cancel_futures=True)
        self._orchestrators.shutdown(wait=False, cancel_futures=True)

    async def activity(self, name: str, input_text: str | None) -> str | None:
        """Run an activity on JSON text, and return JSON text.

        Raises:
            InvocationError: The activity raised, or there is none of that name.
        """
        function = self._app.find("activityTrigger", name)
        if function is None:
            raise InvocationError(not_found("activity", name, self._app), "")
        result = await self._call(function, Datum(input_text or "null", "json"), {})
        try:
            return str(_converter("activityTrigger").encode(result, expected_type=None).value)
        except Exception as error:
            raise _failure(error) from error

    async def orchestrator(self, function: Function, payload: str) -> dict[str, Any]:
        """Run an orchestrator once over its history.

        The answer holds isDone and actions, and output, error, customStatus if there are any.

        Raises:
            InvocationError: The SDK itself failed: there are no actions to go by.
        """
        loop = asyncio.get_running_loop()
        context = _converter("orchestrationTrigger").decode(Datum(payload, "json"), trigger_metadata={})
        call = partial(function.code, **{function.trigger_parameter: context})
        try:
            answer = await loop.run_in_executor(self._orchestrators, call)
        except Exception as error:
            # The SDK reports an exception of the user's code by raising one that carries the answer.
            _, label, data = str(error).partition(_OUT_OF_PROC)
            if not label:
                raise _failure(error) from error
            answer = data
        return cast("dict[str, Any]", json.loads(answer))

    async def http(self, function: Function, request: Mapping[str, Any]) -> HttpReply:
        """Run an HTTP function; `request` is a dict of method, url, headers, query, params, body.

        Raises:
            InvocationError: The function raised, or answered with something that is no response.
        """
        result = await self._call(function, Datum(request, "http"), {})
        try:
            datum = _converter("http").encode(result, expected_type=None)
        except Exception as error:
            raise _failure(error) from error
        if datum.type == "string":
            body = str(datum.value).encode()
            return HttpReply(status=200, headers=(("content-type", "text/plain; charset=utf-8"),), body=body)
        value = datum.value
        headers = [(name, header.value) for name, header in value["headers"].items()]
        for jar in value["cookies"] or ():
            headers += [("Set-Cookie", morsel.OutputString()) for morsel in jar.values()]
        return HttpReply(
            status=int(value["status_code"].value), headers=tuple(headers), body=bytes(value["body"].value)
        )

    async def blob(
        self, function: Function, blob: bytes | BlobReference, metadata: Mapping[str, Datum]
    ) -> None:
        """Run a blob function on a blob's content, or on a reference if that is what it takes.

        `metadata` is the trigger's: BlobTrigger, Uri, Properties, Metadata.

        Raises:
            InvocationError: The function raised.
        """
        kind = "bytes" if isinstance(blob, bytes) else "model_binding_data"
        await self._call(function, Datum(blob, kind), metadata)

    async def timer(self, function: Function, request: Mapping[str, Any]) -> None:
        """Run a timer function; `request` is a dict of Schedule, ScheduleStatus, IsPastDue.

        Raises:
            InvocationError: The function raised.
        """
        await self._call(function, Datum(json.dumps(request), "json"), {})

    async def _call(self, function: Function, datum: Datum, metadata: Mapping[str, Datum]) -> Any:
        invocation_id = str(uuid.uuid4())
        try:
            arguments = self._arguments(function, datum, metadata, invocation_id)
            if function.is_async:
                return await function.code(**arguments)
            context = contextvars.copy_context()
            call = partial(context.run, _sync_call, function.code, arguments, invocation_id)
            return await asyncio.get_running_loop().run_in_executor(self._pool, call)
        except Exception as error:
            raise _failure(error) from error

    def _arguments(
        self, function: Function, datum: Datum, metadata: Mapping[str, Datum], invocation_id: str
    ) -> dict[str, Any]:
        trigger = _decode(function, datum, metadata)
        arguments: dict[str, Any] = {function.trigger_parameter: trigger}
        arguments |= dict.fromkeys(function.client_parameters, self._client_binding())
        if function.wants_context:
            arguments["context"] = _Context(function, str(self._app.folder), invocation_id)
        return arguments


def not_found(kind: str, name: str, app: App) -> str:
    """The extension's words for a function that does not exist."""
    known = app.of("activityTrigger") if kind == "activity" else app.of("orchestrationTrigger")
    names = ", ".join(f"'{function.durable_name}'" for function in known)
    return (
        f"The function '{name}' doesn't exist, is disabled, or is not an {kind} function. "
        f"Additional info: The following are the known {kind} functions: {names}"
    )


def _sync_call(code: Callable[..., Any], arguments: Mapping[str, Any], invocation_id: str) -> Any:
    _invocation.invocation_id = invocation_id
    try:
        return code(**arguments)
    finally:
        _invocation.invocation_id = None


def _failure(error: Exception) -> InvocationError:
    return InvocationError(f"{type(error).__name__}: {error}", "".join(traceback.format_exception(error)))


def _decode(function: Function, datum: Datum, metadata: Mapping[str, Datum]) -> Any:
    if function.reference_type is None:
        return _converter(function.trigger).decode(datum, trigger_metadata=metadata)
    registry: Any = get_binding_registry  # untyped in the extension
    converter = registry().get(function.trigger)
    return converter.decode(datum, trigger_metadata=metadata, pytype=function.reference_type)


def _converter(binding: str) -> Any:
    registry: Any = func.get_binding_registry  # untyped in the SDK
    return registry().get(binding)
