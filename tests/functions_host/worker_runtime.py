"""Indexes and calls an app through Microsoft's own worker library, azure-functions-runtime, in this process.

The library is what Azure runs on Python 3.13 and later. It refuses what a naive host accepts, and in
production one refused function means an app with none. It exists for 3.13 and later only: `is_available`
says whether it is here.

    with worker(app_folder) as running:
        running.functions                             # names and bindings, as the host would get them
        await running.call("double", number=json_datum(4))
"""

import asyncio
import importlib
import importlib.util
import json
import os
import sys
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any
from unittest.mock import patch

_LIBRARY = "azure_functions_runtime"
_ENTRY = "function_app"


class IndexingRefusedError(Exception):
    """The worker would run this app with no function at all; the text is its reason."""


class CallFailedError(Exception):
    """The function raised, or gave something that its binding does not take."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerFunction:
    """One function as the worker reports it to the host; the first binding of a kind is its trigger."""

    name: str
    function_id: str
    bindings: tuple[Mapping[str, Any], ...]

    @property
    def trigger(self) -> str:
        return next(str(item["type"]) for item in self.bindings if str(item["type"]).endswith("Trigger"))


def is_available() -> bool:
    """The library is installed, which needs Python 3.13."""
    return importlib.util.find_spec(_LIBRARY) is not None


def json_datum(value: object) -> Any:
    """A value as JSON, as activities and orchestrators get theirs."""
    return _datum(json.dumps(value), "json")


def text_datum(text: str) -> Any:
    """A text as it is."""
    return _datum(text, "string")


def bytes_datum(content: bytes) -> Any:
    """Bytes, as blobs and HTTP bodies come."""
    return _datum(content, "bytes")


def http_datum(method: str, url: str, body: bytes = b"", **route_parameters: str) -> Any:
    """An HTTP request."""
    value = {
        "method": text_datum(method),
        "url": text_datum(url),
        "headers": {},
        "query": {},
        "params": {name: text_datum(text) for name, text in route_parameters.items()},
        "body": bytes_datum(body),
    }
    return _datum(value, "http")


class Worker:
    """A loaded app."""

    def __init__(self, functions: Mapping[str, WorkerFunction]) -> None:
        self.functions = functions

    async def call(self, name: str, /, *, metadata: Mapping[str, Any] | None = None, **inputs: Any) -> Any:
        """Calls a function with one datum for each bound parameter; gives the value of what it returned.

        Raises:
            CallFailedError: The traceback is its text.
        """
        native = importlib.import_module(f"{_LIBRARY}.native_invocation")
        ok, returned, _, text, stack = await native.invocation_request_native(
            str(uuid.uuid4()), self.functions[name].function_id, list(inputs.items()), dict(metadata or {})
        )
        if not ok:
            raise CallFailedError(stack or text)
        return None if returned is None else returned.value

    def decode(self, name: str, parameter: str, reference: object) -> Any:
        """What the function gets for a parameter when the host sends a reference for it.

        By the way of protobuf, the one that knows references; the message is a bag of attributes.
        """
        meta = importlib.import_module(f"{_LIBRARY}.bindings.meta")
        functions = importlib.import_module(f"{_LIBRARY}.handle_event")._functions
        declared = functions.get_function(self.functions[name].function_id).input_types[parameter]
        data = SimpleNamespace(
            WhichOneof=lambda _: "model_binding_data", model_binding_data=reference, TypedData=None
        )
        data.TypedData = data
        return meta.from_incoming_proto(
            declared.binding_name,
            SimpleNamespace(WhichOneof=lambda _: "data", data=data),
            pytype=declared.pytype,
            trigger_metadata=None,
            function_name=name,
            is_deferred_binding=declared.deferred_bindings_enabled,
        )


@contextmanager
def worker(folder: Path, environment: Mapping[str, str] | None = None) -> Iterator[Worker]:
    """Loads the app in `folder` as the worker does at its start, with these app settings.

    Raises:
        IndexingRefusedError: The app would have no functions in Azure.
    """
    events: Any = importlib.import_module(f"{_LIBRARY}.handle_event")
    pool = importlib.import_module(f"{_LIBRARY}.utils.threadpool")
    with patch.dict(os.environ, environment or {}), _fresh_imports(folder):
        events._functions._functions.clear()
        events._metadata_result = None
        pool.start_threadpool_executor()
        try:
            yield Worker(asyncio.run(_index(events, folder)))
        finally:
            pool.stop_threadpool_executor()


async def _index(events: Any, folder: Path) -> dict[str, WorkerFunction]:
    request = SimpleNamespace(
        request=SimpleNamespace(
            worker_init_request=SimpleNamespace(capabilities={}, function_app_directory=str(folder))
        ),
        properties={"host": "127.0.0.1", "protos": _protos()},
    )
    answer = await events.worker_init_request(request)
    if answer.result.status != _Status.Success:
        raise IndexingRefusedError(answer.result.exception.message)
    listed = (await events.functions_metadata_request(request)).function_metadata_results
    if not listed:
        raise IndexingRefusedError("zero functions, without an error")
    return {
        item.name: WorkerFunction(
            name=item.name,
            function_id=item.function_id,
            bindings=tuple(json.loads(binding) for binding in item.raw_bindings),
        )
        for item in listed
    }


class _Status(SimpleNamespace):
    """Stands for the protobuf message StatusResult."""

    Success = 1
    Failure = 0


class _BindingInfo(SimpleNamespace):
    """Stands for the protobuf message BindingInfo, whose directions the indexer compares."""

    # `in` is a keyword: protobuf sets it all the same.
    locals()["in"] = 0
    out = 1
    inout = 2
    undefined = 0


def _protos() -> SimpleNamespace:
    plain = ("WorkerInitResponse", "FunctionMetadataResponse", "RpcFunctionMetadata", "RpcException")
    return SimpleNamespace(
        StatusResult=_Status,
        BindingInfo=_BindingInfo,
        WorkerMetadata=SimpleNamespace,
        RpcRetryOptions=SimpleNamespace,
        **dict.fromkeys(plain, SimpleNamespace),
    )


@contextmanager
def _fresh_imports(folder: Path) -> Iterator[None]:
    """The app is imported anew from `folder`; whatever went by its name before is put back."""

    def take_out() -> dict[str, ModuleType]:
        names = [name for name in sys.modules if name.partition(".")[0] == _ENTRY]
        return {name: sys.modules.pop(name) for name in names}

    path, before = list(sys.path), take_out()
    sys.path.insert(0, str(folder))
    importlib.invalidate_caches()
    try:
        yield
    finally:
        sys.path[:] = path
        take_out()
        sys.modules.update(before)


def _datum(value: object, kind: str) -> Any:
    return importlib.import_module(f"{_LIBRARY}.bindings.datumdef").Datum(value, kind)
