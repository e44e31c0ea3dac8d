"""Expressions, loops, conditions and modules of ARM JSON, and the templates of both sides."""

import json
from collections.abc import Mapping
from typing import Any

import pytest

from function_app.settings import Settings, SourceSettings, TargetSettings
from infra.bicep.expressions import FUNCTIONS
from infra.expansion import ExpansionError, ImaginedCloud, Resource
from infra.expansion.errors import LanguageError
from infra.expansion.functions import PURE
from infra.expansion.language import evaluate_text
from infra.templates import SIDES
from tests.bundles import default_key, make_policy
from tests.infra.expansions import GROUP, expanded, expanded_of, parameters, template, variants

SCHEMA = {"$schema": "…", "contentVersion": "1.0.0.0"}
STORAGE = "Microsoft.Storage/storageAccounts"
SETTINGS: dict[str, type[Settings]] = {"source": SourceSettings, "target": TargetSettings}


@pytest.mark.parametrize(
    ("text", "value"),
    {
        "plain": "plain",
        "[[not this]": "[not this]",
        "[format('{0}-{1}{{}}', 'a', 2)]": "a-2{}",
        "['it''s']": "it's",
        "[if(equals(1, 2), createObject('a', 1).b, 'no')]": "no",
        "[and(false(), createObject().b)]": False,
        "[or(not(true()), true(), createObject().b)]": True,
        "[createArray('a', 'b')[1]]": "b",
        "[createObject('a', createArray(7))['a'][0]]": 7,
        "[union(createObject('a', createObject('b', 1)), createObject('a', createObject('c', 2)))]": {
            "a": {"b": 1, "c": 2}
        },
        "[union(createArray(1, 2), createArray(2, 3))]": [1, 2, 3],
        "[string(createObject('a', createArray(true(), 'b')))]": '{"a":[true,"b"]}',
        "[string(true())]": "True",
        "[empty('')]": True,
        "[empty(createObject('a', 1))]": False,
        "[coalesce(null(), 'a')]": "a",
        "[concat('a', 1)]": "a1",
        "[length(concat(createArray(1), createArray(2, 3)))]": 3,
        "[add(div(-7, 2), mod(-7, 2))]": -4,
        "[max(createArray(1, 3), 2)]": LanguageError,
        "[min(3, 2)]": 2,
        "[join(range(2, 3), '-')]": "2-3-4",
        "[substring('abcdef', 2, 3)]": "cde",
        "[contains('abc', 'b')]": True,
        "[equals('1', 1)]": False,
        "[base64('a')]": "YQ==",
        "[FORMAT('{0}', 'case')]": "case",
        "[guid('a', 'b')]": "2d796349-8c7e-55ec-9624-54ece82ed031",
    }.items(),
)
def test_value_of_an_expression(text: str, value: Any) -> None:
    if value is LanguageError:
        with pytest.raises(LanguageError):
            evaluate_text(text, PURE)
    else:
        assert evaluate_text(text, PURE) == value
        assert type(evaluate_text(text, PURE)) is type(value)


@pytest.mark.parametrize(
    "text",
    [
        *("[]", "[format(]", "[format('a'))]", "[format('a' 'b')]", "['a]", "[a]", "[1 2]", '["a"]'),
        *("[nothing('a')]", "[format('{0}')]", "[format('{')]", "[createObject('a', 1).b]", "[not('a')]"),
        *("[createArray(1)[1]]", "[createArray(1)[-1]]", "[if('a', 1, 2)]", "[string(null())]"),
    ],
)
def test_expression_without_a_value_is_refused(text: str) -> None:
    with pytest.raises(LanguageError):
        evaluate_text(text, PURE)


def test_functions_that_the_compiler_writes_are_known() -> None:
    of_a_template = {
        *("listkeys", "listservicesas", "resourcegroup", "subscription", "subscriptionresourceid", "tenant")
    }
    not_known = {"environment", "uniquestring"}  # refused, by name
    assert {name.lower() for name in FUNCTIONS} - PURE.keys() - of_a_template == {
        "if",
        "and",
        "or",
    } | not_known


# --- templates


def account(**members: Any) -> dict[str, Any]:
    """A resource of a template."""
    return {"type": STORAGE, "apiVersion": "2023-01-01", "name": "one", "properties": {}, **members}


def module(inner: list[dict[str, Any]], **members: Any) -> dict[str, Any]:
    """A module of a template, with these resources."""
    properties = {
        "expressionEvaluationOptions": {"scope": "inner"},
        "mode": "Incremental",
        "template": {**SCHEMA, "resources": inner, **members.pop("template", {})},
        "parameters": members.pop("parameters", {}),
    }
    kind = {"type": "Microsoft.Resources/deployments", "apiVersion": "2025-04-01", "name": "inner"}
    return {**kind, "properties": properties, **members}


def expanded_resources(*resources: dict[str, Any], **members: Any) -> list[Resource]:
    """What becomes of a template with these resources."""
    return list(expanded_of({**SCHEMA, "resources": list(resources), **members}, {}).resources)


def test_loop_makes_one_resource_for_each_turn() -> None:
    loop = {"name": "all", "count": "[length(variables('names'))]"}
    looped = account(
        name="[format('{0}{1}', variables('names')[copyIndex()], copyIndex('all', 1))]", copy=loop
    )
    names = {"names": ["a", "b"]}
    assert [one.name for one in expanded_resources(looped, variables=names)] == ["a1", "b2"]


def test_loops_make_values_of_variables_and_of_properties() -> None:
    loop = {"name": "rules", "count": 2, "input": "[format('r{0}', copyIndex('rules'))]"}
    (one,) = expanded_resources(
        account(properties={"copy": [loop], "other": "[variables('rules')]"}), variables={"copy": [loop]}
    )
    assert one.properties == {"rules": ["r0", "r1"], "other": ["r0", "r1"]}


def test_condition_decides_whether_a_resource_is_there() -> None:
    resources = [account(name="no", condition="[equals(1, 2)]"), account(name="yes", condition=True)]
    assert [one.name for one in expanded_resources(*resources)] == ["yes"]


def test_resource_comes_after_those_that_it_depends_on_or_refers_to() -> None:
    first = account(
        name="one", properties={"at": f"[reference(resourceId('{STORAGE}', 'two')).primaryEndpoints.blob]"}
    )
    second = account(name="two", dependsOn=["loop"])
    third = account(name="[format('three{0}', copyIndex())]", copy={"name": "loop", "count": 2})
    found = expanded_resources(first, second, third)
    assert [one.name for one in found] == ["three0", "three1", "two", "one"]
    assert found[-1].properties == {"at": "https://two.blob.storage.invalid/"}


def test_module_has_its_own_parameters_group_and_outputs() -> None:
    inner = module(
        [account(name="[parameters('name')]", location="[resourceGroup().location]")],
        parameters={"name": {"value": "[concat('in', 'side')]"}},
        resourceGroup="other",
        template={
            "parameters": {"name": {"type": "string"}},
            "outputs": {"id": {"type": "string", "value": f"[resourceId('{STORAGE}', parameters('name'))]"}},
        },
    )
    other = f"/subscriptions/{GROUP.subscription_id}/resourceGroups/other"
    deployment = f"extensionResourceId('{other}', 'Microsoft.Resources/deployments', 'inner')"
    asked = f"[reference({deployment}).outputs.id.value]"
    found = expanded_resources(account(properties={"id": asked}), inner)
    assert [(one.place, one.name) for one in found] == [("template/inner", "inside"), ("template", "one")]
    assert found[0].body["location"] == "elsewhere"
    assert found[0].id == found[1].properties["id"] == f"{other}/providers/{STORAGE}/inside"


def test_resource_on_another_has_its_id_below_it() -> None:
    scope = f"[resourceId('{STORAGE}', 'one')]"
    (one,) = expanded_resources(account(type="Microsoft.Authorization/locks", name="mine", scope=scope))
    assert one.scope == f"{GROUP.id}/providers/{STORAGE}/one"
    assert one.id == f"{one.scope}/providers/Microsoft.Authorization/locks/mine"


def test_outputs_are_what_the_template_says() -> None:
    whole = {
        **SCHEMA,
        "resources": [],
        "outputs": {"group": {"type": "string", "value": "[resourceGroup().name]"}},
    }
    assert expanded_of(whole, {}).outputs == {"group": "airgap"}


REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "unknown function": (
        {"resources": [account(properties={"a": {"b": ["[listSecrets('x')]"]}})]},
        f"template: {STORAGE} one.properties.a.b[0]: the function listSecrets is not known here",
    ),
    "unknown member of a deployed resource": (
        {"resources": [account(properties={"a": f"[reference(resourceId('{STORAGE}', 'old')).none]"})]},
        f"template: {STORAGE} one.properties.a: none is not known",
    ),
    "in a module": (
        {"resources": [module([account(location="[parameters('none')]")])]},
        f"template/inner: {STORAGE} one.location: there is no parameter none",
    ),
    "module in the scope of its parent": (
        {"resources": [{**module([]), "properties": {"template": {}, "mode": "Incremental"}}]},
        "scope of their own",
    ),
    "in a circle": (
        {"resources": [account(dependsOn=[f"[resourceId('{STORAGE}', 'one')]"])]},
        "it depends on itself",
    ),
    "variable that is itself": (
        {"variables": {"a": "[variables('a')]"}, "resources": [account(location="[variables('a')]")]},
        "the variable a depends on itself",
    ),
    "dependency that is not there": (
        {"resources": [account(dependsOn=["none"])]},
        "it depends on none, which the template does not deploy",
    ),
    "reference to what is not deployed": (
        {
            "resources": [
                account(name="two", condition=False),
                account(location=f"[reference(resourceId('{STORAGE}', 'two')).x]"),
            ]
        },
        "its condition does not hold",
    ),
    "too many names": (
        {"resources": [account(name="one/two")]},
        "has 1 names",
    ),
    "symbolic names": ({"languageVersion": "2.0", "resources": {}}, "symbolic names"),
    "resource in a resource": ({"resources": [account(resources=[])]}, "resources inside a resource"),
    "unknown member": ({"resources": [account(zones=["1"])]}, "zones is not known here"),
    "unknown member of a module": (
        {"resources": [module([], subscriptionId="x")]},
        "subscriptionId is not known here",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_is_not_known_is_refused_with_its_place(case: str) -> None:
    members, told = REFUSED[case]
    with pytest.raises(ExpansionError) as refused:
        expanded_of({**SCHEMA, **members}, {})
    assert told in str(refused.value)
    assert str(refused.value).startswith("template")


@pytest.mark.parametrize(
    ("declared", "value", "told"),
    [
        ({"type": "string"}, 1, "string is expected"),
        ({"type": "int"}, True, "int is expected"),
        ({"type": "bool"}, "true", "bool is expected"),
        ({"type": "array"}, {}, "array is expected"),
        ({"type": "secureObject"}, [], "secureObject is expected"),
        ({"type": "date"}, "", "the type date is not known here"),
        ({"type": "string", "allowedValues": ["a", "b"]}, "c", "one of a, b is expected"),
        ({"type": "int", "minValue": 2}, 1, "less or more"),
        ({"type": "int", "maxValue": 2}, 3, "less or more"),
        ({"type": "string", "minLength": 2}, "a", "shorter or longer"),
        ({"type": "securestring", "maxLength": 2}, "abc", "shorter or longer"),
    ],
)
def test_parameter_that_does_not_fit_is_refused(declared: dict[str, Any], value: Any, told: str) -> None:
    whole = {**SCHEMA, "parameters": {"given": declared}, "resources": []}
    with pytest.raises(ExpansionError, match=told) as refused:
        expanded_of(whole, {"given": value})
    assert refused.value.place == "template: parameters.given"


def test_parameters_are_all_given_and_no_others() -> None:
    whole = {**SCHEMA, "parameters": {"needed": {"type": "string"}}, "resources": []}
    with pytest.raises(ExpansionError, match=r"parameters.needed: a value is missing"):
        expanded_of(whole, {})
    with pytest.raises(ExpansionError, match="there is no parameter other"):
        expanded_of(whole, {"needed": "", "other": ""})


# --- the templates of both sides


class CloudInOrder(ImaginedCloud):
    """Refuses what comes before that which it is in or on, as Azure does."""

    def __init__(self) -> None:
        self.there: set[str] = set()

    def put(self, resource: Resource) -> Mapping[str, Any]:
        parent = resource.id.rpartition("/")[0].rpartition("/")[0]
        needed = resource.scope or (parent if resource.name.count("/") else "")
        is_registry = "/registries/" in needed.lower()
        assert not needed or is_registry or needed in self.there, f"{resource.id} needs {needed}"
        self.there.add(resource.id)
        return super().put(resource)


def reversed_template(whole: dict[str, Any]) -> dict[str, Any]:
    """A template that says the same, from the end to the beginning; those of its modules, too."""
    resources = [dict(one) for one in reversed(whole["resources"])]
    for one in resources:
        if one["type"].endswith("/deployments"):
            inner = reversed_template(one["properties"]["template"])
            one["properties"] = {**one["properties"], "template": inner}
    return {**whole, "resources": resources}


@pytest.mark.parametrize(("side", "cloud", "hosting", "mode"), list(variants()))
def test_every_variant_of_a_side_has_all_its_values(side: str, cloud: str, hosting: str, mode: str) -> None:
    found = expanded(side, cloud, hosting, mode)
    assert len({one.id for one in found.resources}) == len(found.resources) > 40
    assert "[" not in {value[:1] for value in texts([one.body for one in found.resources])}
    assert len(found.of_type("Microsoft.Web/sites/config")) == 1
    assert len(found.of_type("Microsoft.KeyVault/vaults/secrets")) == (mode == "SasToken")


@pytest.mark.parametrize(("side", "cloud", "hosting", "mode"), list(variants()))
def test_app_takes_the_settings_of_every_variant(side: str, cloud: str, hosting: str, mode: str) -> None:
    (config,) = expanded(side, cloud, hosting, mode).of_type("Microsoft.Web/sites/config")
    policy = make_policy([default_key()]).decode()
    read: Any = SETTINGS[side].from_environment({**config.properties, "TRUST_POLICY": policy})
    told = parameters(cloud)["cloud"]
    assert (read.arm_endpoint, read.arm_scope) == (told["armEndpoint"], told["armScope"])
    assert (read.arm_api_version, read.registry_scope) == (told["armApiVersion"], told["registryScope"])


def texts(value: Any) -> list[str]:
    """Every text in a value."""
    match value:
        case dict():
            return [text for name, one in value.items() for text in (name, *texts(one))]
        case list():
            return [text for one in value for text in texts(one)]
    return [value] if isinstance(value, str) else []


@pytest.mark.parametrize("mode", ["ManagedIdentity", "SasToken"])
@pytest.mark.parametrize("side", SIDES)
def test_order_does_not_come_from_where_a_resource_stands(side: str, mode: str) -> None:
    forwards = expanded_of(template(side), parameters(mode=mode), CloudInOrder())
    backwards = expanded_of(reversed_template(template(side)), parameters(mode=mode), CloudInOrder())
    assert sorted(one.id for one in forwards.resources) == sorted(one.id for one in backwards.resources)
    assert [one.id for one in forwards.resources] != [one.id for one in backwards.resources]


def test_missing_dependency_is_seen_backwards() -> None:
    whole = reversed_template(template("source"))
    foundation = next(one for one in whole["resources"] if one["name"] == "foundation")
    grant = next(
        one for one in foundation["properties"]["template"]["resources"] if one["name"] == "app-on-key"
    )
    grant["dependsOn"] = []
    with pytest.raises(AssertionError, match="needs"):
        expanded_of(whole, provider=CloudInOrder())


@pytest.mark.parametrize(
    ("kind", "member"),
    [
        ("Microsoft.ContainerRegistry/registries", "loginServer"),
        ("Microsoft.Insights/components", "ConnectionString"),
        ("Microsoft.KeyVault/vaults", "vaultUri"),
        ("Microsoft.ManagedIdentity/userAssignedIdentities", "principalId"),
        ("Microsoft.ManagedIdentity/userAssignedIdentities", "clientId"),
        (STORAGE, "primaryEndpoints"),
        ("Microsoft.Web/sites", "defaultHostName"),
    ],
)
def test_value_that_the_cloud_does_not_tell_is_refused(kind: str, member: str) -> None:
    class Forgetful(ImaginedCloud):
        def _state(
            self, resource_id: str, kind_of: str, name: str, body: Mapping[str, Any]
        ) -> dict[str, Any]:
            state = super()._state(resource_id, kind_of, name, body)
            if kind_of == kind:
                state["properties"].pop(member)
            return state

    with pytest.raises(ExpansionError, match=f"{member} is not known"):
        expanded_of(template("source"), provider=Forgetful())


def test_variable_that_a_template_lacks_is_refused() -> None:
    whole = template("source")
    del whole["variables"]["pipelineName"]
    with pytest.raises(ExpansionError, match="there is no variable pipelineName"):
        expanded_of(whole)


def test_same_names_have_the_same_ids_each_time() -> None:
    first, again = (expanded_of(template("target")).resources for _ in range(2))
    assert json.dumps([one.body for one in first]) == json.dumps([one.body for one in again])
