import json
from collections.abc import Mapping
from datetime import UTC, datetime

import pytest

from airgap.errors import Code, OperatorError
from airgap.ledger import Floor
from function_app.roles import build_app
from function_app.settings import SourceSettings, TargetSettings, read_role
from tests.bundles import default_key, make_policy
from tests.function_app.memory import ENVIRONMENT, RESOURCE_ID, STAGING

POLICY = make_policy([default_key()]).decode()
BLOB = "TransferStorage__blobServiceUri"


def test_defaults_are_those_of_the_public_cloud() -> None:
    required = {name: value for name, value in ENVIRONMENT.items() if not name.startswith(("PART", "PIPE"))}
    settings = SourceSettings.from_environment(required)
    assert settings.blob_service_url == "https://account.blob.core.windows.net"
    assert settings.arm_endpoint == "https://management.azure.com"
    assert settings.arm_scope == "https://management.azure.com/.default"
    assert settings.arm_api_version == "2025-06-01-preview"
    assert settings.registry_scope == "https://containerregistry.azure.net/.default"
    assert (settings.pipeline_run_poll_s, settings.pipeline_run_timeout_s) == (15, 14400)
    assert settings.part_size_bytes == 64 * 1024**2
    assert settings.client_id is None
    assert settings.pipeline_resource_id == f"{RESOURCE_ID}/exportPipelines/export01"


def test_another_clouds_arm_gives_its_own_scope() -> None:
    settings = TargetSettings.from_environment(
        ENVIRONMENT | {"TRUST_POLICY": POLICY, "ARM_ENDPOINT": "https://management.usgovcloudapi.net/"}
    )
    assert settings.arm_scope == "https://management.usgovcloudapi.net/.default"
    assert settings.pipeline_resource_id.endswith("/importPipelines/import01")


@pytest.mark.parametrize(
    "name",
    [BLOB, "REGISTRY_LOGIN_SERVER", "REGISTRY_RESOURCE_ID", "SIGNING_KEYS", "EXPORT_PIPELINE", "CLOUD_NAME"],
)
@pytest.mark.parametrize("value", [None, "", "  "])
def test_missing_setting_of_the_source_is_named(name: str, value: str | None) -> None:
    environment = {k: v for k, v in ENVIRONMENT.items() if k != name} | ({name: value} if value else {})
    assert_refused(SourceSettings, environment, name)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("", None),
        ("2027-01-31", datetime(2027, 1, 31, tzinfo=UTC)),
        ("2027-01-31T12:30:00Z", datetime(2027, 1, 31, 12, 30, tzinfo=UTC)),
    ],
)
def test_end_of_the_sas_is_a_time_as_a_sas_has_it(value: str, expected: datetime | None) -> None:
    settings = SourceSettings.from_environment(ENVIRONMENT | {"PIPELINE_SAS_EXPIRES_AT": value})
    assert settings.pipeline_sas_expires_at == expected


@pytest.mark.parametrize(
    ("name", "secret", "client"),
    [
        ("PIPELINE_SAS_SECRET", "", "renewer"),
        ("PIPELINE_SAS_SECRET", "https://vault.example/secrets/acrsas", ""),
        ("PIPELINE_SAS_SECRET", f"https://vault.example/secrets/acrsas/{'0' * 32}", "renewer"),
    ],
)
def test_secret_that_is_renewed_is_named_without_a_version_and_with_who_renews_it(
    name: str, secret: str, client: str
) -> None:
    given = {"PIPELINE_SAS_SECRET": secret, "PIPELINE_SAS_CLIENT_ID": client}
    assert_refused(SourceSettings, ENVIRONMENT | given, name)
    assert [*SourceSettings.survey(ENVIRONMENT | given)[1]] == [name]


def test_nothing_is_renewed_unless_it_is_said() -> None:
    settings = SourceSettings.from_environment(ENVIRONMENT)
    assert (settings.pipeline_sas_secret, settings.pipeline_sas_client_id) == (None, None)


@pytest.mark.parametrize("name", ["IMPORT_PIPELINE", "TRUST_POLICY"])
def test_missing_setting_of_the_target_is_named(name: str) -> None:
    environment = {k: v for k, v in (ENVIRONMENT | {"TRUST_POLICY": POLICY}).items() if k != name}
    assert_refused(TargetSettings, environment, name)


def test_pipeline_of_a_staged_import_is_that_of_the_staging_registry() -> None:
    settings = TargetSettings.from_environment(ENVIRONMENT | STAGING)
    assert settings.pipeline_resource_id == f"{RESOURCE_ID}staging/importPipelines/import01"
    assert settings.registry_resource_id == RESOURCE_ID
    assert settings.pipeline_registry == settings.staging_registry
    assert TargetSettings.from_environment(ENVIRONMENT).staging_registry is None


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("STAGING_REGISTRY_LOGIN_SERVER", ""),
        ("STAGING_REGISTRY_LOGIN_SERVER", "https://r.azurecr.io"),
        ("STAGING_REGISTRY_LOGIN_SERVER", ENVIRONMENT["REGISTRY_LOGIN_SERVER"]),
        ("STAGING_REGISTRY_RESOURCE_ID", ""),
        ("STAGING_REGISTRY_RESOURCE_ID", "/subscriptions/s/registries/r"),
        ("STAGING_REGISTRY_RESOURCE_ID", RESOURCE_ID.upper().replace("MICROSOFT", "Microsoft")),
    ],
)
def test_registry_itself_is_never_the_one_that_is_emptied(name: str, value: str) -> None:
    """Nor is one that is half told of."""
    assert_refused(TargetSettings, ENVIRONMENT | STAGING | {name: value}, name)
    _, faults = TargetSettings.survey(ENVIRONMENT | STAGING | {name: value})
    assert [*faults] == [name]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        (BLOB, "http://account.blob.core.windows.net"),
        (BLOB, "https://account.blob.core.windows.net/?sv=secret-sas"),
        (BLOB, "https://user@host/"),
        ("PIPELINE_SAS_SECRET", "https://vault.example/secrets/acrsas"),
        ("PIPELINE_SAS_SECRET", "https://vault.example/keys/acrsas"),
        ("PIPELINE_SAS_EXPIRES_AT", "in a year"),
        (BLOB, "https://host:port/"),
        (BLOB, "https://"),
        ("ARM_ENDPOINT", "management.azure.com"),
        ("ARM_API_VERSION", "latest"),
        ("REGISTRY_LOGIN_SERVER", "https://r.azurecr.io"),
        ("REGISTRY_RESOURCE_ID", "/subscriptions/s/registries/r"),
        ("EXPORT_PIPELINE", "with-hyphen"),
        ("SIGNING_KEYS", "https://vault.vault.azure.net/certificates/x"),
        ("SIGNING_KEYS", "http://vault.vault.azure.net/keys/x"),
        ("SIGNING_KEYS", ","),
        ("SIGNING_KEYS", "https://v/keys/x,https://v/keys/x"),
        ("PIPELINE_RUN_POLL_S", "0"),
        ("PIPELINE_RUN_POLL_S", "1.5"),
        ("PIPELINE_RUN_TIMEOUT_S", "-1"),
        ("PIPELINE_RUN_TIMEOUT_S", "٣"),
        ("PART_SIZE_MIB", "3"),
        ("PART_SIZE_MIB", "4001"),
        ("CLOUD_NAME", "x" * 65),
    ],
)
def test_invalid_setting_is_named_and_a_query_is_not_repeated(name: str, value: str) -> None:
    error = assert_refused(SourceSettings, ENVIRONMENT | {name: value}, name)
    assert "secret-sas" not in str(error)


@pytest.mark.parametrize(
    "value", ["{}", "not json", POLICY[:-1], "@Microsoft.KeyVault(SecretUri=https://v/secrets/p)"]
)
def test_invalid_trust_policy_is_named(value: str) -> None:
    error = assert_refused(TargetSettings, ENVIRONMENT | {"TRUST_POLICY": value}, "TRUST_POLICY")
    assert ("Key Vault reference" in error.detail) == value.startswith("@")


@pytest.mark.parametrize("environment", [{}, {"TRANSFER_ROLE": ""}, {"TRANSFER_ROLE": "Source"}])
def test_role_is_the_one_setting_that_indexing_needs(environment: Mapping[str, str]) -> None:
    with pytest.raises(OperatorError, match="TRANSFER_ROLE"):
        read_role(environment)


HOOK = "https://events.contoso.com/airgap"
VAULT_SECRET = "https://vault.vault.azure.net/secrets/events-webhook"


def test_who_is_told_of_changes_is_named_together_with_the_secret() -> None:
    nobody = SourceSettings.from_environment(ENVIRONMENT)
    assert (nobody.events_webhook_url, nobody.events_webhook_secret) == (None, None)
    environment = ENVIRONMENT | {"EVENTS_WEBHOOK_URL": HOOK, "EVENTS_WEBHOOK_SECRET": VAULT_SECRET}
    told = SourceSettings.from_environment(environment)
    assert (told.events_webhook_url, told.events_webhook_secret) == (HOOK, VAULT_SECRET)


@pytest.mark.parametrize(
    ("url", "secret", "at_fault"),
    [
        ("", VAULT_SECRET, "EVENTS_WEBHOOK_URL"),
        (HOOK, "", "EVENTS_WEBHOOK_SECRET"),
        ("http://events.contoso.com", VAULT_SECRET, "EVENTS_WEBHOOK_URL"),
        (f"{HOOK}?code=aSecret", VAULT_SECRET, "EVENTS_WEBHOOK_URL"),
        ("https://me:aSecret@events.contoso.com", VAULT_SECRET, "EVENTS_WEBHOOK_URL"),
        (HOOK, "whsec_aSecret", "EVENTS_WEBHOOK_SECRET"),
        (HOOK, "@Microsoft.KeyVault(SecretUri=aSecret)", "EVENTS_WEBHOOK_SECRET"),
        (HOOK, "https://vault.vault.azure.net/keys/aSecret", "EVENTS_WEBHOOK_SECRET"),
    ],
)
def test_receiver_of_events_that_is_half_named_or_holds_a_secret_is_refused_and_not_quoted(
    url: str, secret: str, at_fault: str
) -> None:
    environment = ENVIRONMENT | {"EVENTS_WEBHOOK_URL": url, "EVENTS_WEBHOOK_SECRET": secret}
    assert_refused(SourceSettings, environment, at_fault)
    _, faults = SourceSettings.survey(environment)
    assert "aSecret" not in str(faults)


def test_each_role_has_its_own_functions() -> None:
    names = {
        role: {function.get_function_name() for function in build_app(role).get_functions()}
        for role in (read_role({"TRANSFER_ROLE": "source"}), read_role({"TRANSFER_ROLE": "target"}))
    }
    shared = {"read_pipeline_run", "await_outcome", "run_lane", "stop_work", "record_state"}
    shared |= {"preflight", "refuse_preflight_method", "get_health", "refuse_health_method"}
    shared |= {"openapi", "refuse_openapi_method", "tell_events", "renew_pipeline_sas"}
    assert names["source"] & names["target"] == shared
    assert {"create_transfer", "export_transfer", "seal_bundle"} <= names["source"]
    assert {"bundle_arrived", "import_bundle", "issue_receipt"} <= names["target"]


def assert_refused(
    kind: type[SourceSettings | TargetSettings], environment: Mapping[str, str], name: str
) -> OperatorError:
    with pytest.raises(OperatorError) as caught:
        kind.from_environment(environment)
    assert caught.value.code is Code.SETTING_INVALID
    assert caught.value.detail.startswith(f"{name}: ")
    return caught.value


PREVIOUS = "sha256:" + "0" * 64


@pytest.mark.parametrize(
    "value",
    [
        [],
        {"Prod": {"sequence": 2, "previous": PREVIOUS}},
        {"prod": {"sequence": 2}},
        {"prod": {"sequence": 2, "previous": None}},
        {"prod": {"sequence": 1, "previous": PREVIOUS}},
        {"prod": {"sequence": 0, "previous": None}},
        {"prod": {"sequence": 2, "previous": "0"}},
        {"prod": 58},
    ],
    ids=json.dumps,
)
def test_floor_that_is_none_is_refused(value: object) -> None:
    environment = ENVIRONMENT | {"SEQUENCE_FLOORS": json.dumps(value)}
    assert_refused(SourceSettings, environment, "SEQUENCE_FLOORS")
    assert_refused(SourceSettings, ENVIRONMENT | {"SEQUENCE_FLOORS": "{"}, "SEQUENCE_FLOORS")


def test_floors_are_read_by_channel() -> None:
    value = {"prod": {"sequence": 58, "previous": PREVIOUS}}
    settings = SourceSettings.from_environment(ENVIRONMENT | {"SEQUENCE_FLOORS": json.dumps(value)})
    assert settings.sequence_floors == {"prod": Floor(sequence=58, previous_sha256="0" * 64)}
    assert SourceSettings.from_environment(ENVIRONMENT).sequence_floors == {}
