"""The roles of all identities: ``roles.json``, from which the tables of the README are written.

Each of its rows has an identity (side and ``app``, ``pipeline``, ``tickets`` or ``sas``), what the role is
``on``, the role's name in Azure or here, why it is there, and what becomes of the app without it. A role that
is our own has the one that stands in for it where no role can be created, as ``builtIn``; a row that holds
only where something was chosen says so in ``when``. The templates are held to it by :mod:`infra.rules`.
"""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

FOLDER = Path(__file__).parent
PAGE = FOLDER / "README.md"

BUILT_IN: Mapping[str, str] = {
    "AcrDelete": "c2f4ef07-c644-48eb-af81-4b1b4947fb11",
    "AcrPull": "7f951dda-4ed3-4680-a7ca-43fe172d538d",
    "Container Registry Data Importer and Data Reader": "577a9874-89fd-4f24-9dbd-b5034d0ad23a",
    "Container Registry Transfer Pipeline Contributor": "bf94e731-3a51-4a7c-8c54-a1ab9971dfc1",
    "Key Vault Crypto User": "12338af0-0e69-4776-bea7-57ae8d297424",
    "Key Vault Secrets Officer": "b86a8fe4-44ce-4948-aee5-eccb2c155cd7",
    "Key Vault Secrets User": "4633458b-17de-408a-b874-0445c86b69e6",
    "Monitoring Metrics Publisher": "3913510d-42f4-4e42-8a64-420c390055eb",
    "Reader": "acdd72a7-3385-48ef-bd42-f606fba81ae7",
    "Storage Blob Data Contributor": "ba92f5b4-2d11-453d-a403-e96b0029c9fe",
    "Storage Blob Data Owner": "b7e6dc6d-f1e8-4753-8033-0f276bb0955b",
    "Storage Blob Data Reader": "2a2b9908-6ea1-4ae2-8e65-a410df84e7d1",
    "Storage Blob Delegator": "db58b8e5-c6ad-4a2a-8342-4190687cbf4a",
    "Storage Queue Data Contributor": "974c5e8b-45b9-4653-ba55-5f855dd0fb88",
    "Storage Queue Data Message Sender": "c6a89b2d-59bc-44d0-9896-0f6e12d7b80a",
    "Storage Queue Data Reader": "19e7f393-937e-4f77-808e-94535e297925",
    "Storage Table Data Contributor": "0a9a7e1f-b9d0-4cc4-a60d-0319b160aaa3",
}
"""https://learn.microsoft.com/azure/role-based-access-control/built-in-roles"""

_BLOBS = "Microsoft.Storage/storageAccounts/blobServices/containers/blobs"
_RUNS = "Microsoft.ContainerRegistry/registries/pipelineRuns"


class OwnRole(NamedTuple):
    """A role of the project's own: what it allows, and what the built-in one would allow besides."""

    actions: tuple[str, ...]
    data_actions: tuple[str, ...]
    spared: str


OWN: Mapping[str, OwnRole] = {
    "blobAppender": OwnRole(
        (),
        (f"{_BLOBS}/read", f"{_BLOBS}/add/action"),
        "changing and deleting what is there, deleting the container",
    ),
    "blobDropper": OwnRole(
        (),
        (f"{_BLOBS}/read", f"{_BLOBS}/write"),
        "deleting blobs and the container",
    ),
    "blobWriter": OwnRole(
        (),
        (f"{_BLOBS}/read", f"{_BLOBS}/write", f"{_BLOBS}/delete"),
        "deleting the container",
    ),
    "imageImporter": OwnRole(
        ("Microsoft.ContainerRegistry/registries/importImage/action",),
        (),
        "reading the registry's settings",
    ),
    "importSource": OwnRole(
        ("Microsoft.ContainerRegistry/registries/read",),
        (),
        "reading everything else of the registry, tokens and webhooks for instance",
    ),
    "keySigner": OwnRole(
        (),
        ("Microsoft.KeyVault/vaults/keys/read", "Microsoft.KeyVault/vaults/keys/sign/action"),
        "decrypting, wrapping and unwrapping",
    ),
    "secretRenewer": OwnRole(
        (),
        (
            "Microsoft.KeyVault/vaults/secrets/setSecret/action",
            "Microsoft.KeyVault/vaults/secrets/readMetadata/action",
        ),
        "reading the secret, deleting it, and switching its versions off and on",
    ),
    "tagReader": OwnRole(
        (),
        (f"{_BLOBS}/tags/read",),
        "writing tags, and everything else with the blobs of the container: the app is then to be believed",
    ),
    "runRemover": OwnRole(
        (f"{_RUNS}/delete",),
        (),
        "everything else with pipelines and runs",
    ),
    "pipelineRunner": OwnRole(
        (
            *(f"{_RUNS}/read", f"{_RUNS}/write", f"{_RUNS}/operationStatuses/read"),
            "Microsoft.ContainerRegistry/registries/exportPipelines/read",
            "Microsoft.ContainerRegistry/registries/importPipelines/read",
        ),
        (),
        "writing the pipelines themselves, to where they read and whom they obey, and deleting them and runs",
    ),
}
"""https://learn.microsoft.com/azure/role-based-access-control/resource-provider-operations"""


class Grant(NamedTuple):
    """A grant: one role of one identity (``app``, ``pipeline``, ``tickets`` or ``sas``) on one thing."""

    identity: str
    on: str
    role: str


def rows() -> list[dict[str, Any]]:
    """The rows of ``roles.json``."""
    found: list[dict[str, Any]] = json.loads((FOLDER / "roles.json").read_text(encoding="utf-8"))
    return found


def expected(
    side: str,
    *,
    access: str,
    app_roles: str,
    import_way: str = "direct",
    malware_scanning: str = "none",
    state_events: str = "none",
) -> set[Grant]:
    """The grants that a side deployed in this way must have, and no others."""
    chosen = {
        "storageAccessMode": access,
        "importWay": import_way,
        "malwareScanning": malware_scanning,
        "stateEvents": state_events,
    }
    return {
        Grant(
            row["identity"].removeprefix(f"{side} "),
            on,
            row.get("builtIn", row["role"]) if app_roles == "builtIn" else row["role"],
        )
        for row in rows()
        if row["identity"].startswith(f"{side} ")
        and all(chosen[name] == value for name, value in row.get("when", {}).items())
        for on in row["on"]
    }


# --- the README

_TABLES = {"roles": "roles.json", "own roles": "roles.py"}


def _role_table() -> Iterator[str]:
    """The rows as a table; those that both sides have are one row."""
    seen: dict[tuple[str, ...], list[str]] = {}
    for row in rows():
        on = ", ".join(f"`{name}`" for name in row["on"])
        role = f"`{row['role']}` ({row['builtIn']})" if "builtIn" in row else row["role"]
        only = "".join(f"; with `{name}={value}` only" for name, value in row.get("when", {}).items())
        seen.setdefault((on, role, row["why"] + only, row["without"]), []).append(row["identity"])
    yield from ("| identity | on | role | why | without it |", "|---|---|---|---|---|")
    yield from (f"| {' and '.join(who)} | {' | '.join(cells)} |" for cells, who in seen.items())


def _own_table() -> Iterator[str]:
    """The roles of our own."""
    yield from ("| role of our own | allows | what the built-in one allows besides |", "|---|---|---|")
    for name, role in OWN.items():
        allowed = ", ".join(f"`{one}`" for one in (*role.actions, *role.data_actions))
        yield f"| `{name}` | {allowed} | {role.spared} |"


def page() -> str:
    """The text of the README with its tables written anew; the text round them stays."""
    text = PAGE.read_text(encoding="utf-8")
    for name, lines in (("roles", _role_table()), ("own roles", _own_table())):
        begin = f"<!-- {name}: written by `./dev infra compile` from {_TABLES[name]} -->\n"
        end = f"<!-- /{name} -->\n"
        before, _, rest = text.partition(begin)
        _, _, after = rest.partition(end)
        text = before + begin + "\n".join([*lines, ""]) + end + after
    return text
