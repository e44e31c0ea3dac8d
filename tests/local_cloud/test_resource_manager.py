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
from local_cloud.resource_manager import Deployments, Resources, Tenancy, check_unique, resource_manager_app
from local_cloud.tokens import ARM_AUDIENCES, TokenAuthority
from local_cloud.web import serve
from tests.local_cloud.acr_transfer_harness import Loop

SUBSCRIPTION = "/subscriptions/6a0f1c52-52b5-4c0e-9d6c-0f5b8f2f7c11"
GROUP = f"{SUBSCRIPTION}/resourceGroups/airgap"
REGISTRY = f"{GROUP}/providers/Microsoft.ContainerRegistry/registries/contoso"
BOX, LID = "Example.Things/boxes", "Example.Things/boxes/lids"
ASSIGNMENTS, DEFINITIONS = (f"Microsoft.Authorization/role{what}" for what in ("Assignments", "Definitions"))
NAME, OTHER_NAME = (f"{digit * 8}-2222-4333-8444-555555555555" for digit in "16")
VERSION = "2025-04-01"


class Cloud:
    """ARM of a cloud in which boxes can be made; ``made`` says which, in that order."""

    def __init__(self, folder: Path, loop: Loop) -> None:
        self.made: list[str] = []
        self.removed: list[str] = []
        self.tokens = TokenAuthority()
        self._loop = loop
        self._ca = CertificateAuthority.create(folder)
        makers = {BOX: self._make, LID: self._make, ASSIGNMENTS: self._assign}
        self.resources = Resources(
            makers,
            dict.fromkeys((ASSIGNMENTS, BOX), lambda state: self.removed.append(state["name"])),
            {
                f"{BOX}/open/list": lambda name, asked: {"of": name, **asked},
                f"{BOX}/asXml": lambda *_: "<box />",
            },
        )
        group = {"type": "Microsoft.Resources/resourceGroups", "name": "airgap", "location": "local"}
        self.resources.add(GROUP, group)
        sku = {"sku": {"name": "Premium"}}
        kind = "Microsoft.ContainerRegistry/registries"
        self.resources.add(REGISTRY, {"type": kind, "name": "contoso", **sku})
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

    def _assign(self, resource: Resource) -> Mapping[str, Any]:
        check_unique(self.resources, resource)
        return self._make(resource)

    def call(self, method: str, path: str, body: object = None, **how: Any) -> requests.Response:
        """Call ARM; ``caller`` is the owner unless named, ``version`` that of deployments."""
        caller, version = how.pop("caller", "owner"), how.pop("version", VERSION)
        raw, asked = how.pop("raw", None), how.pop("query", {})
        token = self.tokens.mint(caller, ARM_AUDIENCES[0])
        return requests.request(
            method,
            f"{self._server.url}{path}",
            json=body,
            data=raw,
            params={**({"api-version": version} if version else {}), **asked},
            headers={
                **({"Authorization": f"Bearer {token}"} if caller else {}),
                **({"Content-Type": "application/json"} if raw else {}),
            },
            verify=str(self._ca.ca_file),
            timeout=20,
        )

    def deploy(self, *resources: dict[str, Any], **how: Any) -> requests.Response:
        """Deploy a template, and wait until that is over."""
        answer = self.call(
            "PUT", deployment(how.pop("name", "one")), order(*resources, **how.pop("more", {})), **how
        )
        self.settle()
        return answer

    def settle(self) -> None:
        """Wait until nothing is being deployed."""
        self._loop.run(self.deployments.settle())

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
    grant = box(NAME, ASSIGNMENTS, scope=REGISTRY, **role_of("somebody"))
    assert refusal(cloud.deploy(box(), grant, caller="contributor")) == (403, "AuthorizationFailed")
    assert cloud.made == []
    assert cloud.deploy(grant).status_code == 201
    assert cloud.made == [NAME]


def role_of(principal: str, role: str = "a-role") -> dict[str, Any]:
    """The body of a role assignment."""
    return {"properties": {"principalId": principal, "roleDefinitionId": f"/roleDefinitions/{role}"}}


def test_role_is_given_listed_and_taken_away(cloud: Cloud) -> None:
    path, version, body = f"{REGISTRY}/providers/{ASSIGNMENTS}", "2022-04-01", role_of("somebody")
    assert refusal(cloud.call("PUT", f"{path}/{NAME}", body, version=version, caller="contributor"))[0] == 403
    assert cloud.call("PUT", f"{path}/{NAME}", body, version=version).status_code == 201
    (listed,) = cloud.call("GET", path, version=version).json()["value"]
    assert listed["id"] == f"{path}/{NAME}"
    assert cloud.call("DELETE", f"{path}/{NAME}", version=version).status_code == 200
    assert cloud.removed == [NAME]
    assert cloud.call("DELETE", f"{path}/{NAME}", version=version).status_code == 204
    assert refusal(cloud.call("PUT", f"{path}/x", body, version=version)) == (400, "InvalidRoleAssignmentId")
    of_no_role = {"properties": {"principalId": "somebody"}}
    assert refusal(cloud.call("PUT", f"{path}/{NAME}", of_no_role, version=version))[0] == 400


def test_role_is_given_once_and_its_name_is_not_given_to_others(cloud: Cloud) -> None:
    path, version = f"{REGISTRY}/providers/{ASSIGNMENTS}", "2022-04-01"
    for _ in range(2):
        assert cloud.call("PUT", f"{path}/{NAME}", role_of("one"), version=version).status_code == 201
    again = cloud.call("PUT", f"{path}/{OTHER_NAME}", role_of("ONE"), version=version)
    assert refusal(again) == (409, "RoleAssignmentExists")
    changed = cloud.call("PUT", f"{path}/{NAME}", role_of("two"), version=version)
    assert refusal(changed) == (400, "RoleAssignmentUpdateNotPermitted")


def test_roles_are_listed_at_a_scope_above_it_and_below_it(cloud: Cloud) -> None:
    version, scopes = "2022-04-01", (SUBSCRIPTION, GROUP, REGISTRY)
    cloud.resources.add(SUBSCRIPTION, {"type": "Microsoft.Resources/subscriptions"})
    for scope, principal in zip(scopes, ("above", "here", "below"), strict=True):
        path = f"{scope}/providers/{ASSIGNMENTS}/{NAME}"
        assert cloud.call("PUT", path, role_of(principal), version=version).status_code == 201

    def listed(how: str) -> list[str]:
        path = f"{GROUP}/providers/{ASSIGNMENTS}"
        answer = cloud.call("GET", path, version=version, query={"$filter": how}).json()
        return [one["properties"]["principalId"] for one in answer["value"]]

    assert listed("") == ["above", "here", "below"]
    assert listed("atScope()") == ["above", "here"]
    assert listed("principalId eq 'Below'") == listed("assignedTo('Below')") == ["below"]


def test_role_is_found_by_its_name(cloud: Cloud) -> None:
    for scope, guid, name in ((SUBSCRIPTION, NAME, "AcrPull"), (GROUP, OTHER_NAME, "of our own")):
        state = {"type": DEFINITIONS, "name": guid, "properties": {"roleName": name}}
        cloud.resources.add(f"{scope}/providers/{DEFINITIONS}/{guid}", state)
    path = f"{REGISTRY}/providers/{DEFINITIONS}"
    answers = [
        cloud.call("GET", path, version="2022-04-01", query={"$filter": f"roleName eq '{name}'"}).json()
        for name in ("AcrPull", "of our own", "no role")
    ]
    ids = [[one["id"] for one in answer["value"]] for answer in answers]
    common = f"{SUBSCRIPTION}/providers/{DEFINITIONS}"
    assert ids == [[f"{common}/{NAME}"], [f"{common}/{OTHER_NAME}"], []]


def test_resources_are_listed_by_group_name_and_type(cloud: Cloud) -> None:
    cloud.deploy(box(), box("two"), box("one/top", LID, dependsOn=[f"[resourceId('{BOX}', 'one')]"]))

    state = {"type": DEFINITIONS, "name": NAME, "properties": {"roleName": "no resource"}}
    cloud.resources.add(f"{GROUP}/providers/{DEFINITIONS}/{NAME}", state)

    def names(path: str, how: str = "") -> list[str]:
        listed = cloud.call("GET", path, query={"$filter": how} if how else {}).json()["value"]
        return [one["name"] for one in listed]

    assert names(f"{SUBSCRIPTION}/resources") == names(f"{GROUP}/resources") == ["contoso", "one", "two"]
    assert names(f"{SUBSCRIPTION}/resources", f"resourceType eq '{BOX}' and name eq 'ONE'") == ["one"]
    assert names(f"{SUBSCRIPTION}/resources", "resourceGroup eq 'elsewhere'") == []
    for scope in (SUBSCRIPTION, GROUP):
        assert names(f"{scope}/providers/{BOX}") == ["one", "two"]
    assert names(f"{GROUP}/providers/{BOX}/one/lids") == ["top"]
    assert names(f"{GROUP}/providers/{BOX}/two/lids") == []
    assert names(f"{SUBSCRIPTION}/resourceGroups") == ["airgap"]
    assert names(f"{GROUP}/providers/Microsoft.Resources/deployments") == ["one"]
    assert refusal(cloud.call("GET", f"{GROUP}/providers/Some.Thing/else")) == (404, "ResourceNotFound")
    assert refusal(cloud.call("GET", f"{SUBSCRIPTION}/resources", caller="stranger"))[0] == 403


def test_what_if_knows_what_is_there(cloud: Cloud) -> None:
    """So that a name that follows from another resource is foreseen as it is."""
    size = f"[string(reference(resourceId('{BOX}', 'one')).size)]"
    follower = box("follower", BOX, properties={"of": size}, dependsOn=[f"[resourceId('{BOX}', 'one')]"])
    what_if = f"{deployment('one')}/whatIf"

    def foreseen() -> list[str]:
        changes = cloud.call("POST", what_if, order(box(), follower)).json()["properties"]["changes"]
        return [one["after"]["properties"]["of"] for one in changes if one["resourceId"].endswith("follower")]

    assert foreseen() == ["size: known after the deployment"]
    cloud.deploy(box())
    assert foreseen() == ["3"]


def test_template_is_read_as_az_sends_it(cloud: Cloud) -> None:
    """With its member's name without quotes, and comments and lines as they stand in the file."""
    template = """{ // of the box
      "$schema": "https://example/*no comment*/", /* of
      two lines */ contentVersion: "1.0.0.0",
      "resources": [{"type": "Example.Things/boxes", "apiVersion": "2024-01-01", "name": "one",
        "properties": {"text": "a: b, \\" // no
comment"}}]}"""
    raw = f'{{"properties": {{"parameters": {{}}, "mode": "Incremental", template:{template}}}}}'
    answer = cloud.call("PUT", deployment("one"), raw=raw.encode())
    cloud.settle()
    assert answer.status_code == 201
    made = cloud.call("GET", f"{GROUP}/providers/{BOX}/one").json()
    assert made["properties"]["text"] == 'a: b, " // no\ncomment'
    assert refusal(cloud.call("PUT", deployment("one"), raw=b"{template:")) == (400, "InvalidRequestContent")


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
    nobodys = f"{GROUP.replace('airgap', 'none')}/providers/{BOX}"
    assert refusal(cloud.call("GET", nobodys)) == (404, "ResourceGroupNotFound")
    assert refusal(cloud.call("PATCH", deployment("one"), order())) == (405, "MethodNotAllowed")
    assert refusal(cloud.call("GET", f"{GROUP}/providers/Some.Thing/else/x")) == (404, "ResourceNotFound")
    unknown = cloud.call("GET", deployment("one"), version="1999-01-01")
    assert refusal(unknown) == (400, "NoRegisteredProviderFound")
    missing = cloud.call("GET", deployment("one"), version=None)
    assert refusal(missing) == (400, "MissingApiVersionParameter")


def test_resource_is_asked_by_a_post(cloud: Cloud) -> None:
    path = f"{GROUP}/providers/{BOX}/one"
    assert refusal(cloud.call("POST", f"{path}/open/list")) == (404, "InvalidResourceType")
    cloud.deploy(box(), box("one/top", LID, dependsOn=[f"[resourceId('{BOX}', 'one')]"]))
    assert cloud.call("POST", f"{path}/Open/LIST").json() == {"of": "one"}
    assert cloud.call("POST", f"{path}/open/list", {"for": "me"}).json() == {"of": "one", "for": "me"}
    assert refusal(cloud.call("POST", f"{path}/open/list", [])) == (400, "InvalidRequestContent")
    as_xml = cloud.call("POST", f"{path}/asXml")
    assert (as_xml.text, as_xml.headers["Content-Type"]) == ("<box />", "text/xml; charset=utf-8")
    assert refusal(cloud.call("POST", f"{path}/open/list", caller="reader")) == (403, "AuthorizationFailed")
    assert refusal(cloud.call("POST", f"{path}/lids/top/asXml")) == (404, "InvalidResourceType")


def test_deleted_resource_takes_what_is_in_it_and_who_has_roles_there_along(cloud: Cloud) -> None:
    path = f"{GROUP}/providers/{BOX}/one"
    cloud.deploy(box(), box("two"), box("one/top", LID, dependsOn=[f"[resourceId('{BOX}', 'one')]"]))
    assignment = f"{path}/providers/{ASSIGNMENTS}/{NAME}"
    cloud.call("PUT", assignment, role_of("somebody"), version="2022-04-01")
    assert refusal(cloud.call("DELETE", path, caller="reader")) == (403, "AuthorizationFailed")
    assert refusal(cloud.call("DELETE", f"{path}/lids/top")) == (405, "MethodNotAllowed")
    assert cloud.call("DELETE", path).status_code == 200
    assert cloud.removed == [NAME, "one"]
    assert refusal(cloud.call("GET", f"{path}/lids/top")) == (404, "ResourceNotFound")
    assert cloud.call("GET", f"{path[:-3]}two").status_code == 200
    assert cloud.call("DELETE", path).status_code == 204


def test_what_is_the_same_for_all_tenants_is_read_by_everybody(cloud: Cloud) -> None:
    cloud.resources.add("/providers/Example.Things/colours", {"type": "", "value": ["red"]})
    answer = cloud.call("GET", "/providers/Example.Things/colours", caller="stranger")
    assert answer.json()["value"] == ["red"]
    assert refusal(cloud.call("GET", "/providers/Example.Things/sizes", caller="stranger"))[0] == 403


def test_registry_tells_its_sku(cloud: Cloud) -> None:
    assert cloud.call("GET", REGISTRY, version="2023-07-01").json()["sku"] == {"name": "Premium"}
    assert refusal(cloud.call("GET", REGISTRY, version="2023-07-02")) == (400, "NoRegisteredProviderFound")


def test_cloud_tells_who_it_is_before_anybody_has_a_token(cloud: Cloud) -> None:
    known = cloud.call("GET", "/metadata/endpoints", version="2015-01-01", caller="").json()
    assert known["authentication"]["audiences"] == [ARM_AUDIENCES[0]]
    for version in ("2015-01-01", "2022-09-01"):
        of_one = cloud.call("GET", "/metadata/endpoints", version=version, caller="").json()
        assert of_one["resourceManager"].startswith("https://127.0.0.1:")
    (listed,) = cloud.call("GET", "/metadata/endpoints", version="2019-05-01", caller="").json()
    assert listed == of_one
    assert listed["authentication"]["loginEndpoint"] == "https://login.example"
    assert {"acrLoginServer", "keyVaultDns", "storage"} <= set(listed["suffixes"])
    (subscription,) = cloud.call("GET", "/subscriptions", version="2022-12-01").json()["value"]
    assert subscription["id"] == SUBSCRIPTION
    assert cloud.call("GET", SUBSCRIPTION, version="2022-12-01").json() == subscription
    other = cloud.call("GET", "/subscriptions/other", version="2022-12-01")
    assert refusal(other) == (404, "SubscriptionNotFound")
    assert refusal(cloud.call("GET", "/subscriptions", version="2022-12-01", caller="")) == (
        401,
        "AuthenticationFailed",
    )


def test_operations_are_those_of_what_is_there(cloud: Cloud) -> None:
    with pytest.raises(LookupError, match="not found"):
        cloud.resources.call("listServiceSas", f"{GROUP}/providers/{BOX}/none", "")
    cloud.resources.add(f"{GROUP}/providers/{BOX}/one", {"type": BOX, "name": "one"})
    with pytest.raises(LookupError, match="no operation"):
        cloud.resources.call("listServiceSas", f"{GROUP}/providers/{BOX}/one", "")
