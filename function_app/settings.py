"""The application settings: read once, checked, frozen. Every refusal names the setting."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, ClassVar, Literal, NoReturn, Self, cast
from urllib.parse import urlsplit

import airgap
from airgap import parts
from airgap.checks import Check, ScanCheck, read_checks
from airgap.errors import AirgapError, Code, OperatorError, UntrustedInputError
from airgap.fields import CHANNEL, LOGIN_SERVER
from airgap.ledger import Floor
from airgap.manifest import Tool
from airgap.policy import TrustPolicy
from airgap.strict_json import load_strict

Role = Literal["source", "target"]
BlobEvents = Literal["poll", "eventGrid"]

TOOL = Tool(name="acr-airgap-transfer", version=airgap.__version__)
"""What the app calls itself in what it signs."""

_ACR_RESOURCE_ID = re.compile(
    r"/subscriptions/[^/]+/resourceGroups/[^/]+/providers/Microsoft\.ContainerRegistry/registries/[^/]+",
    re.IGNORECASE,
)
_PIPELINE = re.compile(r"[A-Za-z0-9]{5,50}")
_API_VERSION = re.compile(r"\d{4}-\d\d-\d\d(?:-preview)?")
_KEY_ID = re.compile(
    r"https://[A-Za-z0-9.-]+(?::\d{1,5})?/(?:keys|secrets)/[A-Za-z0-9-]{1,127}(?:/[0-9a-f]{32})?"
)
_SECRET_ID = re.compile(r"https://[A-Za-z0-9.-]+(?::\d{1,5})?/secrets/[A-Za-z0-9-]{1,127}")
_FUNCTION_KEYS = "functionKeys"
_CALLERS = re.compile(rf"{_FUNCTION_KEYS}|appServiceAuthentication")
_MAX_KEYS = 16
_MAX_FLOORS_BYTES = 64 * 1024
_DAY_S = 24 * 3600


def refuse(name: str, why: str) -> NoReturn:
    """Refuse a setting by its name.

    Raises:
        OperatorError: ``SETTING_INVALID``, with the name and ``why``; the value is not shown unless ``why``
            quotes it.
    """
    raise OperatorError(Code.SETTING_INVALID, f"{name}: {why}")


def read_role(environment: Mapping[str, str]) -> Role:
    """The side that ``TRANSFER_ROLE`` names; only this and ``BLOB_EVENTS`` are read while the app is indexed.

    Raises:
        OperatorError: ``SETTING_INVALID``: the value is neither ``source`` nor ``target``.
    """
    match environment.get("TRANSFER_ROLE", ""):
        case "source":
            return "source"
        case "target":
            return "target"
    refuse("TRANSFER_ROLE", "neither source nor target")


def read_blob_events(environment: Mapping[str, str]) -> BlobEvents:
    """The way in which blob triggers learn of blobs, by ``BLOB_EVENTS``: polling, or events of Event Grid.

    On Flex Consumption the host polls for no blob trigger.

    Raises:
        OperatorError: ``SETTING_INVALID``: the value is something else.
    """
    match environment.get("BLOB_EVENTS", ""):
        case "" | "poll":
            return "poll"
        case "eventGrid":
            return "eventGrid"
    refuse("BLOB_EVENTS", "neither poll nor eventGrid")


@dataclass(frozen=True, slots=True, kw_only=True)
class RegistryAddress:
    """The address of a registry: the login server for its data plane, and the resource id for ARM."""

    login_server: str
    resource_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """The settings that both sides have: addresses, names and limits, all checked."""

    blob_service_url: str
    table_service_url: str
    queue_service_url: str
    registry_login_server: str
    registry_resource_id: str
    signing_keys: tuple[str, ...]
    arm_endpoint: str
    arm_scope: str
    arm_api_version: str
    registry_scope: str
    client_id: str | None
    pipeline: str
    pipeline_sas_expires_at: datetime | None
    """When the SAS ends by which the pipeline comes to the storage, where it does not by its identity."""
    pipeline_sas_secret: str | None
    """The address of the vault secret with that SAS, without a version, where the app renews it."""
    pipeline_sas_client_id: str | None
    """Of the identity that the SAS is renewed as; it is the app's too, and may do nothing else."""
    pipeline_run_poll_s: int
    pipeline_run_timeout_s: int
    pipeline_runs_at_once: int
    hashes_at_once: int
    """How many groups of parts of one transfer are digested side by side, over all workers."""
    trust_policy: TrustPolicy
    """At the source, which orders are taken and whose receipts count; at the target, which bundles."""
    ticket_client_id: str | None
    """Of the identity that tickets are signed as; it is the app's too, and may nothing else."""
    ticket_hours: int
    """How long a ticket is good for."""
    callers_are_signed_in: bool
    """Whether App Service authentication is on, so that its word about who calls is believed."""
    events_webhook_url: str | None
    """Who is told of changes of state; ``None``: nobody."""
    events_webhook_secret: str | None
    """Key Vault id of the secret that what is told is signed with; ``None`` exactly where nobody is told."""

    pipeline_kind: ClassVar[str]
    """The ARM resource type of this side's pipeline."""

    @property
    def registry(self) -> RegistryAddress:
        """The registry that this side exports from, or imports into."""
        return RegistryAddress(login_server=self.registry_login_server, resource_id=self.registry_resource_id)

    @property
    def pipeline_registry(self) -> RegistryAddress:
        """The registry that this side's pipeline belongs to."""
        return self.registry

    @property
    def pipeline_resource_id(self) -> str:
        """The ARM id of the pipeline that this side's runs belong to."""
        return f"{self.pipeline_registry.resource_id}/{self.pipeline_kind}/{self.pipeline}"

    @classmethod
    def from_environment(cls, environment: Mapping[str, str]) -> Self:
        """Read and check all settings of this side.

        Raises:
            OperatorError: ``SETTING_INVALID``, naming the first setting at fault.
        """
        return cls(**cls.read_members(_Reader(environment)))

    @classmethod
    def survey(cls, environment: Mapping[str, str]) -> tuple[Self, Mapping[str, str]]:
        """Read all settings of this side, and tell by its name what is wrong with each faulty one.

        This is for whoever puts the settings right, not for work: a faulty setting has an empty value.
        """
        read = _Surveyor(environment)
        return cls(**cls.read_members(read)), read.faults

    @classmethod
    def read_members(cls, read: "_Reader") -> dict[str, Any]:
        """The values of all members of this class, each read from the environment and checked by ``read``.

        Raises:
            OperatorError: ``SETTING_INVALID``, naming a setting that is missing or wrong.
        """
        arm_endpoint = read.url("ARM_ENDPOINT", "https://management.azure.com")
        return {
            "blob_service_url": read.url("TransferStorage__blobServiceUri"),
            "table_service_url": read.url("TransferStorage__tableServiceUri"),
            "queue_service_url": read.url("TransferStorage__queueServiceUri"),
            "registry_login_server": read.text("REGISTRY_LOGIN_SERVER", LOGIN_SERVER),
            "registry_resource_id": read.text("REGISTRY_RESOURCE_ID", _ACR_RESOURCE_ID),
            "signing_keys": read.key_ids("SIGNING_KEYS"),
            "arm_endpoint": arm_endpoint,
            "arm_scope": read.optional("ARM_SCOPE") or f"{arm_endpoint}/.default",
            "arm_api_version": read.text("ARM_API_VERSION", _API_VERSION, "2025-06-01-preview"),
            "registry_scope": read.optional("REGISTRY_SCOPE")
            or "https://containerregistry.azure.net/.default",
            "client_id": read.optional("AZURE_CLIENT_ID"),
            "pipeline_sas_expires_at": read.moment("PIPELINE_SAS_EXPIRES_AT"),
            "pipeline_sas_secret": read.secret("PIPELINE_SAS_SECRET", "PIPELINE_SAS_CLIENT_ID"),
            "pipeline_sas_client_id": read.optional("PIPELINE_SAS_CLIENT_ID"),
            "pipeline_run_poll_s": read.integer("PIPELINE_RUN_POLL_S", 15, least=1, most=3600),
            "pipeline_run_timeout_s": read.integer("PIPELINE_RUN_TIMEOUT_S", 14400, least=1, most=7 * _DAY_S),
            "pipeline_runs_at_once": read.integer("PIPELINE_RUNS_AT_ONCE", 5, least=1, most=50),
            "hashes_at_once": read.integer("HASHES_AT_ONCE", 8, least=1, most=64),
            "trust_policy": read.policy("TRUST_POLICY"),
            "ticket_client_id": read.optional("TICKET_CLIENT_ID"),
            "ticket_hours": read.integer("TICKET_HOURS", 24, least=1, most=144),
            "callers_are_signed_in": read.text("CALLERS", _CALLERS, _FUNCTION_KEYS) != _FUNCTION_KEYS,
            "events_webhook_url": read.webhook_url("EVENTS_WEBHOOK_URL", "EVENTS_WEBHOOK_SECRET"),
            "events_webhook_secret": read.webhook_secret("EVENTS_WEBHOOK_SECRET", "EVENTS_WEBHOOK_URL"),
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceSettings(Settings):
    """The settings of the source, all checked."""

    cloud_name: str
    part_size_bytes: int
    sequence_floors: Mapping[str, Floor]
    """By channel, where its numbers go on; those of any other begin with 1."""
    signature_timeout_s: int
    """How long people have to sign a bundle manifest, from when the source has."""
    ended_transfer_days: int
    """How long what lies there of a transfer is kept once it has ended."""

    pipeline_kind: ClassVar[str] = "exportPipelines"

    @classmethod
    def read_members(cls, read: "_Reader") -> dict[str, Any]:
        """The values of all members of the source's settings; see :meth:`Settings.read_members`."""
        least, most = parts.MIN_PART_SIZE_BYTES // parts.MIB, parts.MAX_PART_SIZE_BYTES // parts.MIB
        return Settings.read_members(read) | {
            "pipeline": read.text("EXPORT_PIPELINE", _PIPELINE),
            "cloud_name": read.text("CLOUD_NAME", re.compile(r"[ -~]{1,64}")),
            "part_size_bytes": read.integer("PART_SIZE_MIB", 64, least=least, most=most) * parts.MIB,
            "sequence_floors": read.floors("SEQUENCE_FLOORS"),
            "signature_timeout_s": read.integer(
                "SIGNATURE_TIMEOUT_S", 7 * _DAY_S, least=60, most=45 * _DAY_S
            ),
            "ended_transfer_days": read.integer("ENDED_TRANSFER_DAYS", 30, least=1, most=3650),
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class TargetSettings(Settings):
    """The settings of the target, all checked."""

    held_upload_days: int
    """How long the damaged parts of an upload are waited for."""
    release_timeout_s: int
    """How long people have to release a bundle, from when it was verified."""
    staging_login_server: str | None
    staging_resource_id: str | None
    checks: tuple[Check | ScanCheck, ...]
    """What is asked about a verified bundle before it is imported, one after the other."""
    check_timeout_s: int
    """How long they have to answer, all of them."""
    ended_import_days: int
    """How long the records of its runs, and what was left over of an import, are kept once it has ended."""
    quarantine_days: int
    """How long the upload of an import that ended lies in quarantine."""

    pipeline_kind: ClassVar[str] = "importPipelines"

    @property
    def staging_registry(self) -> RegistryAddress | None:
        """The registry that the pipeline imports into first; ``None`` where it imports into the real one."""
        if self.staging_login_server is None or self.staging_resource_id is None:
            return None
        return RegistryAddress(login_server=self.staging_login_server, resource_id=self.staging_resource_id)

    @property
    def pipeline_registry(self) -> RegistryAddress:
        """The registry that the import pipeline belongs to."""
        return self.staging_registry or self.registry

    @classmethod
    def read_members(cls, read: "_Reader") -> dict[str, Any]:
        """The values of all members of the target's settings; see :meth:`Settings.read_members`."""
        server, resource = "STAGING_REGISTRY_LOGIN_SERVER", "STAGING_REGISTRY_RESOURCE_ID"
        return Settings.read_members(read) | {
            "pipeline": read.text("IMPORT_PIPELINE", _PIPELINE),
            "staging_login_server": read.beside(server, resource, "REGISTRY_LOGIN_SERVER", LOGIN_SERVER),
            "staging_resource_id": read.beside(resource, server, "REGISTRY_RESOURCE_ID", _ACR_RESOURCE_ID),
            "held_upload_days": read.integer("HELD_UPLOAD_DAYS", 30, least=1, most=89),
            "release_timeout_s": read.integer("RELEASE_TIMEOUT_S", 7 * _DAY_S, least=60, most=45 * _DAY_S),
            "checks": read.checks("CHECKS"),
            "check_timeout_s": read.integer("CHECK_TIMEOUT_S", _DAY_S, least=60, most=14 * _DAY_S),
            "ended_import_days": read.integer("ENDED_IMPORT_DAYS", 30, least=1, most=89),
            "quarantine_days": read.integer("QUARANTINE_DAYS", 180, least=30, most=3650),
        }


def _require_https(name: str, value: str) -> None:
    try:
        address = urlsplit(value)
        is_plain = bool(address.hostname) and address.port != 0
    except ValueError:
        is_plain = False
    if not is_plain or address.scheme != "https" or address.query or address.fragment or address.username:
        refuse(name, "not an https URL without user name, query and fragment")


@dataclass(frozen=True)
class _Reader:
    """Checks one setting at a time; an empty one counts as absent."""

    environment: Mapping[str, str]

    def optional(self, name: str) -> str | None:
        return self.environment.get(name, "").strip() or None

    def text(self, name: str, pattern: re.Pattern[str], default: str | None = None) -> str:
        value = self.optional(name) or default
        if value is None:
            refuse(name, "missing")
        if not pattern.fullmatch(value):
            refuse(name, f"{value[:100]!r} is not of the form {pattern.pattern}")
        return value

    def url(self, name: str, default: str | None = None) -> str:
        """An https URL, without a trailing slash."""
        value = self.optional(name) or default
        if value is None:
            refuse(name, "missing")
        _require_https(name, value)
        return value.rstrip("/")

    def beside(self, name: str, partner: str, first: str, pattern: re.Pattern[str]) -> str | None:
        """A setting of a registry beside the first, given together with its ``partner`` or not at all.

        That registry is emptied again and again, so that it must not be the first.
        """
        if self.optional(name) is None and self.optional(partner) is None:
            return None
        value = _Reader.text(self, name, pattern)
        if value.lower() == (self.optional(first) or "").lower():
            refuse(name, f"the same as {first}: the registry itself would be emptied")
        return value

    def webhook_url(self, name: str, partner: str) -> str | None:
        """An https URL as it is, given together with its ``partner`` or not at all.

        What is secret about it has no place among the settings, so it has neither query nor user name.
        """
        value = self.optional(name)
        if value is None and self.optional(partner) is None:
            return None
        if value is None:
            refuse(name, f"missing, and {partner} is given")
        _require_https(name, value)
        return value

    def webhook_secret(self, name: str, partner: str) -> str | None:
        """The Key Vault id of a secret, given together with its ``partner`` or not at all."""
        value = self.optional(name)
        if value is None and self.optional(partner) is None:
            return None
        if value is None:
            refuse(name, f"missing, and {partner} is given")
        if not _KEY_ID.fullmatch(value) or urlsplit(value).path.split("/")[1] != "secrets":
            # Not quoted: somebody may have put the secret itself here.
            refuse(name, "not https://VAULT/secrets/NAME: the setting names the secret and does not hold it")
        return value

    def secret(self, name: str, client: str) -> str | None:
        """The address of a vault secret, given together with the ``client`` that writes it or not at all."""
        if self.optional(name) is None and self.optional(client) is None:
            return None
        if self.optional(client) is None:
            refuse(name, f"given without {client}")
        return _Reader.text(self, name, _SECRET_ID)

    def moment(self, name: str) -> datetime | None:
        """A time as a SAS has it in ``se``: a date, or one with a time in UTC."""
        value = self.optional(name)
        if value is None:
            return None
        try:
            found = datetime.fromisoformat(value)
        except ValueError:
            refuse(name, f"{value[:40]!r} is no time, such as 2027-01-31T00:00:00Z")
        return found.replace(tzinfo=found.tzinfo or UTC)

    def integer(self, name: str, default: int, *, least: int, most: int) -> int:
        value = self.optional(name) or str(default)
        if not re.fullmatch(r"\d{1,9}", value, re.ASCII) or not least <= int(value) <= most:
            refuse(name, f"{value[:40]!r} is not a whole number from {least} to {most}")
        return int(value)

    def key_ids(self, name: str) -> tuple[str, ...]:
        ids = tuple(one.strip() for one in (self.optional(name) or "").split(",") if one.strip())
        if not 1 <= len(ids) <= _MAX_KEYS or len(set(ids)) != len(ids):
            refuse(name, f"not 1 to {_MAX_KEYS} different Key Vault ids, separated by commas")
        for one in ids:
            if not _KEY_ID.fullmatch(one):
                refuse(
                    name, f"{one[:100]!r} is neither https://VAULT/keys/NAME nor https://VAULT/secrets/NAME"
                )
        return ids

    def floors(self, name: str) -> dict[str, Floor]:
        """An object ``{CHANNEL: {"sequence", "previous"}}``."""
        value = (self.optional(name) or "{}").encode("utf-8", "surrogatepass")
        try:
            raw = load_strict(value, max_bytes=_MAX_FLOORS_BYTES, code=Code.MANIFEST_MALFORMED)
            if type(raw) is not dict or not all(CHANNEL.fullmatch(channel) for channel in raw):
                refuse(name, "not an object with a member for each channel")
            return {channel: Floor.from_json(one, channel) for channel, one in raw.items()}
        except UntrustedInputError as error:
            refuse(name, error.detail)

    def checks(self, name: str) -> tuple[Check | ScanCheck, ...]:
        """An array of ``{"name", "url", "scope"}``, each with an https URL, or ``{"name", "kind"}``."""
        value = (self.optional(name) or "[]").encode("utf-8", "surrogatepass")
        try:
            checks = read_checks(value)
        except UntrustedInputError as error:
            refuse(name, error.detail)
        for check in (one for one in checks if isinstance(one, Check)):
            _require_https(f"{name}, {check.name}", check.url)
        return checks

    def policy(self, name: str) -> TrustPolicy:
        value = self.optional(name)
        if value is None:
            refuse(name, "missing")
        if value.startswith("@Microsoft.KeyVault("):
            refuse(name, "the Key Vault reference was not resolved; check the app's access to the secret")
        try:
            return TrustPolicy.from_bytes(value.encode("utf-8", "surrogatepass"))
        except AirgapError as error:
            refuse(name, error.detail)


@dataclass(frozen=True)
class _Surveyor(_Reader):
    """Goes on where a setting is at fault, with something empty in its place."""

    faults: dict[str, str] = field(default_factory=dict)

    def _or(self, instead: Any, read: Callable[..., Any], name: str, *more: Any, **limits: Any) -> Any:
        try:
            return read(name, *more, **limits)
        except OperatorError as error:
            self.faults[name] = error.detail.removeprefix(f"{name}: ")
            return instead

    def text(self, name: str, pattern: re.Pattern[str], default: str | None = None) -> str:
        return str(self._or("", super().text, name, pattern, default))

    def url(self, name: str, default: str | None = None) -> str:
        return str(self._or("", super().url, name, default))

    def integer(self, name: str, default: int, *, least: int, most: int) -> int:
        return int(self._or(default, super().integer, name, default, least=least, most=most))

    def beside(self, name: str, partner: str, first: str, pattern: re.Pattern[str]) -> str | None:
        return cast("str | None", self._or(None, super().beside, name, partner, first, pattern))

    def webhook_url(self, name: str, partner: str) -> str | None:
        return cast("str | None", self._or(None, super().webhook_url, name, partner))

    def webhook_secret(self, name: str, partner: str) -> str | None:
        return cast("str | None", self._or(None, super().webhook_secret, name, partner))

    def secret(self, name: str, client: str) -> str | None:
        return cast("str | None", self._or(None, super().secret, name, client))

    def moment(self, name: str) -> datetime | None:
        return cast("datetime | None", self._or(None, super().moment, name))

    def key_ids(self, name: str) -> tuple[str, ...]:
        return tuple(self._or((), super().key_ids, name))

    def floors(self, name: str) -> dict[str, Floor]:
        return dict(self._or({}, super().floors, name))

    def checks(self, name: str) -> tuple[Check | ScanCheck, ...]:
        return tuple(self._or((), super().checks, name))

    def policy(self, name: str) -> TrustPolicy:
        return cast("TrustPolicy", self._or(None, super().policy, name))
