"""The ARM template that a Bicep file and its modules make up."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from infra.bicep import tree
from infra.bicep.errors import BicepError
from infra.bicep.expressions import (
    DEPLOYMENTS,
    DEPLOYMENTS_API_VERSION,
    OF_THE_DEPLOYED,
    Target,
    Writer,
)
from infra.bicep.parser import parse
from infra.bicep.tree import Expression

SCHEMA = "https://schema.management.azure.com/schemas/2019-04-01/deploymentTemplate.json#"
_NOT_PROPERTIES = frozenset({"name", "parent", "scope", "dependsOn"})
_OF_MODULE = frozenset({"name", "scope", "params", "dependsOn"})
_LIMITS = ("minValue", "maxValue", "minLength", "maxLength")


class CompilationError(Exception):
    """The file could not be compiled; the message is ``file: line n, column m: what``."""


def compile_file(path: Path) -> dict[str, Any]:
    """Compile a Bicep file to its ARM template, with the templates of its modules in it.

    Raises:
        CompilationError: the file, or one of its modules, is no Bicep or uses what is not known here.
    """
    return _compile(path, above=())


def _compile(path: Path, *, above: tuple[Path, ...]) -> dict[str, Any]:
    """Compile a module, as :func:`compile_file` does; the files ``above`` it take it in."""
    try:
        return _File(path, parse(path.read_text(encoding="utf-8")), above).template()
    except BicepError as error:
        raise CompilationError(f"{path.name}: {error}") from None
    except (OSError, UnicodeDecodeError) as error:
        raise CompilationError(f"{path.name} cannot be read: {error}") from None


@dataclass(frozen=True, slots=True)
class _File:
    path: Path
    declarations: tuple[tree.Declaration, ...]
    above: tuple[Path, ...]
    writer: Writer = field(init=False)

    def __post_init__(self) -> None:
        declared: dict[str, tree.Declaration] = {}
        outputs: dict[str, tree.Declaration] = {}
        for one in self.declarations:
            names = outputs if isinstance(one, tree.Output) else declared
            if one.name in names:
                raise BicepError(one.place, f"{one.name} is declared twice")
            names[one.name] = one
        object.__setattr__(self, "writer", Writer(declared=declared))

    def template(self) -> dict[str, Any]:
        """The whole, in the order in which Microsoft's compiler writes it."""
        resources = [self._resource(one) for one in self._of(tree.Resource) if not one.is_existing] + [
            self._module(one) for one in self._of(tree.Module)
        ]
        parts = {
            "parameters": {one.name: self._parameter(one) for one in self._of(tree.Parameter)},
            "variables": self._variables(),
            "resources": resources,
            "outputs": {one.name: self._output(one) for one in self._of(tree.Output)},
        }
        kept = {name: part for name, part in parts.items() if part or name == "resources"}
        return {"$schema": SCHEMA, "contentVersion": "1.0.0.0", **kept}

    def _of(self, kind: type[tree.T]) -> Iterator[tree.T]:
        return (one for one in self.declarations if isinstance(one, kind))

    def _parameter(self, parameter: tree.Parameter) -> dict[str, Any]:
        found: dict[str, Any] = {"type": parameter.type}
        if parameter.default is not None:
            found["defaultValue"] = self.writer.json(parameter.default)
        for name, arguments in parameter.decorators.items():
            found |= self._decorated(parameter, name, arguments)
        return found

    def _output(self, output: tree.Output) -> dict[str, Any]:
        found: dict[str, Any] = {"type": output.type}
        for name, arguments in output.decorators.items():
            found |= self._decorated(output, name, arguments)
        return {**found, "value": self.writer.json(output.value)}

    def _decorated(
        self, declared: tree.Parameter | tree.Output, name: str, arguments: tuple[Expression, ...]
    ) -> dict[str, Any]:
        match name, [self.writer.json(one) for one in arguments]:
            case "description", [text]:
                return {"metadata": {"description": text}}
            case "allowed", [values]:
                return {"allowedValues": values}
            case "secure", [] if declared.type in {"string", "object"}:
                return {"type": {"string": "securestring", "object": "secureObject"}[declared.type]}
            case limit, [number] if limit in _LIMITS:
                return {limit: number}
        raise BicepError(declared.place, f"@{name}, as it stands there, is not known here")

    def _variables(self) -> dict[str, Any]:
        found: dict[str, Any] = {}
        loops = []
        for variable in self._of(tree.Variable):
            if not OF_THE_DEPLOYED.isdisjoint(tree.functions_in(variable.value)):
                raise BicepError(variable.place, f"{variable.name} needs keys: not known of a variable here")
            if used := next(self.writer.used(variable.value), None):
                name = used[0].declared.name
                raise BicepError(
                    variable.place, f"{variable.name} needs {name}: not known of a variable here"
                )
            if isinstance(variable.value, tree.Loop):
                loops.append(self.writer.loop(variable.name, variable.value))
            else:
                found[variable.name] = self.writer.json(variable.value)
        return {"copy": loops, **found} if loops else found

    # --- resources

    def _resource(self, resource: tree.Resource) -> dict[str, Any]:
        found = self._head(resource)
        inner = self.writer.element(resource)
        found |= {"type": resource.type, "apiVersion": resource.api_version}
        scope = resource.body.get("scope")
        if scope is not None:
            above = inner.target(scope)
            if above is None:
                raise BicepError(scope.place, "the scope of a resource is a resource")
            found["scope"] = f"[{inner.id(above)}]"
        found["name"] = self._full_name(resource, inner)
        for key, value in resource.body.items:
            name = inner.json(key)
            if name in _NOT_PROPERTIES:
                continue
            if isinstance(value, tree.Loop):
                raise BicepError(value.place, "a loop just below a resource is not known here")
            found[name] = inner.json(value)
        return found | self._dependencies(resource, inner)

    def _head(self, declared: tree.Resource | tree.Module) -> dict[str, Any]:
        """What stands before the type: on what condition, and how often."""
        found: dict[str, Any] = {}
        if declared.condition is not None:
            inner = self.writer.element(declared)
            found["condition"] = inner.json(declared.condition)
        if declared.loop is not None:
            found["copy"] = {
                "name": declared.name,
                "count": f"[length({self.writer.text(declared.loop.over)})]",
            }
        if isinstance(declared, tree.Resource):
            found |= self._serial(declared)
        return found

    def _serial(self, resource: tree.Resource) -> dict[str, Any]:
        """The ``copy`` of a loop with ``@batchSize``: so many at a time, one batch after the other."""
        match dict(resource.decorators):
            case {**rest} if not rest:
                return {}
            case {"batchSize": (tree.Literal(value=int(size)),), **rest} if resource.loop and not rest:
                over = self.writer.text(resource.loop.over)
                return {
                    "copy": {
                        "name": resource.name,
                        "count": f"[length({over})]",
                        "mode": "serial",
                        "batchSize": size,
                    }
                }
        raise BicepError(resource.place, "of a resource, only @batchSize(n) of a loop is known here")

    def _full_name(self, resource: tree.Resource, inner: Writer) -> Any:
        names = inner.names(Target(declared=resource, at=None))
        if len(names) == 1:
            return inner.json(_require(resource, "name"))
        pattern = "/".join(f"{{{number}}}" for number in range(len(names)))
        return f"[format('{pattern}', {', '.join(names)})]"

    def _module(self, module: tree.Module) -> dict[str, Any]:
        for key, _ in module.body.items:
            if not (isinstance(key, tree.Literal) and key.value in _OF_MODULE):
                raise BicepError(
                    key.place, f"of a module, only {', '.join(sorted(_OF_MODULE))} are known here"
                )
        template = self._template_of(module)
        found = self._head(module)
        inner = self.writer.element(module)
        found |= {
            "type": DEPLOYMENTS,
            "apiVersion": DEPLOYMENTS_API_VERSION,
            "name": inner.json(_require(module, "name")),
        }
        match module.body.get("scope"):
            case None:
                pass
            case tree.Call(function="resourceGroup", arguments=(group,)):
                found["resourceGroup"] = inner.json(group)
            case other:
                raise BicepError(other.place, "the scope of a module is resourceGroup(name)")
        found["properties"] = {
            "expressionEvaluationOptions": {"scope": "inner"},
            "mode": "Incremental",
            **self._arguments(module, inner, template.get("parameters", {})),
            "template": template,
        }
        return found | self._dependencies(module, inner)

    def _template_of(self, module: tree.Module) -> dict[str, Any]:
        """The template of a module's own file."""
        above = (*self.above, self.path.resolve())
        path = self.path.parent / module.path
        if path.suffix != ".bicep":
            raise BicepError(module.place, f"the module {module.path} is no .bicep file: not known here")
        if path.resolve() in above:
            raise BicepError(module.place, f"the module {module.path} is a module of itself")
        return _compile(path, above=above)

    def _arguments(self, module: tree.Module, inner: Writer, wanted: Mapping[str, Any]) -> dict[str, Any]:
        """The values that a module is given: what it asks for, and nothing else."""
        params = module.body.get("params")
        match params:
            case None:
                given: dict[str, Any] = {}
            case tree.Object(items=items):
                given = {inner.json(key): _argument(inner, value) for key, value in items}
            case other:
                raise BicepError(other.place, "the params of a module are an object")
        if superfluous := sorted(given.keys() - wanted.keys()):
            raise BicepError(module.place, f"{module.path} has no parameter {superfluous[0]}")
        needed = {name for name, parameter in wanted.items() if "defaultValue" not in parameter}
        if missing := sorted(needed - given.keys()):
            raise BicepError(module.place, f"{module.path} is not given its parameter {missing[0]}")
        return {"parameters": given} if given else {}

    def _dependencies(self, declared: tree.Resource | tree.Module, inner: Writer) -> dict[str, Any]:
        needed: dict[str, str] = {}
        for target, writer in self._needed(declared, inner):
            if target.declared.loop is not None and target.at is None:
                needed[target.declared.name] = target.declared.name  # the whole loop, by its name
            else:
                needed[f"[{writer.id(target)}]"] = target.declared.name
        ordered = sorted(needed, key=lambda one: needed[one].lower())
        return {"dependsOn": ordered} if ordered else {}

    def _needed(
        self, declared: tree.Resource | tree.Module, inner: Writer
    ) -> Iterator[tuple[Target, Writer]]:
        """What must be deployed before; for what exists already, whatever that is named by."""
        expressions: list[Expression] = [declared.body]
        expressions += [] if declared.condition is None else [declared.condition]
        found = [used for one in expressions for used in inner.used(one)]
        if declared.loop is not None:
            found += self.writer.used(declared.loop.over)
        for target, writer in found:
            if isinstance(target.declared, tree.Resource) and target.declared.is_existing:
                yield from self._needed(target.declared, writer.element(target.declared))
            elif target.declared is not declared:
                yield target, writer


def _require(declared: tree.Resource | tree.Module, name: str) -> Expression:
    value = declared.body.get(name)
    if value is None:
        raise BicepError(declared.place, f"{declared.name} has no {name}")
    return value


def _argument(writer: Writer, value: Expression) -> dict[str, Any] | str:
    """A module's argument. Of a choice, each value is wrapped by itself: the whole must be an object."""
    match value:
        case tree.Call(function="if"):
            return f"[{_wrapped(writer, value)}]"
        case tree.Loop():
            return {"copy": [writer.loop("value", value)]}
    return {"value": writer.json(value)}


def _wrapped(writer: Writer, value: Expression) -> str:
    match value:
        case tree.Call(function="if", arguments=(condition, chosen, other)):
            return f"if({writer.text(condition)}, {_wrapped(writer, chosen)}, {_wrapped(writer, other)})"
    return f"createObject('value', {writer.text(value)})"
