"""The writing of Bicep expressions in ARM's template language, and of the ids of resources that they name.

Properties of a deployed resource come by ``reference``. Its id and its name are put together instead, so that
they can be used where a resource that is not deployed yet must not be asked.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Self

from infra.bicep import tree
from infra.bicep.errors import BicepError
from infra.bicep.tree import Expression

DEPLOYMENTS = "Microsoft.Resources/deployments"
DEPLOYMENTS_API_VERSION = "2025-04-01"
"""That Microsoft's compiler writes."""

FUNCTIONS = frozenset(
    {
        *(
            "add",
            "and",
            "base64",
            "coalesce",
            "concat",
            "contains",
            "div",
            "empty",
            "endsWith",
            "environment",
        ),
        *(
            "environment",
            "equals",
            "first",
            "format",
            "greater",
            "greaterOrEquals",
            "guid",
            "if",
            "int",
            "join",
            "last",
        ),
        *("listKeys", "listServiceSas"),
        *("length", "less", "lessOrEquals", "max", "min", "mod", "mul", "not", "or", "range", "replace"),
        *("resourceGroup", "split", "startsWith", "string", "sub", "subscription", "subscriptionResourceId"),
        *("substring", "take", "tenant", "toLower", "toUpper", "trim", "union", "uniqueString"),
    }
)
"""What templates may call; all but `OF_THE_DEPLOYED` are worth the same before and after a deployment."""

OF_THE_DEPLOYED = frozenset({"listKeys", "listServiceSas"})
"""Operations of a resource, which must be there."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """A resource or module that an expression names; if it is in a loop, ``at`` says which one."""

    declared: tree.Resource | tree.Module
    at: Expression | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Writer:
    """A writer of the expressions of one file.

    ``bound`` has the names of the loops' variables, with the text that is written for each.
    """

    declared: Mapping[str, tree.Declaration]
    bound: Mapping[str, str] = field(default_factory=dict)

    # --- values

    def text(self, expression: Expression) -> str:
        """The text of an expression, without the brackets round it.

        Raises:
            BicepError: a name that is not declared, a function or a use that is not known here.
        """
        match expression:
            case tree.Literal(value=value):
                written = _literal(value)
            case tree.Interpolation():
                written = self._format(expression)
            case tree.Name():
                written = self._name(expression)
            case tree.Property():
                written = self._property(expression)
            case tree.Index():
                written = self._index(expression)
            case tree.Call():
                written = self._call(expression)
            case tree.Array():
                written = f"createArray({self._list(expression.items)})"
            case tree.Object():
                written = f"createObject({self._list(part for item in expression.items for part in item)})"
            case tree.Loop():
                raise BicepError(expression.place, "a loop is not known here")
        return written

    def json(self, expression: Expression) -> Any:
        """The value of an expression as the template has it: JSON where possible, else in brackets.

        Raises as :meth:`text`.
        """
        match expression:
            case tree.Literal(value=str(text)):
                return "[" + text if text.startswith("[") and text.endswith("]") else text
            case tree.Literal(value=value):
                return value
            case tree.Array():
                return [self.json(item) for item in expression.items]
            case tree.Object():
                return self._object(expression)
        return self.bracketed(expression)

    def bracketed(self, expression: Expression) -> str:
        """The text of an expression in the brackets by which ARM knows one.

        Raises as :meth:`text`.
        """
        return f"[{self.text(expression)}]"

    def loop(self, name: str, loop: tree.Loop) -> dict[str, Any]:
        """The member ``copy`` for a loop over values, which make up the array ``name``.

        Raises as :meth:`text`.
        """
        over = self.text(loop.over)
        inner = self._in_loop(loop, f"copyIndex('{name}')")
        return {"name": name, "count": f"[length({over})]", "input": inner.json(loop.body)}

    def _object(self, value: tree.Object) -> dict[str, Any]:
        members: dict[str, Any] = {}
        loops: list[dict[str, Any]] = []
        for key, item in value.items:
            name = self.json(key)
            if isinstance(item, tree.Loop):
                loops.append(self.loop(name, item))
            else:
                members[name] = self.json(item)
        return {"copy": loops, **members} if loops else members

    def _format(self, text: tree.Interpolation) -> str:
        pattern = ""
        values: list[str] = []
        for piece in text.pieces:
            if isinstance(piece, str):
                pattern += piece.replace("{", "{{").replace("}", "}}").replace("'", "''")
            else:
                pattern += f"{{{len(values)}}}"
                values.append(self.text(piece))
        arguments = ", ".join([f"'{pattern}'", *values])
        return f"format({arguments})"

    def _name(self, name: tree.Name) -> str:
        if name.name in self.bound:
            return self.bound[name.name]
        match self.declared.get(name.name):
            case tree.Parameter():
                return f"parameters('{name.name}')"
            case tree.Variable():
                return f"variables('{name.name}')"
            case None:
                raise BicepError(name.place, f"{name.name} is not declared")
        raise BicepError(name.place, f"{name.name} is no value here: name one of its properties")

    def _index(self, expression: tree.Index) -> str:
        if self.target(expression) is not None:
            raise BicepError(expression.place, "a whole resource is no value here")
        return f"{self.text(expression.of)}[{self.text(expression.at)}]"

    def _property(self, expression: tree.Property) -> str:
        target = self.target(expression.of)
        if target is not None:
            return self._property_of(target, expression)
        if isinstance(expression.of, tree.Property) and expression.of.name == "outputs":
            module = self.target(expression.of.of)
            if module is not None and isinstance(module.declared, tree.Module):
                return f"{self._reference(module, is_full=False)}.outputs.{expression.name}.value"
        return f"{self.text(expression.of)}.{expression.name}"

    def _property_of(self, target: Target, expression: tree.Property) -> str:
        name, declared = expression.name, target.declared
        if name == "id":
            return self.id(target)
        if name == "name":
            return self.names(target)[-1]
        if isinstance(declared, tree.Module):
            raise BicepError(expression.place, f"{name} of a module is not known here")
        if name == "type":
            return f"'{declared.type}'"
        if name == "properties":
            return self._reference(target, is_full=False)
        return f"{self._reference(target, is_full=True)}.{name}"

    def _call(self, call: tree.Call) -> str:
        if call.function not in FUNCTIONS:
            raise BicepError(call.place, f"the function {call.function} is not known here")
        return f"{call.function}({self._list(call.arguments)})"

    def _list(self, expressions: "Iterator[Expression] | tuple[Expression, ...]") -> str:
        return ", ".join(self.text(one) for one in expressions)

    # --- resources

    def target(self, expression: Expression) -> Target | None:
        """The resource or module that an expression names; ``None`` if it names none."""
        match expression:
            case tree.Name(name=name) if name not in self.bound:
                declared = self.declared.get(name)
                if isinstance(declared, tree.Resource | tree.Module):
                    return Target(declared=declared, at=None)
            case tree.Index(of=of, at=at):
                whole = self.target(of)
                if whole is not None and whole.declared.loop is not None and whole.at is None:
                    return Target(declared=whole.declared, at=at)
        return None

    def element(self, declared: tree.Resource | tree.Module) -> Self:
        """The writer for the body of a resource or module in a loop, as of one element of the loop."""
        return self if declared.loop is None else self._in_loop(declared.loop, "copyIndex()")

    def parent(self, declared: tree.Resource | tree.Module) -> Target | None:
        """The resource of which another is a part; ``None`` if it is of none.

        Raises:
            BicepError: its ``parent`` is no resource.
        """
        named = declared.body.get("parent")
        if named is None:
            return None
        found = self.target(named)
        if found is None or not isinstance(found.declared, tree.Resource):
            raise BicepError(named.place, "a resource's parent is a resource")
        return found

    def names(self, target: Target) -> list[str]:
        """The names that identify a resource below its scope, those of its parents first.

        Raises:
            BicepError: it has no name, or does not name what it is part of.
        """
        declared = target.declared
        writer = self._at(target)
        name = declared.body.get("name")
        if name is None:
            raise BicepError(declared.place, f"{declared.name} has no name")
        parent = writer.parent(declared)
        above = [] if parent is None else writer.names(parent)
        if isinstance(declared, tree.Resource) and declared.type.count("/") != len(above) + 1:
            raise BicepError(declared.place, f"a {declared.type} names what it is part of by `parent`")
        return [*above, writer.text(name)]

    def id(self, target: Target) -> str:
        """The id of a resource or module, as an expression that puts it together."""
        declared = target.declared
        kind = DEPLOYMENTS if isinstance(declared, tree.Module) else declared.type
        segments = ", ".join([f"'{kind}'", *self.names(target)])
        scope = self.scope(target)
        return f"resourceId({segments})" if scope is None else f"extensionResourceId({scope}, {segments})"

    def scope(self, target: Target) -> str | None:
        """The id of the scope of a resource or module; ``None`` for the group that is deployed to.

        Raises:
            BicepError: the scope is neither a resource nor ``resourceGroup(name)``.
        """
        writer = self._at(target)
        named = target.declared.body.get("scope")
        if named is None:
            parent = writer.parent(target.declared)
            return None if parent is None else writer.scope(parent)
        resource = writer.target(named)
        if resource is not None:
            return writer.id(resource)
        match named:
            case tree.Call(function="resourceGroup", arguments=(group,)):
                return (
                    "format('/subscriptions/{0}/resourceGroups/{1}', subscription().subscriptionId, "
                    f"{writer.text(group)})"
                )
        raise BicepError(named.place, "a scope is a resource, or resourceGroup(name)")

    def used(self, expression: Expression) -> Iterator[tuple[Target, Self]]:
        """The resources and modules that an expression needs, each with the writer that names it."""
        target = self.target(expression)
        if target is not None:
            yield target, self
            if target.at is not None:
                yield from self.used(target.at)
            return
        match expression:
            case tree.Name(name=name) if name not in self.bound:
                variable = self.declared.get(name)
                if isinstance(variable, tree.Variable):
                    yield from replace(self, bound={}).used(variable.value)
            case tree.Loop():
                yield from self.used(expression.over)
                yield from self._in_loop(expression, "copyIndex()").used(expression.body)
            case _:
                for part in tree.parts_of(expression):
                    yield from self.used(part)

    def _reference(self, target: Target, *, is_full: bool) -> str:
        declared = target.declared
        version = DEPLOYMENTS_API_VERSION if isinstance(declared, tree.Module) else declared.api_version
        full = ", 'full'" if is_full else ""
        return f"reference({self.id(target)}, '{version}'{full})"

    def _at(self, target: Target) -> Self:
        """The writer of what stands in a resource: in a loop, for the one that is meant."""
        loop = target.declared.loop
        if loop is None:
            return self
        return self._in_loop(loop, "copyIndex()" if target.at is None else self.text(target.at))

    def _in_loop(self, loop: tree.Loop, index: str) -> Self:
        bound = {loop.item: f"{self.text(loop.over)}[{index}]"}
        if loop.position is not None:
            bound[loop.position] = index
        return replace(self, bound={**self.bound, **bound})


def _literal(value: str | int | bool | None) -> str:
    match value:
        case str():
            return "'" + value.replace("'", "''") + "'"
        case None | bool():
            return {None: "null()", True: "true()", False: "false()"}[value]
    return str(value)
