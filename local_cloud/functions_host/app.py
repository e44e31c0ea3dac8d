"""The loading of a function app: what it declares is told, and what cannot run here is refused."""

import importlib
import inspect
import json
import os
import re
import sys
import traceback
import typing
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import azure.functions as func
from azurefunctions.extensions.base import get_binding_registry

Trigger = Literal["httpTrigger", "activityTrigger", "orchestrationTrigger", "blobTrigger", "timerTrigger"]

_TRIGGERS: frozenset[str] = frozenset(get_args(Trigger))
_BINDINGS: frozenset[str] = frozenset({"http", "durableClient"})
_MAX_HOST_JSON_BYTES = 1 << 20


class AppError(Exception):
    """The app, or its host.json, cannot be run here; the text says what to change."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Function:
    """One declared function. `settings` are the trigger's own (route, methods, path, connection, ...)."""

    name: str
    code: Callable[..., Any]
    trigger: Trigger
    trigger_parameter: str
    settings: Mapping[str, Any]
    client_parameters: frozenset[str]
    """Parameters that receive a durable client."""
    wants_context: bool
    reference_type: type | None = None
    """What refers to the blob, where the trigger's parameter asks for a reference and not for the content."""

    @property
    def is_async(self) -> bool:
        """Whether the code is a coroutine function, which runs on the event loop."""
        return inspect.iscoroutinefunction(self.code)

    @property
    def durable_name(self) -> str:
        """The name under which orchestrators call an activity or a sub-orchestration."""
        own = self.settings.get("activity") or self.settings.get("orchestration")
        return str(own) if own else self.name


@dataclass(frozen=True, slots=True, kw_only=True)
class HostSettings:
    """The settings that this host reads from host.json; everything else in it is ignored."""

    route_prefix: str = "api"
    max_activities: int = 10
    max_orchestrators: int = 5
    poison_blob_threshold: int = 5
    task_hub: str = "TestHubName"
    default_version: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class App:
    """The functions of one app, and its settings."""

    functions: tuple[Function, ...]
    settings: HostSettings
    folder: Path

    def of(self, trigger: Trigger) -> tuple[Function, ...]:
        """The functions that have that trigger."""
        return tuple(function for function in self.functions if function.trigger == trigger)

    def find(self, trigger: Trigger, durable_name: str) -> Function | None:
        """The activity or orchestrator of that name; case is ignored, as in Azure."""
        wanted = durable_name.lower()
        return next(
            (function for function in self.of(trigger) if function.durable_name.lower() == wanted), None
        )


def load_app(folder: Path) -> App:
    """Imports `function_app` from `folder`, as the worker does, and lists its functions.

    Raises:
        AppError: Its import fails, there is no single app object, or something is not supported here.
    """
    if not (folder / "function_app.py").is_file():
        raise AppError(f"{folder} has no function_app.py: the worker would find no functions")
    sys.path.insert(0, str(folder))
    try:
        module = importlib.import_module("function_app")
    except Exception as error:
        place = traceback.extract_tb(error.__traceback__)[-1]
        where = f"{Path(place.filename).name}:{place.lineno}"
        text = f"function_app cannot be imported: {type(error).__name__} in {where}: {error}"
        raise AppError(text) from error
    apps = [
        value for name in dir(module) if isinstance(value := getattr(module, name), func.FunctionRegister)
    ]
    if len(apps) != 1:
        raise AppError(f"function_app must hold one app object, found {len(apps)}")
    return index(apps[0], read_host_settings(folder / "host.json"), folder)


def index(register: func.FunctionRegister, settings: HostSettings, folder: Path = Path()) -> App:
    """Lists the functions of an app object; the SDK allows it only once per object.

    Raises:
        AppError: An unsupported trigger, binding or parameter, or no function at all.
    """
    try:
        declared = register.get_functions()
    except ValueError as error:
        raise AppError(f"The app cannot be indexed: {error}") from error
    if not declared:
        raise AppError("The app declares no function")
    return App(functions=tuple(_function(item) for item in declared), settings=settings, folder=folder)


def _function(declared: Any) -> Function:
    name, code, trigger = declared.get_function_name(), declared.get_user_function(), declared.get_trigger()
    if trigger is None or trigger.type not in _TRIGGERS:
        kind = "no trigger" if trigger is None else f"trigger {trigger.type}"
        raise AppError(f"Function {name}: {kind} is not built into the local Functions host")
    others = [binding for binding in declared.get_bindings() if binding is not trigger]
    for binding in others:
        if binding.type not in _BINDINGS:
            raise AppError(
                f"Function {name}: binding {binding.type} is not built into the local Functions host"
            )
    clients = frozenset(binding.name for binding in others if binding.type == "durableClient")
    parameters = set(inspect.signature(code).parameters)
    if trigger.name not in parameters or not clients <= parameters:
        raise AppError(f"Function {name}: a bound parameter is missing from its signature")
    if extra := parameters - {trigger.name, "context"} - clients:
        raise AppError(f"Function {name}: parameters {sorted(extra)} are bound to nothing")
    if clients and not inspect.iscoroutinefunction(code):
        raise AppError(f"Function {name}: a function with a durable client must be async")
    return Function(
        name=name,
        code=code,
        trigger=trigger.type,
        trigger_parameter=trigger.name,
        settings=trigger.get_dict_repr(),
        client_parameters=clients,
        wants_context="context" in parameters and trigger.name != "context",
        reference_type=_reference_type(name, code, trigger) if trigger.type == "blobTrigger" else None,
    )


def _reference_type(name: str, code: Callable[..., Any], trigger: Any) -> type | None:
    """The parameter's annotation, if the worker would report it as one that takes a reference."""
    try:
        annotation = typing.get_type_hints(code).get(trigger.name)
    except NameError as error:
        raise AppError(f"Function {name}: an annotation cannot be resolved: {error}") from error
    registry: Any = get_binding_registry  # untyped in the extension
    return annotation if registry().check_supported_type(annotation) else None


def read_host_settings(path: Path) -> HostSettings:
    """Reads host.json; a missing file means defaults.

    Raises:
        AppError: Not JSON, not version 2.0, or a value of the wrong kind.
    """
    try:
        raw = path.read_bytes()
    except FileNotFoundError:
        return HostSettings()
    if len(raw) > _MAX_HOST_JSON_BYTES:
        raise AppError("host.json is larger than 1 MiB")
    try:
        document = json.loads(raw)
    except ValueError as error:
        raise AppError(f"host.json is not JSON: {error}") from error
    if not isinstance(document, dict) or document.get("version") != "2.0":
        raise AppError('host.json must say "version": "2.0"')
    durable = _section(document, "durableTask")
    return HostSettings(
        route_prefix=_text(_section(document, "http"), "routePrefix", "api").strip("/"),
        max_activities=_count(durable, "maxConcurrentActivityFunctions", 10),
        max_orchestrators=_count(durable, "maxConcurrentOrchestratorFunctions", 5),
        poison_blob_threshold=_count(_section(document, "blobs"), "poisonBlobThreshold", 5),
        task_hub=resolve_settings(_text(durable, "hubName", "TestHubName")),
        default_version=_text(durable, "defaultVersion", ""),
    )


def resolve_settings(text: str, environment: Mapping[str, str] = os.environ) -> str:
    """Replaces each `%NAME%` by the app setting of that name.

    Raises:
        AppError: There is no such setting.
    """

    def value(match: re.Match[str]) -> str:
        if match[1] not in environment:
            raise AppError(f"{text!r} names the app setting {match[1]}, which does not exist")
        return environment[match[1]]

    return re.sub(r"%([^%]+)%", value, text)


def _section(document: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    extensions = document.get("extensions", {})
    section = extensions.get(name, {}) if isinstance(extensions, dict) else None
    if not isinstance(section, dict):
        raise AppError(f"host.json: extensions.{name} must be an object")
    return section


def _text(section: Mapping[str, Any], name: str, default: str) -> str:
    value = section.get(name, default)
    if not isinstance(value, str):
        raise AppError(f"host.json: {name} must be a text")
    return value


def _count(section: Mapping[str, Any], name: str, default: int) -> int:
    value = section.get(name, default)
    if type(value) is not int or value < 1:
        raise AppError(f"host.json: {name} must be a whole number from 1")
    return value
