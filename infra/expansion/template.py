"""The deployment of a template and its modules: each resource once, after those it depends on."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Protocol

from infra.expansion.errors import ExpansionError, LanguageError
from infra.expansion.functions import PURE, extension_resource_id, resource_path
from infra.expansion.language import Functions, evaluate_text
from infra.expansion.parameters import check_parameter

DEPLOYMENTS = "Microsoft.Resources/deployments"
_OF_THE_TEMPLATE = frozenset({"apiVersion", "condition", "copy", "dependsOn", "name", "scope", "type"})
"""Members of a resource that are for whoever deploys it; what else there is, is sent."""

_SENT = frozenset({"identity", "kind", "location", "properties", "sku", "tags"})
_OF_A_MODULE = frozenset({"properties", "resourceGroup"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """The resource group that is deployed to."""

    subscription_id: str
    tenant_id: str
    name: str
    location: str

    @property
    def id(self) -> str:
        """The group's resource id."""
        return f"/subscriptions/{self.subscription_id}/resourceGroups/{self.name}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Resource:
    """A resource as it is sent; ``name`` is the whole one, with those of its parents before it.

    ``scope`` is the id of what it is on, for a role assignment and its like; ``place`` says where in the
    template it stands.
    """

    id: str
    type: str
    name: str
    api_version: str
    scope: str | None
    place: str
    body: Mapping[str, Any]

    @property
    def properties(self) -> Mapping[str, Any]:
        """The properties that the resource is sent with."""
        found: Mapping[str, Any] = self.body.get("properties") or {}
        return found


class Provider(Protocol):
    """The port to those who make resources: Azure's resource providers, or a stand-in for them."""

    def put(self, resource: Resource) -> Mapping[str, Any]:
        """Deploy a resource; returns what a GET answers then.

        Called once for each resource of the template, after everything that it depends on.
        """

    def get(self, resource_id: str, api_version: str) -> Mapping[str, Any]:
        """The answer to a GET of a resource that the template refers to and does not deploy.

        Raises:
            LookupError: the resource is not there.
        """

    def call(
        self, operation: str, resource_id: str, api_version: str, asked: Mapping[str, Any] | None = None
    ) -> Mapping[str, Any]:
        """The answer to a POST of an operation of a resource, such as ``listKeys``; ``asked`` is its body.

        Raises:
            LookupError: the resource is not there, or it has no such operation.
        """


@dataclass(frozen=True, slots=True, kw_only=True)
class Expansion:
    """The resources that were deployed, in that order, without modules as such; and the outputs."""

    resources: tuple[Resource, ...]
    outputs: Mapping[str, Any]

    def of_type(self, kind: str) -> list[Resource]:
        """The resources of a type."""
        return [resource for resource in self.resources if resource.type == kind]


Memory = dict[tuple[int, str, Group, str], tuple[Mapping[str, Any], tuple[Resource, ...], Mapping[str, Any]]]
"""By template (the very object), arguments, group and place: the template, what was deployed, the outputs."""


def expand(
    template: Mapping[str, Any],
    parameters: Mapping[str, Any],
    *,
    group: Group,
    provider: Provider,
    name: str = "template",
    memory: Memory | None = None,
) -> Expansion:
    """Deploy a template with values for its parameters.

    Args:
        template: the template as ARM JSON.
        parameters: the values of its parameters by name.
        group: the resource group that is deployed to.
        provider: makes the resources.
        name: the name of the deployment.
        memory: keeps modules that were deployed, for which the provider is not asked again with the same
            arguments: for many templates that differ in little.

    Raises:
        ExpansionError: a value that is missing, does not fit or is not known; a function or a form of
            template that is not known here; resources that depend on each other in a circle.
    """
    deployed: list[Resource] = []
    outputs = _Deployment(
        template, parameters, group=group, provider=provider, place=name, memory=memory
    ).run(deployed)
    return Expansion(resources=tuple(deployed), outputs=outputs)


@dataclass(slots=True, kw_only=True)
class _Instance:
    """A resource of a template, or one of those that its loop makes; ``indexes`` says which."""

    raw: Mapping[str, Any]
    indexes: Mapping[str, int]
    id: str
    name: str
    scope: str | None
    is_wanted: bool
    is_begun: bool = False
    state: Mapping[str, Any] | None = None


@dataclass(slots=True, kw_only=True)
class _Lazy:
    """Parameters or variables: each is evaluated once, when it is asked for."""

    what: str
    evaluate: Callable[[str], Any]
    known: dict[str, Any] = field(default_factory=dict)
    going_on: set[str] = field(default_factory=set)

    def __call__(self, name: str) -> Any:
        if name in self.going_on:
            raise LanguageError(f"the {self.what} {name} depends on itself")
        if name not in self.known:
            self.going_on.add(name)
            self.known[name] = self.evaluate(name)
            self.going_on.discard(name)
        return self.known[name]


class _Deployment:
    """One template with its parameters in its group."""

    def __init__(
        self,
        template: Mapping[str, Any],
        parameters: Mapping[str, Any],
        *,
        group: Group,
        provider: Provider,
        place: str,
        memory: Memory | None,
    ) -> None:
        self._template = template
        self._given = parameters
        self._group = group
        self._provider = provider
        self._place = place
        self._memory = memory
        self._deployed: list[Resource] = []
        self._parameters = _Lazy(what="parameter", evaluate=self._parameter)
        self._variables = _Lazy(what="variable", evaluate=self._variable)
        self._functions = self._functions_here()
        if "languageVersion" in template or not isinstance(template.get("resources"), list):
            raise ExpansionError(place, "templates with symbolic names are not known here")
        declared = template.get("parameters", {})
        for name in parameters.keys() - declared.keys():
            raise ExpansionError(place, f"there is no parameter {name}")
        for name in declared:
            self._at(f"parameters.{name}", partial(self._parameters, name))
        self._instances: list[_Instance] = []
        self._loops: dict[str, list[_Instance]] = {}
        for at, raw in enumerate(template["resources"]):
            self._declare(raw, f"resources[{at}]")
        self._by_id = {one.id.lower(): one for one in self._instances}

    def run(self, deployed: list[Resource]) -> dict[str, Any]:
        """Deploy all resources, each into ``deployed``; return the outputs."""
        self._deployed = deployed
        for instance in self._instances:
            self._deploy(instance)
        outputs = self._template.get("outputs", {})
        return {name: self._value(one["value"], f"outputs.{name}") for name, one in outputs.items()}

    # --- resources

    def _declare(self, raw: Mapping[str, Any], path: str) -> None:
        if "resources" in raw:
            raise ExpansionError(f"{self._place}: {path}", "resources inside a resource are not known here")
        loop = raw.get("copy")
        count = self._value(loop["count"], f"{path}.copy.count") if loop else 1
        for index in range(count):
            indexes = {"": index, loop["name"]: index} if loop else {}
            instance = self._instance(raw, path, indexes)
            self._instances.append(instance)
            if loop:
                self._loops.setdefault(loop["name"], []).append(instance)
        if loop:
            self._loops.setdefault(loop["name"], [])

    def _instance(self, raw: Mapping[str, Any], path: str, indexes: Mapping[str, int]) -> _Instance:
        name = self._value(raw["name"], f"{path}.name", indexes)
        scope = self._value(raw["scope"], f"{path}.scope", indexes) if "scope" in raw else None
        where = scope or self._group_of(raw, path, indexes)
        return _Instance(
            raw=raw,
            indexes=indexes,
            id=self._at(path, lambda: extension_resource_id(where, raw["type"], *name.split("/"))),
            name=name,
            scope=scope,
            is_wanted=self._value(raw.get("condition", True), f"{path}.condition", indexes),
        )

    def _group_of(self, raw: Mapping[str, Any], path: str, indexes: Mapping[str, int]) -> str:
        other = self._value(raw.get("resourceGroup", self._group.name), f"{path}.resourceGroup", indexes)
        return f"/subscriptions/{self._group.subscription_id}/resourceGroups/{other}"

    def _deploy(self, instance: _Instance) -> None:
        """Deploy a resource, unless that was done, after those that it depends on."""
        place = f"{self._place}: {instance.raw['type']} {instance.name}"
        if instance.state is not None or not instance.is_wanted:
            return
        if instance.is_begun:
            raise ExpansionError(place, "it depends on itself, by others")
        instance.is_begun = True
        for on in self._value(
            instance.raw.get("dependsOn", []), f"{instance.name}.dependsOn", instance.indexes
        ):
            for other in self._named(on, place):
                self._deploy(other)
        if instance.raw["type"] == DEPLOYMENTS:
            instance.state = self._deploy_module(instance)
        else:
            self._deploy_resource(instance, place)

    def _named(self, depended_on: str, place: str) -> list[_Instance]:
        if found := self._by_id.get(depended_on.lower()):
            return [found]
        if depended_on in self._loops:
            return self._loops[depended_on]
        raise ExpansionError(place, f"it depends on {depended_on}, which the template does not deploy")

    def _deploy_resource(self, instance: _Instance, place: str) -> None:
        raw = {name: value for name, value in instance.raw.items() if name not in _OF_THE_TEMPLATE}
        for unknown in raw.keys() - _SENT:
            raise ExpansionError(place, f"{unknown} is not known here")
        resource = Resource(
            id=instance.id,
            type=instance.raw["type"],
            name=instance.name,
            api_version=instance.raw["apiVersion"],
            scope=instance.scope,
            place=self._place,
            body=self._value(raw, f"{instance.raw['type']} {instance.name}", instance.indexes),
        )
        instance.state = self._provider.put(resource)
        self._deployed.append(resource)

    def _deploy_module(self, instance: _Instance) -> Mapping[str, Any]:
        path = f"{DEPLOYMENTS} {instance.name}"
        properties = dict(instance.raw["properties"])
        for unknown in instance.raw.keys() - _OF_THE_TEMPLATE - _OF_A_MODULE:
            raise ExpansionError(f"{self._place}: {path}", f"{unknown} is not known here")
        if properties.get("expressionEvaluationOptions") != {"scope": "inner"}:
            raise ExpansionError(
                f"{self._place}: {path}", "only templates with a scope of their own are known"
            )
        given = self._value(properties.get("parameters", {}), path, instance.indexes)
        outputs = self._run_module(
            properties["template"],
            {name: value["value"] for name, value in given.items()},
            group=self._inner_group(instance, path),
            place=f"{self._place}/{instance.name}",
        )
        return {"properties": {"outputs": {name: {"value": value} for name, value in outputs.items()}}}

    def _run_module(
        self, template: Mapping[str, Any], given: Mapping[str, Any], *, group: Group, place: str
    ) -> Mapping[str, Any]:
        """Deploy a module, unless that very one is remembered; return its outputs."""
        key = (id(template), repr(given), group, place)
        if self._memory is not None and key in self._memory:
            _, resources, outputs = self._memory[key]
            self._deployed += resources
            return outputs
        begun = len(self._deployed)
        inner = _Deployment(
            template, given, group=group, provider=self._provider, place=place, memory=self._memory
        )
        outputs = inner.run(self._deployed)
        if self._memory is not None:
            self._memory[key] = template, tuple(self._deployed[begun:]), outputs
        return outputs

    def _inner_group(self, instance: _Instance, path: str) -> Group:
        group_id = self._group_of(instance.raw, path, instance.indexes)
        if group_id == self._group.id:
            return self._group
        location = self._at(path, lambda: self._provider.get(group_id, "2021-04-01")["location"])
        return Group(
            subscription_id=self._group.subscription_id,
            tenant_id=self._group.tenant_id,
            name=group_id.rpartition("/")[2],
            location=location,
        )

    # --- values

    def _parameter(self, name: str) -> Any:
        declared = self._template.get("parameters", {}).get(name)
        if declared is None:
            raise LanguageError(f"there is no parameter {name}")
        if name in self._given:
            value = self._given[name]
        elif "defaultValue" in declared:
            value = self._value(declared["defaultValue"], f"parameters.{name}")
        else:
            raise LanguageError("a value is missing")
        check_parameter(value, declared)
        return value

    def _variable(self, name: str) -> Any:
        declared = self._template.get("variables", {})
        if name in declared and name != "copy":
            return self._value(declared[name], f"variables.{name}")
        for loop in declared.get("copy", []):
            if loop["name"] == name:
                return self._looped(loop, f"variables.{name}", {})
        raise LanguageError(f"there is no variable {name}")

    def _value(self, raw: Any, path: str, indexes: Mapping[str, int] | None = None) -> Any:
        indexes = indexes or {}
        match raw:
            case str() if not raw.startswith("["):
                return raw
            case str():
                functions = self._in_loop(indexes) if indexes else self._functions
                return self._at(path, lambda: evaluate_text(raw, functions))
            case list():
                return [self._value(one, f"{path}[{at}]", indexes) for at, one in enumerate(raw)]
            case {"copy": list(loops), **rest}:
                looped = {one["name"]: self._looped(one, f"{path}.{one['name']}", indexes) for one in loops}
                return {**self._value(rest, path, indexes), **looped}
            case dict():
                return {
                    self._value(name, path, indexes): self._value(value, f"{path}.{name}", indexes)
                    for name, value in raw.items()
                }
        return raw

    def _looped(self, loop: Mapping[str, Any], path: str, indexes: Mapping[str, int]) -> list[Any]:
        count = self._value(loop["count"], path, indexes)
        return [
            self._value(loop["input"], f"{path}[{index}]", {**indexes, loop["name"]: index})
            for index in range(count)
        ]

    def _at(self, path: str, work: Callable[[], Any]) -> Any:
        """What ``work`` returns; what it cannot do is told with the place."""
        try:
            return work()
        except (LanguageError, LookupError, ValueError) as error:
            raise ExpansionError(f"{self._place}: {path}", str(error)) from error

    # --- functions that know where they are called

    def _in_loop(self, indexes: Mapping[str, int]) -> Functions:
        """The functions, for the resource of a loop that ``indexes`` says."""
        return {
            **self._functions,
            "copyindex": lambda name="", offset=0: self._index(indexes, name, offset),
        }

    def _functions_here(self) -> Functions:
        subscription = f"/subscriptions/{self._group.subscription_id}"
        return {
            **PURE,
            "copyindex": lambda name="", offset=0: self._index({}, name, offset),
            **{name.lower(): partial(self._provider.call, name) for name in ("listKeys", "listServiceSas")},
            "parameters": self._parameters,
            "reference": self._reference,
            "resourcegroup": lambda: {
                "id": self._group.id,
                "name": self._group.name,
                "location": self._group.location,
            },
            "resourceid": self._resource_id,
            "subscription": lambda: {
                "id": subscription,
                "subscriptionId": self._group.subscription_id,
                "tenantId": self._group.tenant_id,
            },
            "subscriptionresourceid": lambda *names: f"{subscription}/{resource_path(*names)}",
            "tenant": lambda: {"tenantId": self._group.tenant_id},
            "variables": self._variables,
        }

    @staticmethod
    def _index(indexes: Mapping[str, int], name: str | int, offset: int) -> int:
        return indexes[""] + name if isinstance(name, int) else indexes[name] + offset

    def _resource_id(self, *words: str) -> str:
        at = next(at for at, word in enumerate(words) if "/" in word)
        subscription, group = (self._group.subscription_id, self._group.name, *words[:at])[-2:]
        scope = f"/subscriptions/{subscription}/resourceGroups/{group}"
        return extension_resource_id(scope, *words[at:])

    def _reference(self, resource_id: str, api_version: str = "", detail: str = "") -> Any:
        instance = self._by_id.get(resource_id.lower())
        if instance is None:
            state = self._provider.get(resource_id, api_version)
        else:
            self._deploy(instance)
            if instance.state is None:
                raise LanguageError(f"{resource_id} is not deployed: its condition does not hold")
            state = instance.state
        return state if detail.lower() == "full" else state["properties"]
