"""Deployments over HTTPS, as ``az`` asks for them: what is made, what is refused, what is told after."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import requests

from infra.expansion import Resource
from local_cloud.acr_transfer import AcrTransfer, ImageImports, RegistryAccess
from local_cloud.acr_transfer.errors import ArmError
from local_cloud.pki import CertificateAuthority
from local_cloud.resource_manager import Deployments, Resources, Tenancy, resource_manager_app
from local_cloud.tokens import ARM_AUDIENCES, TokenAuthority
from local_cloud.web import serve
from tests.local_cloud.acr_transfer_harness import Loop

SUBSCRIPTION = "/subscriptions/6a0f1c52-52b5-4c0e-9d6c-0f5b8f2f7c11"
GROUP = f"{SUBSCRIPTION}/resourceGroups/airgap"
REGISTRY = f"{GROUP}/providers/Microsoft.ContainerRegistry/registries/contoso"
BOX, LID = "Example.Things/boxes", "Example.Things/boxes/lids"
ASSIGNMENTS = "Microsoft.Authorization/roleAssignments"
NAME = "11111111-2222-4333-8444-555555555555"
VERSION = "2025-04-01"


class Cloud:
    """ARM of a cloud in which boxes can be made; ``made`` says which, in that order."""

    def __init__(self, folder: Path, loop: Loop) -> None:
        self.made: list[str] = []
        self.removed: list[str] = []
        self.tokens = TokenAuthority()
        self._loop = loop
        self._ca = CertificateAuthority.create(folder)
        makers = {BOX: self._make, LID: self._make, ASSIGNMENTS: self._make}
        self.resources = Resources(makers, {ASSIGNMENTS: lambda state: self.removed.append(state["name"])})
        self.resources.add(GROUP, {"type": "Microsoft.Resources/resourceGroups", "location": "local"})
        sku = {"sku": {"name": "Premium"}}
        self.resources.add(REGISTRY, {"type": "Microsoft.ContainerRegistry/registries", **sku})
        access = RegistryAccess(login_server="127.0.0.1:1", principal_id="acr", ca_file=self._ca.ca_file)
        transfer = AcrTransfer(
            tokens=self.tokens, registry_id=REGISTRY, registry=access, ca_file=self._ca.ca_file
        )
        for caller in ("owner", "contributor", "reader"):
            transfer.grant(caller, caller, SUBSCRIPTION)
        tenancy = Tenancy(
            tenant_id=self.tokens.tenant_id,
            subscription_id=SUBSCRIPTION.rpartition("/")[2],
            login_endpoint="https://login.example",
            audience=ARM_AUDIENCES[0],
        )
        self.deployments = Deployments(self.resources)
        app = resource_manager_app(
            tenancy=tenancy,
            transfers=[transfer],
            image_imports=ImageImports(
                registries={}, tokens=self.tokens, roles=transfer.roles, pulls=lambda *_: False
            ),
            resources=self.resources,
            deployments=self.deployments,
        )
        self._server = loop.run(serve(app, ssl_context=self._ca.server_context("arm")))

    def _make(self, resource: Resource) -> Mapping[str, Any]:
        if "broken" in resource.name:
            raise ArmError(409, "BoxBroken", "The box is broken.")
        self.made.append(resource.name)
        return {"properties": {"secret": None, "size": 3}}

    def call(self, method: str, path: str, body: object = None, **how: Any) -> requests.Response:
        """Call ARM; ``caller`` is the owner unless named, ``version`` that of deployments."""
        caller, version = how.pop("caller", "owner"), how.pop("version", VERSION)
        token = self.tokens.mint(caller, ARM_AUDIENCES[0])
        return requests.request(
            method,
            f"{self._server.url}{path}",
            json=body,
            params={"api-version": version} if version else {},
            headers={"Authorization": f"Bearer {token}"} if caller else {},
            verify=str(self._ca.ca_file),
            timeout=20,
        )

    def deploy(self, *resources: dict[str, Any], **how: Any) -> requests.Response:
        """Deploy a template, and wait until that is over."""
        answer = self.call(
            "PUT", deployment(how.pop("name", "one")), order(*resources, **how.pop("more", {})), **how
        )
        self._loop.run(self.deployments.settle())
        return answer

    def close(self) -> None:
        self._loop.run(self._server.close())


def deployment(name: str) -> str:
    """Where a deployment of the group is."""
    return f"{GROUP}/providers/Microsoft.Resources/deployments/{name}"


def order(*resources: dict[str, Any], given: dict[str, Any] | None = None, **members: Any) -> dict[str, Any]:
    """The body of a deployment."""
    template = {"$schema": "…", "contentVersion": "1.0.0.0", "resources": list(resources), **members}
    parameters = {name: {"value": value} for name, value in (given or {}).items()}
    return {"properties": {"mode": "Incremental", "template": template, "parameters": parameters}}


def box(name: str = "one", kind: str = BOX, **members: Any) -> dict[str, Any]:
    """A resource of a template."""
    return {"type": kind, "apiVersion": "2024-01-01", "name": name, "properties": {}, **members}


def refusal(answer: requests.Response) -> tuple[int, str]:
    return answer.status_code, answer.json()["error"]["code"]


@pytest.fixture
def cloud(tmp_path: Path, transfer_loop: Loop) -> Iterator[Cloud]:
    made = Cloud(tmp_path, transfer_loop)
    yield made
    made.close()


def test_template_is_deployed_in_order_and_told(cloud: Cloud) -> None:
    lid = box("one/top", LID, dependsOn=[f"[resourceId('{BOX}', 'one')]"])
    size = f"[reference(resourceId('{BOX}', 'one')).size]"
    begun = cloud.deploy(lid, box(), more={"outputs": {"size": {"type": "int", "value": size}}})
    assert begun.status_code == 201
    assert cloud.made == ["one", "one/top"]
    shown = cloud.call("GET", deployment("one")).json()["properties"]
    assert shown["provisioningState"] == "Succeeded"
    assert shown["outputs"] == {"size": {"type": "Int", "value": 3}}
    assert [one["id"].rpartition("/")[2] for one in shown["outputResources"]] == ["one", "top"]
    path = begun.headers["Azure-AsyncOperation"].partition("?")[0].partition("/subscriptions")[2]
    assert cloud.call("GET", f"/subscriptions{path}").json() == {"status": "Succeeded"}
    assert cloud.deploy(box()).status_code == 200


def test_secret_parameters_are_not_told(cloud: Cloud) -> None:
    declared = {"shown": {"type": "string"}, "hidden": {"type": "securestring"}}
    cloud.deploy(more={"parameters": declared, "given": {"shown": "a", "hidden": "b"}})
    answer = cloud.call("GET", deployment("one"))
    assert answer.json()["properties"]["parameters"] == {
        "shown": {"type": "string", "value": "a"},
        "hidden": {"type": "securestring"},
    }


def test_template_that_is_not_right_makes_nothing(cloud: Cloud) -> None:
    answer = cloud.deploy(box(), box("two", properties={"at": "[nothing()]"}))
    assert refusal(answer) == (400, "InvalidTemplate")
    assert f"template: {BOX} two.properties.at: the function nothing" in answer.json()["error"]["message"]
    assert cloud.made == []
    assert refusal(cloud.call("GET", deployment("one"))) == (404, "DeploymentNotFound")


def test_deployment_that_fails_tells_by_which_resource(cloud: Cloud) -> None:
    cloud.deploy(box(), box("broken"))
    shown = cloud.call("GET", deployment("one")).json()["properties"]
    assert (shown["provisioningState"], shown["error"]["code"]) == ("Failed", "DeploymentFailed")
    assert shown["error"]["details"] == [{"code": "BoxBroken", "message": "The box is broken."}]


@pytest.mark.parametrize(
    ("resource", "code"),
    [
        (box("none/top", LID), "ParentResourceNotFound"),
        (box("one", "Example.Things/unknown"), "NoRegisteredProviderFound"),
        (box(NAME, ASSIGNMENTS, scope=f"{GROUP}/providers/{BOX}/none"), "ResourceNotFound"),
    ],
)
def test_resource_that_cannot_be_there_fails_the_deployment(
    cloud: Cloud, resource: dict[str, Any], code: str
) -> None:
    cloud.deploy(resource)
    error = cloud.call("GET", deployment("one")).json()["properties"]["error"]
    assert [one["code"] for one in error["details"]] == [code]


def test_what_if_and_validation_make_nothing(cloud: Cloud) -> None:
    cloud.deploy(box())
    cloud.made.clear()
    changes = cloud.call("POST", f"{deployment('one')}/whatIf", order(box(), box("two"))).json()
    kinds = {one["resourceId"][-3:]: one["changeType"] for one in changes["properties"]["changes"]}
    assert kinds == {"one": "Deploy", "two": "Create"}
    valid = cloud.call("POST", f"{deployment('one')}/validate", order(box("two")))
    assert valid.json()["properties"]["provisioningState"] == "Succeeded"
    wrong = cloud.call("POST", f"{deployment('one')}/validate", order(box("[x()]")))
    assert refusal(wrong) == (400, "InvalidTemplate")
    assert cloud.made == []


def test_whoever_may_not_write_deploys_nothing(cloud: Cloud) -> None:
    for caller in ("reader", "stranger"):
        assert refusal(cloud.deploy(box(), caller=caller)) == (403, "AuthorizationFailed")
    assert refusal(cloud.call("GET", deployment("one"), caller="stranger")) == (403, "AuthorizationFailed")
    assert cloud.deploy(box(), caller="contributor").status_code == 201


def test_only_owners_give_roles_also_by_a_template(cloud: Cloud) -> None:
    grant = box(NAME, ASSIGNMENTS, scope=REGISTRY, properties={"principalId": "somebody"})
    assert refusal(cloud.deploy(box(), grant, caller="contributor")) == (403, "AuthorizationFailed")
    assert cloud.made == []
    assert cloud.deploy(grant).status_code == 201
    assert cloud.made == [NAME]


def test_role_is_given_listed_and_taken_away(cloud: Cloud) -> None:
    path, version = f"{REGISTRY}/providers/{ASSIGNMENTS}", "2022-04-01"
    body = {"properties": {"principalId": "somebody", "roleDefinitionId": "a-role"}}
    assert refusal(cloud.call("PUT", f"{path}/{NAME}", body, version=version, caller="contributor"))[0] == 403
    assert cloud.call("PUT", f"{path}/{NAME}", body, version=version).status_code == 201
    (listed,) = cloud.call("GET", path, version=version).json()["value"]
    assert listed["id"] == f"{path}/{NAME}"
    assert cloud.call("DELETE", f"{path}/{NAME}", version=version).status_code == 200
    assert cloud.removed == [NAME]
    assert cloud.call("DELETE", f"{path}/{NAME}", version=version).status_code == 204
    assert refusal(cloud.call("PUT", f"{path}/x", body, version=version)) == (400, "InvalidRoleAssignmentId")


@pytest.mark.parametrize(
    ("body", "code"),
    [
        ([], "InvalidRequestContent"),
        ({"properties": {"mode": "Complete", "template": {}}}, "InvalidRequestContent"),
        ({"properties": {"mode": "Incremental", "templateLink": {"uri": "x"}}}, "InvalidRequestContent"),
        ({"properties": {"mode": "Incremental", "template": []}}, "InvalidRequestContent"),
        ({"properties": {"mode": "Incremental", "template": {}, "parameters": {"a": 1}}}, "InvalidTemplate"),
        ({"properties": {"mode": "Incremental", "template": {"resources": [1]}}}, "InvalidTemplate"),
    ],
)
def test_body_that_orders_nothing_is_refused(cloud: Cloud, body: object, code: str) -> None:
    assert refusal(cloud.call("PUT", deployment("one"), body)) == (400, code)


def test_unknown_group_path_method_and_version_are_told(cloud: Cloud) -> None:
    elsewhere = deployment("one").replace("airgap", "none")
    assert refusal(cloud.call("PUT", elsewhere, order())) == (404, "ResourceGroupNotFound")
    assert refusal(cloud.call("PATCH", deployment("one"), order())) == (405, "MethodNotAllowed")
    assert refusal(cloud.call("GET", f"{GROUP}/providers/Some.Thing/else/x")) == (404, "ResourceNotFound")
    unknown = cloud.call("GET", deployment("one"), version="1999-01-01")
    assert refusal(unknown) == (400, "NoRegisteredProviderFound")
    missing = cloud.call("GET", deployment("one"), version=None)
    assert refusal(missing) == (400, "MissingApiVersionParameter")


def test_registry_tells_its_sku(cloud: Cloud) -> None:
    assert cloud.call("GET", REGISTRY, version="2023-07-01").json()["sku"] == {"name": "Premium"}
    assert refusal(cloud.call("GET", REGISTRY, version="2023-07-02")) == (400, "NoRegisteredProviderFound")


def test_cloud_tells_who_it_is_before_anybody_has_a_token(cloud: Cloud) -> None:
    known = cloud.call("GET", "/metadata/endpoints", version="2015-01-01", caller="").json()
    assert known["authentication"]["audiences"] == [ARM_AUDIENCES[0]]
    (newer,) = cloud.call("GET", "/metadata/endpoints", version="2022-09-01", caller="").json()
    assert newer["resourceManager"].startswith("https://127.0.0.1:")
    (subscription,) = cloud.call("GET", "/subscriptions", version="2022-12-01").json()["value"]
    assert subscription["id"] == SUBSCRIPTION
    assert cloud.call("GET", SUBSCRIPTION, version="2022-12-01").json() == subscription
    other = cloud.call("GET", "/subscriptions/other", version="2022-12-01")
    assert refusal(other) == (404, "SubscriptionNotFound")
    assert refusal(cloud.call("GET", "/subscriptions", version="2022-12-01", caller="")) == (
        401,
        "AuthenticationFailed",
    )
