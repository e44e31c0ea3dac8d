"""The machine under a cloud: the servers on loopback that the resources of a template are here.

A `Machine` is what one Azure cloud would have; ARM's makers (`makers`) change it as a deployment says.
"""

import asyncio
import base64
import secrets
import uuid
from collections.abc import Callable, Coroutine, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, Literal, TypeVar

from azure.core.exceptions import HttpResponseError, ResourceExistsError
from azure.storage.blob import (
    BlobServiceClient,
    ContainerClient,
    ContainerSasPermissions,
    generate_container_sas,
)

from infra.expansion import Expansion, Resource
from local_cloud import web
from local_cloud.acr_transfer import AcrTransfer, Behaviour, ImageImports, RegistryAccess, access
from local_cloud.acr_transfer.errors import ArmError
from local_cloud.acr_transfer.records import ManagedIdentity
from local_cloud.acr_transfer.resources import Kind, PipelineRequest, check_name
from local_cloud.acr_transfer.storage import MintedCredential
from local_cloud.app_service import AppService
from local_cloud.azurite import Azurite
from local_cloud.identity import Identity, identity_app
from local_cloud.key_vault import Curve, KeyVault, Permission
from local_cloud.malware_scanner import MalwareScanner
from local_cloud.pki import CertificateAuthority
from local_cloud.registry import Registry
from local_cloud.registry import access as registry_access
from local_cloud.resource_manager import (
    Deployments,
    Maker,
    Resources,
    Tenancy,
    check_unique,
    resource_manager_app,
)
from local_cloud.roles import (
    DEFINITIONS,
    DELETE,
    LIST_SECRET,
    PUBLISH_TELEMETRY,
    PULL,
    PUSH,
    READ_KEY,
    READ_SECRET,
    SET_SECRET,
    SIGN,
    VERIFY,
)
from local_cloud.sign_in import Application, sign_in_app
from local_cloud.storage_front import (
    ImmutabilityPolicy,
    RoleAssignment,
    RoleAssignments,
    RoleDefinition,
    StorageAccount,
    StorageFront,
)
from local_cloud.storage_front.operations import SERVICES, Request
from local_cloud.storage_front.operations import Service as StorageService
from local_cloud.telemetry import Ingestion
from local_cloud.tokens import ARM_AUDIENCES, TokenAuthority

_STORAGE = "Microsoft.Storage/storageAccounts"
_CONTAINERS = f"{_STORAGE}/blobServices/containers"
_SITE = "Microsoft.Web/sites"
_REGISTRY = "Microsoft.ContainerRegistry/registries"
_NO_PASSWORDS = '<publishData><publishProfile publishMethod="ZipDeploy" /></publishData>'
"""The profiles of a site that takes no passwords, in the XML that `az functionapp show` wants to read."""
_PACKAGE = "released-package.zip"
_WAIT_S = 60.0
_T = TypeVar("_T")

Service = Literal["app", "arm", "deployment-site", "identity", "sign-in", "telemetry", "vault"]

NOTHING_BEHIND = (
    "Microsoft.EventGrid/systemTopics",
    "Microsoft.EventGrid/systemTopics/eventSubscriptions",
    "Microsoft.Insights/diagnosticSettings",
    "Microsoft.Insights/scheduledQueryRules",
    "Microsoft.Insights/workbooks",
    "Microsoft.OperationalInsights/workspaces",
    "Microsoft.Web/serverfarms",
    "Microsoft.Web/sites/basicPublishingCredentialsPolicies",
    f"{_STORAGE}/blobServices",
    f"{_STORAGE}/managementPolicies",
    f"{_STORAGE}/queueServices",
    f"{_STORAGE}/tableServices",
)
"""Types that ARM keeps here as they were sent, and that change nothing."""

_ASKED_OF_A_VAULT: Mapping[Permission, str] = {
    "keys/get": READ_KEY,
    "keys/sign": SIGN,
    "keys/verify": VERIFY,
    "secrets/get": READ_SECRET,
    "secrets/list": LIST_SECRET,
    "secrets/set": SET_SECRET,
}


class CallersOfArm(access.RoleAssignments):
    """The callers of ARM who may read, write and delete: owners and the like, and holders of such a role."""

    def __init__(self, assigned: RoleAssignments) -> None:
        super().__init__()
        self._by_definition = assigned

    def allows(self, principal_id: str, action: str, scope: str) -> bool:
        """Tell whether a caller may do ``…/read``, ``…/write`` or ``…/delete`` on a resource."""
        return super().allows(principal_id, action, scope) or self._by_definition.allow(
            principal_id, action, scope
        )


class Machine:
    """The services of one cloud beside its registry, which is there before anything is deployed.

    What is stored and where it is served stays over `stop` and `start`.
    """

    def __init__(
        self,
        *,
        registry_id: str,
        group_id: str,
        folder: Path,
        ca: CertificateAuthority,
        behaviour: Behaviour,
    ) -> None:
        self.tokens = TokenAuthority()
        self.assignments = RoleAssignments(definitions=DEFINITIONS)
        self.vault = KeyVault(self.tokens, assigned=self._may_use_vault)
        self.owner_principal = str(uuid.uuid4())
        self.owner = Application(
            client_id=str(uuid.uuid4()), secret=secrets.token_hex(20), principal_id=self.owner_principal
        )
        self.identity_header = uuid.uuid4().hex
        self.app_settings: Mapping[str, str] = {}
        self.storage_key = base64.b64encode(secrets.token_bytes(64)).decode()
        self.registries: dict[str, Registry] = {}
        """By their ids, in lower case."""
        self.azurite: Azurite
        self._registry_id = registry_id
        self._folder = folder
        self._ca = ca
        self._behaviour = behaviour
        self._acr_principal = str(uuid.uuid4())
        self._identities: dict[str, ManagedIdentity] = {}
        self._transfers: list[AcrTransfer] = []
        self._accesses: dict[str, RegistryAccess] = {}
        self.image_imports = ImageImports(
            registries=self._accesses,
            tokens=self.tokens,
            roles=CallersOfArm(self.assignments),
            pulls=lambda principal_id, registry_id: self.assignments.allow(principal_id, PULL, registry_id),
        )
        self._accounts: dict[str, StorageAccount] = {}
        self._front: StorageFront | None = None
        self.malware_scanner: MalwareScanner | None = None
        """Defender for Storage, once it is deployed for an account."""
        self.telemetry = Ingestion(
            self.tokens,
            may_publish=lambda principal_id: self.assignments.allow(
                principal_id, PUBLISH_TELEMETRY, self._telemetry_id
            ),
        )
        self._vault_id = self._site_id = self._package_container = self._telemetry_id = ""
        self._app_identities: tuple[Identity, ...] = ()
        self._app_principal = ""
        self._clients: dict[str, BlobServiceClient] = {}
        self._ports: dict[str, int] = {}
        self._servers: dict[str, web.Server] = {}
        self.app_service = AppService(self.tokens, may_deploy=self._may_deploy)
        self._resources = Resources(
            self.makers(),
            {"Microsoft.Authorization/roleAssignments": self._unassign, _REGISTRY: self._delete_registry},
            {
                f"{_STORAGE}/listServiceSas": self.service_sas,
                f"{_SITE}/config/appsettings/list": lambda *_: {"properties": self.app_settings},
                f"{_SITE}/host/default/listKeys": lambda *_: self._host_keys(),
                f"{_SITE}/publishxml": lambda *_: _NO_PASSWORDS,
            },
        )
        # No stack of App Service is told: `az` then says that it does not know the app's, and goes on.
        for where in ("", "/locations/local"):  # the latter are asked for about apps on Flex Consumption
            stacks = f"/providers/Microsoft.Web{where}/functionAppStacks"
            self._resources.add(stacks, {"type": "", "value": []})
        self._deployments = Deployments(self._resources, prepare=self._prepare)
        for group in (group_id, registry_id.partition("/providers/")[0]):
            kind = "Microsoft.Resources/resourceGroups"
            state = {"type": kind, "name": group.rpartition("/")[2], "location": "local"}
            self._resources.add(group, {**state, "properties": {"provisioningState": "Succeeded"}})
        for definition in DEFINITIONS:
            kind = "Microsoft.Authorization/roleDefinitions"
            properties = {"roleName": definition.name, "type": "BuiltInRole", "assignableScopes": ["/"]}
            subscription = group_id.partition("/resourceGroups/")[0]
            self._resources.add(
                f"{subscription}/providers/{kind}/{definition.guid}",
                {"type": kind, "name": definition.guid, "properties": properties},
            )

    @property
    def registry(self) -> Registry:
        """The registry in whose resource group everything is deployed."""
        return self.registries[self._registry_id.lower()]

    def url(self, service: Service) -> str:
        """The URL at which a service answers."""
        return f"{'http' if service == 'identity' else 'https'}://127.0.0.1:{self._ports[service]}"

    def storage_url(self, service: StorageService, account: str) -> str:
        """The URL at which a service of a storage account answers, and asks for roles."""
        assert self._front is not None  # noqa: S101 - the account is there
        return self._front.url(service, account)

    def watch_storage(self, watch: Callable[[Request], None]) -> None:
        """Have ``watch`` told of each later request to a storage account, in place of an earlier watch."""
        assert self._front is not None  # noqa: S101 - the account is there
        self._front.watch = watch

    @property
    def app_principal(self) -> str:
        """The object id of the identity that the app works by, once it is deployed."""
        assert self._app_principal  # noqa: S101 - it is there
        return self._app_principal

    def takes_keys(self, account: str) -> bool:
        """Whether a storage account takes its key, and a SAS that the key has signed."""
        return self._accounts[account].allows_keys

    # --- servers

    async def start(self) -> None:
        """Serve ARM, the registry, and everything that has been deployed."""
        self._loop = asyncio.get_running_loop()
        await self._start_sign_in()
        for registry_id in self.registries or [self._registry_id]:
            await self._start_registry(registry_id)
        if self._accounts:
            await self._start_storage()
        if self.malware_scanner:
            self.malware_scanner.start()
        if "vault" in self._ports:
            await self._start_vault()
        if "telemetry" in self._ports:
            await self._start_telemetry()
        if self._app_identities:
            await self._start_app_service()
        await self._start_arm()

    async def stop(self) -> None:
        """Stop every service; what is stored stays."""
        await self._deployments.settle()
        if self.malware_scanner:
            await asyncio.to_thread(self.malware_scanner.stop)
        while self._servers:
            await self._servers.popitem()[1].close()
        if self._front:
            await self._front.close()
        for registry in self.registries.values():
            await registry.close()
        while self._clients:
            self._clients.popitem()[1].close()
        if hasattr(self, "azurite"):
            await asyncio.to_thread(self.azurite.stop)

    async def close(self) -> None:
        """Stop every service for good."""
        await self.stop()
        for transfer in self._transfers:
            await transfer.close()
        self.image_imports.close()

    async def _start_sign_in(self) -> None:
        await self._serve("sign-in", sign_in_app(self.tokens, [self.owner]))
        self.tokens.login_endpoint = self.url("sign-in")

    async def _start_registry(self, registry_id: str) -> Registry:
        """Start a registry, or start it again: an id means the same in any case, and so does its folder."""
        registry_id = registry_id.lower()
        name = registry_id.rpartition("/")[2]
        is_first = registry_id == self._registry_id.lower()
        registry = await Registry.start(
            name=name,
            folder=self._folder / ("registry" if is_first else name),
            ca=self._ca,
            tokens=self.tokens,
            port=self._ports.get(f"registry {name}", 0),
            assigned=lambda principal_id: self._registry_roles(principal_id, registry_id),
        )
        self.registries[registry_id] = registry
        self._ports[f"registry {name}"] = int(registry.login_server.split(":")[1])
        registry.grant(self._acr_principal, "AcrPull", "AcrPush")
        self._accesses[registry_id] = RegistryAccess(
            login_server=registry.login_server,
            principal_id=self._acr_principal,
            ca_file=self._ca.ca_file,
        )
        if is_first:
            properties = {"loginServer": registry.login_server, "provisioningState": "Succeeded"}
            sku = {"name": self._behaviour.sku, "tier": self._behaviour.sku}
            spelled = self._registry_id.rpartition("/")[2]
            known = {"type": _REGISTRY, "name": spelled, "location": "local", "sku": sku}
            self._resources.add(self._registry_id, {**known, "properties": properties})
        return registry

    def _add_transfer(self, registry_id: str) -> AcrTransfer:
        transfer = AcrTransfer(
            tokens=self.tokens,
            registry_id=registry_id,
            registry=self._accesses[registry_id.lower()],
            ca_file=self._ca.ca_file,
            behaviour=self._behaviour,
            roles=CallersOfArm(self.assignments),
            storage_asks_for_roles=True,
            identities=self._identities,
        )
        transfer.grant(self.owner_principal, "Owner", "/".join(registry_id.split("/")[:3]))
        self._transfers.append(transfer)
        return transfer

    async def _start_arm(self) -> None:
        if not self._transfers:
            self._add_transfer(self._registry_id)
        tenancy = Tenancy(
            tenant_id=self.tokens.tenant_id,
            subscription_id=self._registry_id.split("/")[2],
            login_endpoint=self.tokens.login_endpoint,
            audience=ARM_AUDIENCES[0],
        )
        app = resource_manager_app(
            tenancy=tenancy,
            transfers=self._transfers,
            image_imports=self.image_imports,
            resources=self._resources,
            deployments=self._deployments,
        )
        await self._serve("arm", app)

    async def _start_storage(self) -> None:
        first, *others = self._accounts
        self.azurite = await asyncio.to_thread(
            Azurite.start,
            account=first,
            more_accounts=others,
            folder=self._folder / "storage",
            ca=self._ca,
            key=self.storage_key,
        )
        if self._front is None:
            self._front = StorageFront(azurite=self.azurite, tokens=self.tokens, assignments=self.assignments)
        self._front.azurite = self.azurite
        for account in self._accounts.values():
            self._front.add(account)
        ports = {service: self._ports[service] for service in SERVICES if service in self._ports}
        await self._front.start(self._ca, ports)
        self._ports.update(self._front.ports.items())

    async def _start_vault(self) -> None:
        await self._serve("vault", self.vault.app())

    async def _start_telemetry(self) -> None:
        await self._serve("telemetry", self.telemetry.app())

    async def _start_app_service(self) -> None:
        await self._start_identity()
        await self._serve("app", self.app_service.host())
        await self._serve("deployment-site", self.app_service.deployment_site())

    async def _start_identity(self) -> None:
        app = identity_app(self.tokens, self._app_identities, header_secret=self.identity_header)
        await self._serve("identity", app, tls=False)

    async def _serve(self, name: str, app: Any, *, tls: bool = True) -> None:
        if name in self._servers:
            return
        context = self._ca.server_context(f"{self._folder.name}-{name}") if tls else None
        server = await web.serve(app, ssl_context=context, port=self._ports.get(name, 0))
        self._ports[name] = server.port
        self._servers[name] = server

    # --- what a deployment makes; in a thread of its own

    def makers(self) -> Mapping[str, Maker]:
        """The functions that make resources, by the resources' types."""
        return {
            **dict.fromkeys(NOTHING_BEHIND, lambda _: {}),
            _STORAGE: self._make_account,
            _CONTAINERS: self._make_container,
            f"{_CONTAINERS}/immutabilityPolicies": self._make_immutability_policy,
            "Microsoft.Security/defenderForStorageSettings": self._make_scanner,
            f"{_STORAGE}/queueServices/queues": self._make_queue,
            f"{_STORAGE}/tableServices/tables": self._make_table,
            "Microsoft.Authorization/roleAssignments": self._assign,
            "Microsoft.Authorization/roleDefinitions": self._define_role,
            "Microsoft.KeyVault/vaults": self._make_vault,
            "Microsoft.KeyVault/vaults/keys": self._make_key,
            "Microsoft.KeyVault/vaults/secrets": self._make_secret,
            "Microsoft.ManagedIdentity/userAssignedIdentities": self._make_identity,
            _SITE: self._make_app,
            f"{_SITE}/config": self._configure_app,
            "Microsoft.Insights/components": self._make_telemetry,
            _REGISTRY: self._make_registry,
            f"{_REGISTRY}/exportPipelines": self._make_pipeline,
            f"{_REGISTRY}/importPipelines": self._make_pipeline,
        }

    def _on_the_loop(self, work: Coroutine[Any, Any, _T]) -> _T:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(_WAIT_S)

    def _prepare(self, foreseen: Expansion) -> None:
        """Serve all storage accounts of a deployment by one Azurite."""
        new = [one for one in foreseen.of_type(_STORAGE) if one.name not in self._accounts]
        if not new:
            return
        if self._front:
            self._clients.clear()
            self._on_the_loop(self._front.close())
            self.azurite.stop()
        self._accounts |= {one.name: StorageAccount(resource_id=one.id) for one in new}
        self._on_the_loop(self._start_storage())

    def _account(self, resource: Resource) -> Azurite:
        return self.azurite.of(resource.name.split("/")[0])

    def _make_account(self, resource: Resource) -> Mapping[str, Any]:
        self._accounts[resource.name].allows_keys = resource.properties["allowSharedKeyAccess"]
        urls = {service: f"{self.storage_url(service, resource.name)}/" for service in SERVICES}
        return {"properties": {"primaryEndpoints": urls}}

    def service_sas(self, account: str, asked: Mapping[str, Any]) -> Mapping[str, Any]:
        """A SAS of a container, signed by the account's key.

        https://learn.microsoft.com/rest/api/storagerp/storage-accounts/list-service-sas
        """
        _, service, of_account, container = asked["canonicalizedResource"].split("/")
        if (service, of_account, asked["signedResource"]) != ("blob", account, "c"):
            raise ArmError(
                400, "InvalidValuesForRequestParameters", "A container of this account is expected."
            )
        permission = ContainerSasPermissions.from_string(asked["signedPermission"])
        if str(permission) != asked["signedPermission"]:
            message = "Values for request parameters are invalid: signedPermission."
            raise ArmError(400, "InvalidValuesForRequestParameters", message)
        token = generate_container_sas(
            account_name=account,
            container_name=container,
            account_key=self.storage_key,
            permission=permission,
            expiry=asked["signedExpiry"],
            protocol=asked["signedProtocol"],
        )
        return {"serviceSasToken": token}

    def _make_container(self, resource: Resource) -> Mapping[str, Any]:
        account, _, container = resource.name.split("/")
        if account not in self._clients:  # one for all containers: each would shake hands anew
            self._clients[account] = self.azurite.of(account).service_client()
        with suppress(ResourceExistsError):
            self._clients[account].create_container(container)
        return {}

    def _make_immutability_policy(self, resource: Resource) -> Mapping[str, Any]:
        account, _, container, _ = resource.name.split("/")
        self._accounts[account].immutability[container] = ImmutabilityPolicy(
            days=resource.properties["immutabilityPeriodSinceCreationInDays"],
            allows_appends=resource.properties["allowProtectedAppendWrites"],
        )
        return {"properties": {"state": "Unlocked"}}

    def _make_scanner(self, resource: Resource) -> Mapping[str, Any]:
        account = (resource.scope or "").rpartition("/")[2]
        on_upload = resource.properties["malwareScanning"]["onUpload"]
        if self.malware_scanner is None:
            self.malware_scanner = MalwareScanner(lambda: self.azurite.of(account), excluded=())
        self.malware_scanner.excluded = tuple(on_upload["filters"]["excludeBlobsWithPrefix"])
        self.malware_scanner.start()
        return {}

    def _make_queue(self, resource: Resource) -> Mapping[str, Any]:
        self._account(resource).ensure_queue(resource.name.rpartition("/")[2])
        return {}

    def _make_table(self, resource: Resource) -> Mapping[str, Any]:
        self._account(resource).ensure_table(resource.name.rpartition("/")[2])
        return {}

    def _make_vault(self, resource: Resource) -> Mapping[str, Any]:
        self._vault_id = resource.id
        self._on_the_loop(self._start_vault())
        return {"properties": {"vaultUri": f"{self.url('vault')}/"}}

    def _make_key(self, resource: Resource) -> Mapping[str, Any]:
        name = resource.name.rpartition("/")[2]
        if not self.vault.has_key(name):
            curve: Curve = resource.properties["curveName"]
            self.vault.create_ec_key(name, curve)
        return {"properties": {"keyUri": f"{self.url('vault')}/keys/{name}"}}

    def _make_secret(self, resource: Resource) -> Mapping[str, Any]:
        name = resource.name.rpartition("/")[2]
        self.vault.set_secret(name, resource.properties["value"])
        return {"properties": {"value": None, "secretUri": f"{self.url('vault')}/secrets/{name}"}}

    def put_secret(self, name: str, value: str) -> None:
        """Put a secret into the vault, as whoever runs the app does with ``az keyvault secret set``.

        From then on a role can be given on it.
        """
        self.vault.set_secret(name, value)
        kind = "Microsoft.KeyVault/vaults/secrets"
        self._resources.add(
            f"{self._vault_id}/secrets/{name}", {"type": kind, "name": name, "properties": {}}
        )

    def _make_identity(self, resource: Resource) -> Mapping[str, Any]:
        identity = self._transfer.user_identity(resource.id)
        tenant = self.tokens.tenant_id
        known = {"principalId": identity.principal_id, "clientId": identity.client_id, "tenantId": tenant}
        return {"properties": known}

    def _make_registry(self, resource: Resource) -> Mapping[str, Any]:
        if resource.id.lower() not in self.registries:

            async def start() -> None:
                await self._start_registry(resource.id)
                self._add_transfer(resource.id).open()

            self._on_the_loop(start())
        return {"properties": {"loginServer": self.registries[resource.id.lower()].login_server}}

    def _delete_registry(self, state: Mapping[str, Any]) -> None:
        """Stop a registry for good, and its pipelines with it: a run at work never comes to its end."""
        key = state["id"].lower()
        if key == self._registry_id.lower():
            raise ArmError(405, "MethodNotAllowed", "The registry that was there before is not deleted here.")
        transfer = next(one for one in self._transfers if one.registry_id.lower() == key)

        async def stop() -> None:
            await transfer.close()
            await self.registries.pop(key).close()

        self._transfers.remove(transfer)
        del self._accesses[key]
        self._on_the_loop(stop())

    def _make_pipeline(self, resource: Resource) -> Mapping[str, Any]:
        kind: Kind = "exportPipelines" if resource.type.endswith("exportPipelines") else "importPipelines"
        request = PipelineRequest.from_json(resource.body, kind=kind, version=resource.api_version)
        name = check_name(resource.name.rpartition("/")[2])
        registry_id = resource.id.lower().rpartition(f"/{kind.lower()}/")[0]
        transfer = next(one for one in self._transfers if one.registry_id.lower() == registry_id)
        made = transfer.put_pipeline(kind, name, request, self.owner_principal)
        return made.to_json(version=resource.api_version)

    def _make_app(self, resource: Resource) -> Mapping[str, Any]:
        found = map(self._transfer.user_identity, resource.body["identity"]["userAssignedIdentities"])
        self._app_identities = tuple(Identity(one.client_id, one.principal_id) for one in found)
        own = self._transfer.user_identity(resource.properties["keyVaultReferenceIdentity"])
        self._app_principal = own.principal_id
        self._site_id = resource.id
        self._on_the_loop(self._start_app_service())
        on_flex = resource.properties.get("functionAppConfig")
        self._package_container = on_flex["deployment"]["storage"]["value"] if on_flex else ""
        self.app_service.store = self._store_package if on_flex else None
        configuration = {"type": f"{_SITE}/config", "properties": resource.properties["siteConfig"]}
        self._resources.add(f"{resource.id}/config/web", {**configuration, "name": "web"})
        names = {"type": f"{_SITE}/config", "name": "slotConfigNames", "properties": {}}
        self._resources.add(f"{resource.id}/config/slotConfigNames", names)
        plan = self._resources.find(resource.properties["serverFarmId"]) or {}
        host, site = (self.url(service).partition("//")[2] for service in ("app", "deployment-site"))
        known = {
            "state": "Running",
            "sku": plan["sku"]["tier"],
            "reserved": "linux" in resource.body["kind"],
            "defaultHostName": host,
            "hostNameSslStates": [
                {"name": host, "hostType": "Standard"},
                {"name": site, "hostType": "Repository"},
            ],
        }
        return {"properties": known}

    def _store_package(self, package: bytes) -> str:
        """Put a package into its container as the app; why that failed, or nothing."""
        credential = MintedCredential(self.tokens, self.app_principal)
        try:
            with ContainerClient.from_container_url(
                self._package_container, credential=credential, connection_verify=str(self._ca.ca_file)
            ) as container:
                container.upload_blob(_PACKAGE, package, overwrite=True)
        except HttpResponseError as error:
            what = "BlobUploadFailedException: Failed to upload blob package to storage account."
            return f"{what} Response status code does not indicate success: {error.status_code}."
        return ""

    def _host_keys(self) -> Mapping[str, Any]:
        return {"masterKey": self.app_service.master_key, "functionKeys": {}, "systemKeys": {}}

    def _may_deploy(self, principal_id: str) -> bool:
        return not self._transfer.roles.roles(principal_id, self._site_id).isdisjoint(
            {"contributor", "owner"}
        )

    def _configure_app(self, resource: Resource) -> Mapping[str, Any]:
        if resource.name.rpartition("/")[2] != "appsettings":
            raise ArmError(400, "BadRequest", f"'{resource.name}' is not a configuration that is known here.")
        self.app_settings = dict(resource.properties)
        return {}

    def _make_telemetry(self, resource: Resource) -> Mapping[str, Any]:
        self._telemetry_id = resource.id
        self.telemetry.takes_anybody = not resource.properties["DisableLocalAuth"]
        self._on_the_loop(self._start_telemetry())
        address = f"InstrumentationKey={uuid.UUID(int=0)};IngestionEndpoint={self.url('telemetry')}/"
        return {"properties": {"ConnectionString": address}}

    # --- roles

    @property
    def _transfer(self) -> AcrTransfer:
        return self._transfers[0]

    def _assign(self, resource: Resource) -> Mapping[str, Any]:
        assignment = _assignment(resource.properties, resource.scope or "")
        check_unique(self._resources, resource)
        if not self.assignments.knows(assignment.role):
            message = f"The specified role definition '{assignment.role}' does not exist."
            raise ArmError(400, "RoleDefinitionDoesNotExist", message)
        self.assignments.assign(assignment)
        return {"properties": {"scope": assignment.scope}}

    def _unassign(self, state: Mapping[str, Any]) -> None:
        self.assignments.remove(_assignment(state["properties"], state["properties"]["scope"]))

    def _define_role(self, resource: Resource) -> Mapping[str, Any]:
        allows = [
            action
            for permission in resource.properties["permissions"]
            for kind in ("actions", "dataActions")
            for action in permission.get(kind, [])
        ]
        name = resource.properties["roleName"]
        self.assignments.define(RoleDefinition(name=name, guid=resource.name, allows=tuple(allows)))
        return {}

    def _may_use_vault(self, principal_id: str, permission: Permission, place: str) -> bool:
        action = _ASKED_OF_A_VAULT[permission]
        return self.assignments.allow(principal_id, action, f"{self._vault_id}/{place}")

    def _registry_roles(self, principal_id: str, registry_id: str) -> Iterator[registry_access.Role]:
        roles: tuple[tuple[registry_access.Role, str], ...] = (
            ("AcrPull", PULL),
            ("AcrPush", PUSH),
            ("AcrDelete", DELETE),
        )
        for role, action in roles:
            if self.assignments.allow(principal_id, action, registry_id):
                yield role


def _assignment(properties: Mapping[str, Any], scope: str) -> RoleAssignment:
    return RoleAssignment(
        principal_id=properties["principalId"], role=properties["roleDefinitionId"], scope=scope
    )
