"""Azure's roles that the local cloud knows beside those of storage, and what each allows."""

from local_cloud.storage_front import BUILT_IN, RoleDefinition

_REGISTRIES = "Microsoft.ContainerRegistry/registries"
_VAULTS = "Microsoft.KeyVault/vaults"
PULL, PUSH = f"{_REGISTRIES}/pull/read", f"{_REGISTRIES}/push/write"
DELETE = f"{_REGISTRIES}/artifacts/delete"
READ_KEY, SIGN, VERIFY = (f"{_VAULTS}/keys/{what}" for what in ("read", "sign/action", "verify/action"))
PUBLISH_TELEMETRY = "Microsoft.Insights/Telemetry/Write"
READ_SECRET, SET_SECRET, LIST_SECRET = (
    f"{_VAULTS}/secrets/{what}/action" for what in ("getSecret", "setSecret", "readMetadata")
)

DEFINITIONS = (
    *BUILT_IN,
    RoleDefinition(name="AcrPull", guid="7f951dda-4ed3-4680-a7ca-43fe172d538d", allows=(PULL,)),
    RoleDefinition(name="AcrDelete", guid="c2f4ef07-c644-48eb-af81-4b1b4947fb11", allows=(DELETE,)),
    RoleDefinition(
        name="Container Registry Data Importer and Data Reader",
        guid="577a9874-89fd-4f24-9dbd-b5034d0ad23a",
        allows=(f"{_REGISTRIES}/importImage/action", f"{_REGISTRIES}/read", PULL),
    ),
    RoleDefinition(
        name="Reader", guid="acdd72a7-3385-48ef-bd42-f606fba81ae7", allows=(f"{_REGISTRIES}/read", PULL)
    ),
    RoleDefinition(
        name="Container Registry Transfer Pipeline Contributor",
        guid="bf94e731-3a51-4a7c-8c54-a1ab9971dfc1",
        allows=tuple(
            f"{_REGISTRIES}/{kind}/*" for kind in ("exportPipelines", "importPipelines", "pipelineRuns")
        ),
    ),
    RoleDefinition(
        name="Key Vault Crypto User",
        guid="12338af0-0e69-4776-bea7-57ae8d297424",
        allows=(
            READ_KEY,
            *(f"{_VAULTS}/keys/{verb}/action" for verb in ("sign", "verify", "encrypt", "decrypt")),
        ),
    ),
    RoleDefinition(
        name="Key Vault Secrets Officer",
        guid="b86a8fe4-44ce-4948-aee5-eccb2c155cd7",
        allows=(READ_SECRET, SET_SECRET, LIST_SECRET),
    ),
    RoleDefinition(
        name="Key Vault Secrets User",
        guid="4633458b-17de-408a-b874-0445c86b69e6",
        allows=(READ_SECRET, LIST_SECRET),
    ),
    RoleDefinition(
        name="Monitoring Metrics Publisher",
        guid="3913510d-42f4-4e42-8a64-420c390055eb",
        allows=("Microsoft.Insights/Metrics/Write", PUBLISH_TELEMETRY),
    ),
)
"""https://learn.microsoft.com/azure/role-based-access-control/built-in-roles

What nothing here asks for is left out of the last ones.
"""
