"""The bodies of pipelines and runs: each is parsed once from a request, then only these values travel.

Empty strings and nulls count as absent: the official templates send them for what is not used.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, Self
from urllib.parse import urlsplit

from local_cloud.acr_transfer.errors import ArmError, invalid

Kind = Literal["exportPipelines", "importPipelines", "pipelineRuns"]
KINDS: tuple[Kind, ...] = ("exportPipelines", "importPipelines", "pipelineRuns")
AccessMode = Literal["SasToken", "ManagedIdentity"]

MANAGED_IDENTITY_SINCE = "2025-06-01-preview"
_OPTIONS = ("OverwriteBlobs", "OverwriteTags", "DeleteSourceBlobOnSuccess", "ContinueOnErrors")
_NAME = re.compile("[a-zA-Z0-9]{5,50}")
_REPOSITORY = r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*(?:/[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*)*"
_REFERENCE = re.compile(
    rf"(?P<repository>{_REPOSITORY})(?::(?P<tag>[A-Za-z0-9_][A-Za-z0-9_.-]{{0,127}})|@(?P<digest>sha256:[0-9a-f]{{64}}))?"
)
_MAX_REFERENCE_CHARS = 512
_MAX_BLOB_NAME_CHARS = 1024
_MAX_URI_CHARS = 2048
_MAX_IDENTITIES = 10
_MAX_OPTIONS = 20


def check_name(name: str) -> str:
    """Return ``name`` if a pipeline or run may have it.

    Raises:
        ArmError: 400: no pipeline and no run may.
    """
    if not _NAME.fullmatch(name):
        message = (
            f"The resource name '{name[:100]}' is invalid: 5 to 50 alphanumeric characters are expected."
        )
        raise ArmError(400, "InvalidResourceName", message)
    return name


@dataclass(frozen=True, slots=True)
class Reference:
    """An artifact as a run names it: by its tag, or untagged by its digest."""

    repository: str
    tag: str | None
    digest: str | None

    @classmethod
    def parse(cls, text: str) -> Self:
        """Parse ``repo`` (which means latest), ``repo:tag`` or ``repo@sha256:…``.

        Raises:
            ValueError: The text has none of these forms.
        """
        match = _REFERENCE.fullmatch(text) if len(text) <= _MAX_REFERENCE_CHARS else None
        if match is None:
            raise ValueError(f"not an artifact reference: {text[:100]!r}")
        tag, digest = match["tag"], match["digest"]
        return cls(match["repository"], tag if tag or digest else "latest", digest)

    def __str__(self) -> str:
        return f"{self.repository}@{self.digest}" if self.digest else f"{self.repository}:{self.tag}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Container:
    """A pipeline's target or source: a blob container, and how it is accessed."""

    type: str
    uri: str  # https, without trailing slash
    access_mode: AccessMode
    key_vault_uri: str | None  # of the secret that holds the SAS

    @classmethod
    def from_json(cls, raw: object, *, version: str) -> Self:
        """Parse ``properties.target`` or ``properties.source`` as the api-version has it.

        Raises:
            ArmError: 400, saying which field.
        """
        fields = _mapping(raw, "target or source")
        uri = _https(_text(fields, "uri"), "uri").rstrip("/")
        vault = _optional(fields, "keyVaultUri")
        mode: AccessMode = "SasToken"
        if version >= MANAGED_IDENTITY_SINCE:
            match (_optional(fields, "storageAccessMode") or "SasToken").lower():
                case "managedidentity":
                    mode, vault = "ManagedIdentity", None
                case "sastoken":
                    pass
                case other:
                    raise invalid(f"storageAccessMode is not known: {other[:40]!r}")
        if mode == "SasToken":
            if not vault:
                raise invalid("keyVaultUri is required when the storage is accessed with a SAS token")
            _https(vault, "keyVaultUri")
        return cls(
            type=_optional(fields, "type") or "AzureStorageBlobContainer",
            uri=uri,
            access_mode=mode,
            key_vault_uri=vault,
        )

    def to_json(self, *, version: str) -> dict[str, Any]:
        """Return the response's form: what is absent stays absent."""
        body = {"type": self.type, "uri": self.uri}
        if version >= MANAGED_IDENTITY_SINCE:
            body["storageAccessMode"] = self.access_mode
        if self.key_vault_uri:
            body["keyVaultUri"] = self.key_vault_uri
        return body


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """The identity a pipeline asks for: the system's, or one the user made (its resource id, as written)."""

    user_assigned: str | None

    @classmethod
    def from_json(cls, raw: object) -> Self:
        """Parse ``identity``; a missing one means system-assigned.

        Raises:
            ArmError: 400, saying which field.
        """
        fields = _mapping(raw or {"type": "SystemAssigned"}, "identity")
        match _text(fields, "type").lower():
            case "systemassigned":
                return cls(user_assigned=None)
            case "userassigned":
                ids = _mapping(fields.get("userAssignedIdentities"), "userAssignedIdentities")
                if not 0 < len(ids) <= _MAX_IDENTITIES:
                    raise invalid("identity.userAssignedIdentities must name an identity")
                return cls(user_assigned=str(next(iter(ids))))
        raise invalid("identity.type must be SystemAssigned or UserAssigned")


@dataclass(frozen=True, slots=True, kw_only=True)
class PipelineRequest:
    """The body of an export or import pipeline's PUT."""

    container: Container
    identity: Identity
    options: tuple[str, ...]
    has_enabled_trigger: bool  # import pipelines only
    location: str | None

    @classmethod
    def from_json(cls, raw: object, *, kind: Kind, version: str) -> Self:
        """Parse the body of a pipeline's PUT.

        Raises:
            ArmError: 400, saying which field.
        """
        body = _mapping(raw, "the body")
        properties = _mapping(body.get("properties"), "properties")
        is_import = kind == "importPipelines"
        return cls(
            container=Container.from_json(
                properties.get("source" if is_import else "target"), version=version
            ),
            identity=Identity.from_json(body.get("identity")),
            options=_options(properties.get("options")),
            has_enabled_trigger=is_import and _trigger(properties.get("trigger")),
            location=_optional(body, "location"),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class RunRequest:
    """The body of a PipelineRun's PUT; two equal ones are the same run."""

    pipeline_id: str
    artifacts: tuple[str, ...]
    blob_type: str
    blob_name: str
    catalog_digest: str | None
    force_update_tag: str | None

    @classmethod
    def from_json(cls, raw: object, *, max_artifacts: int) -> Self:
        """Parse the body of a run's PUT.

        Raises:
            ArmError: 400, saying which field.
        """
        properties = _mapping(_mapping(raw, "the body").get("properties"), "properties")
        request = _mapping(properties.get("request"), "properties.request")
        pipeline_id = _text(request, "pipelineResourceId")
        is_export = "/exportpipelines/" in pipeline_id.lower()
        blob = _mapping(request.get("target" if is_export else "source"), "target or source")
        return cls(
            pipeline_id=pipeline_id,
            artifacts=_artifacts(request.get("artifacts"), max_artifacts) if is_export else (),
            blob_type=_optional(blob, "type") or "AzureStorageBlob",
            blob_name=_blob_name(_text(blob, "name")),
            catalog_digest=_optional(request, "catalogDigest"),
            force_update_tag=_optional(properties, "forceUpdateTag"),
        )


def _mapping(raw: object, what: str) -> Mapping[str, Any]:
    if not isinstance(raw, dict):
        raise invalid(f"{what} must be an object")
    return raw


def _optional(fields: Mapping[str, Any], name: str) -> str | None:
    value = fields.get(name)
    if value is None or value == "":
        return None
    if not isinstance(value, str) or len(value) > _MAX_URI_CHARS or not value.isprintable():
        raise invalid(f"{name} must be a string of at most {_MAX_URI_CHARS} printable characters")
    return value


def _text(fields: Mapping[str, Any], name: str) -> str:
    value = _optional(fields, name)
    if value is None:
        raise invalid(f"{name} is required")
    return value


def _https(uri: str, name: str) -> str:
    try:
        parts = urlsplit(uri)
        is_plain = (
            parts.scheme.lower() == "https" and parts.hostname and not parts.query and not parts.fragment
        )
        has_path = len(parts.path.strip("/")) > 0
    except ValueError:
        is_plain = has_path = False
    if not is_plain or not has_path or "@" in uri:
        raise invalid(f"{name} must be an https URL with a path and without query")
    return uri


def _options(raw: object) -> tuple[str, ...]:
    """Those that are known, in their own casing; others are kept as they are and change nothing."""
    known = {option.lower(): option for option in _OPTIONS}
    match raw:
        case None:
            return ()
        case list() if len(raw) <= _MAX_OPTIONS and all(isinstance(each, str) for each in raw):
            names: list[str] = raw
            return tuple(dict.fromkeys(known.get(each.lower(), each) for each in names))
    raise invalid("options must be a list of strings")


def _trigger(raw: object) -> bool:
    match raw:
        case None | {"sourceTrigger": None}:
            return True
        case {"sourceTrigger": {"status": str(status)}} if status.lower() in ("enabled", "disabled", ""):
            return status.lower() != "disabled"
    raise invalid("trigger.sourceTrigger.status must be Enabled or Disabled")


def _artifacts(raw: object, limit: int) -> tuple[str, ...]:
    if not isinstance(raw, list) or not raw or not all(isinstance(each, str) for each in raw):
        raise invalid("artifacts must be a list of at least one reference")
    if len(raw) > limit:
        raise invalid(f"at most {limit} artifacts can be transferred in one run, not {len(raw)}")
    try:
        for each in raw:
            Reference.parse(each)
    except ValueError as error:
        raise invalid(str(error)) from None
    return tuple(raw)


def _blob_name(name: str) -> str:
    if len(name) > _MAX_BLOB_NAME_CHARS:
        raise invalid(f"a blob name has at most {_MAX_BLOB_NAME_CHARS} characters")
    return name
