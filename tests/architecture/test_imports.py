"""Every contract of ``.importlinter`` can fail: it is broken by the very import that it is there to refuse.

``./dev check`` holds the contracts against the tree as it is. Here the graph of that tree gets one import
more, and the contract must see it.
"""

import ast
import os
import subprocess
import sys
from copy import deepcopy
from functools import cache
from pathlib import Path

import pytest
from grimp import ImportGraph, build_graph
from importlinter import Contract
from importlinter.api import read_configuration
from importlinter.contracts.acyclic_siblings import AcyclicSiblingsContract
from importlinter.contracts.forbidden import ForbiddenContract
from importlinter.contracts.independence import IndependenceContract
from importlinter.contracts.layers import LayersContract
from importlinter.contracts.protected import ProtectedContract

ROOT = Path(__file__).parents[2]
CONFIGURATION = read_configuration(str(ROOT / ".importlinter"))
_KINDS: dict[str, type[Contract]] = {
    "acyclic_siblings": AcyclicSiblingsContract,
    "forbidden": ForbiddenContract,
    "independence": IndependenceContract,
    "layers": LayersContract,
    "protected": ProtectedContract,
}
OFFENDERS = {
    "directions": [
        ("airgap.verify", "function_app.settings"),
        ("airgap.verify", "offline_mover.cli"),
        ("function_app.settings", "offline_mover.cli"),
        ("offline_mover.cli", "function_app.settings"),
        ("function_app.settings", "local_cloud.tokens"),
        ("offline_mover.cli", "portable.targets"),
        ("function_app.settings", "bench.measuring"),
        ("local_cloud.tokens", "bench.measuring"),
        ("portable.tree", "local_cloud.tokens"),
        ("infra.bicep.parser", "function_app.settings"),
        ("function_app.settings", "infra.bicep.parser"),
        ("blob_wire.wire", "function_app.settings"),
        ("blob_wire.wire", "offline_mover.cli"),
        ("airgap.verify", "blob_wire.ranges"),
    ],
    "domain": [
        ("airgap.verify", "azure"),
        ("airgap.verify", "os"),
        ("airgap.verify", "time"),
        ("airgap.verify", "logging"),
    ],
    "portable": [
        ("portable.tree", "airgap.fields"),
        ("portable.tree", "blob_wire.wire"),
        ("portable.wheels", "offline_mover.cli"),
    ],
    "sides": [
        ("function_app.source.planning", "function_app.target.admission"),
        ("function_app.target.admission", "function_app.source.planning"),
    ],
    "verbs": [
        ("offline_mover.commands.report", "offline_mover.commands.verify"),
        ("offline_mover.commands.push", "offline_mover.commands.custody"),
    ],
    "wings": [
        ("offline_mover.bags.bag", "offline_mover.commands.verify"),
        ("offline_mover.pulling.fetching", "offline_mover.paper.page"),
        ("offline_mover.medium.media_fs", "offline_mover.storage.ports"),
        ("offline_mover.storage.part_stream", "offline_mover.bags.bag"),
    ],
    "wire": [
        ("function_app.part_groups", "blob_wire.ranges"),
        ("offline_mover.commands.pull", "blob_wire.answers"),
        ("infra.bicep.parser", "blob_wire.wire"),
    ],
    "rooms": [
        ("function_app.http.caller", "function_app.target.admission"),
        ("function_app.durable.waiting", "function_app.journal.store"),
        ("function_app.storage.ledger", "function_app.azure.blob"),
        ("function_app.settings", "function_app.ports"),
    ],
    "signatures": [
        ("airgap.keys", "securesystemslib"),
        ("function_app.azure.keyvault", "securesystemslib"),
        ("offline_mover.storage.vault_key", "securesystemslib"),
        ("local_cloud.scanner", "securesystemslib"),
    ],
    "azure": [
        ("offline_mover.commands.pull", "azure"),
        ("function_app.source.planning", "azure"),
        ("function_app.target.admission", "azure"),
        ("function_app.ports", "azure"),
        ("offline_mover.commands.push", "azure"),
        ("airgap.verify", "azure"),
        ("portable.tree", "azure"),
    ],
    "circles": [
        ("function_app.ports", "function_app.azure.blob"),
        ("airgap.errors", "airgap.verify"),
        ("offline_mover.progress", "offline_mover.cli.session"),
        ("bench.measuring", "bench.storage"),
        ("local_cloud.acr_transfer.service", "local_cloud.acr_transfer.arm"),
        ("blob_wire.answers", "blob_wire.ranges"),
    ],
}
"""By the contract's name in the file: pairs of a module and what it must not import."""


@cache
def graph() -> ImportGraph:
    """Who imports whom in this tree."""
    packages = CONFIGURATION["session_options"]["root_packages"]
    return build_graph(*packages, include_external_packages=True, cache_dir=None)


def contract_of(contract_id: str) -> Contract:
    """A contract as the file has it."""
    options = next(one for one in CONFIGURATION["contracts_options"] if one["id"] == contract_id)
    return _KINDS[options["type"]](
        name=options["name"], session_options=CONFIGURATION["session_options"], contract_options=options
    )


def is_kept(contract_id: str, offender: tuple[str, str] | None = None) -> bool:
    """Whether the contract is kept by the tree, or by the tree with one import more."""
    tree = deepcopy(graph())
    if offender:
        importer, imported = offender
        assert importer in tree.modules, f"{importer} has moved"
        if imported not in tree.modules:
            tree.add_module(imported, is_squashed=True)
        tree.add_import(importer=importer, imported=imported)
    return contract_of(contract_id).check(tree, verbose=False).kept


def test_every_contract_has_an_offender() -> None:
    assert {one["id"] for one in CONFIGURATION["contracts_options"]} == OFFENDERS.keys()


@pytest.mark.parametrize("contract_id", OFFENDERS)
def test_contract_is_kept(contract_id: str) -> None:
    assert is_kept(contract_id)


@pytest.mark.parametrize(
    ("contract_id", "offender"),
    [(contract_id, offender) for contract_id, offenders in OFFENDERS.items() for offender in offenders],
    ids=lambda value: value if isinstance(value, str) else "-".join(value),
)
def test_contract_is_broken_by(contract_id: str, offender: tuple[str, str]) -> None:
    assert not is_kept(contract_id, offender)


def test_every_verb_is_kept_from_the_others() -> None:
    tree = graph()
    run = {
        imported
        for module in tree.find_descendants("offline_mover.cli")
        for imported in tree.find_modules_directly_imported_by(module)
        if imported.startswith("offline_mover.commands.")
    }
    assert set(contract_of("verbs").contract_options["modules"]) == run


@pytest.mark.parametrize(("contract_id", "package"), [("wings", "offline_mover"), ("rooms", "function_app")])
def test_new_room_has_no_place_before_it_is_given_one(contract_id: str, package: str) -> None:
    tree = deepcopy(graph())
    tree.add_module(f"{package}.newly")
    assert not contract_of(contract_id).check(tree, verbose=False).kept


DECLARING = {"azure.functions", "azure.durable_functions"}


def sdk_imports(app: Path) -> list[str]:
    """Imports of an Azure SDK below the app's folder, outside its ``azure/``; to declare functions is no SDK.

    The contract ``azure`` knows ``azure`` only as a whole: who may declare functions, could use an SDK.
    """
    found = []
    for path in sorted(app.rglob("*.py")):
        if path.is_relative_to(app / "azure"):
            continue
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom) and node.module and not node.level:
                names = [node.module] if node.module != "azure" else [f"azure.{a.name}" for a in node.names]
            found += [
                f"{path.relative_to(app)} imports {name}"
                for name in names
                if (name + ".").startswith("azure.") and ".".join(name.split(".")[:2]) not in DECLARING
            ]
    return found


def test_app_knows_azures_sdks_behind_its_ports_only() -> None:
    assert sdk_imports(ROOT / "function_app") == []


@pytest.mark.parametrize(
    ("line", "name"),
    [
        ("from azure.core.exceptions import AzureError", "azure.core.exceptions"),
        ("import azure.storage.blob as blobs", "azure.storage.blob"),
        ("from azure import identity", "azure.identity"),
        ("def late():\n    import azure", "azure"),
    ],
)
def test_sdk_is_seen_in_a_folder_of_a_folder(tmp_path: Path, line: str, name: str) -> None:
    for folder in ("azure", "source/newly"):
        (tmp_path / folder).mkdir(parents=True)
        (tmp_path / folder / "blobs.py").write_text(f"import azure.functions as func\n{line}\n")
    assert sdk_imports(tmp_path) == [f"source/newly/blobs.py imports {name}"]


def loaded_by(code: str, *packages: str, **environment: str) -> list[str]:
    """Which of the packages, or modules of theirs, are loaded in a Python that ran the code."""
    ask = f"{code}\nimport sys\nprint(*sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", ask],
        cwd=ROOT,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=True,
    )
    return [
        name for name in done.stdout.split() if f"{name}.".startswith(tuple(f"{one}." for one in packages))
    ]


def test_domain_loads_no_sdk_though_one_is_there_and_whoever_wants_it_gets_it_afterwards() -> None:
    assert loaded_by("import airgap.verify", "azure", "msal", "requests") == []
    assert "azure.core" in loaded_by("import airgap.verify, azure.core", "azure")


def test_sdk_that_is_loaded_already_stays() -> None:
    code = "import azure.core as before, airgap.verify, azure.core\nassert azure.core is before"
    assert "azure.core" in loaded_by(code, "azure")


@pytest.mark.parametrize("role", ["source", "target"])
def test_functions_are_declared_without_what_only_their_steps_need(role: str) -> None:
    """A cold start waits for it. Storage and identity come with the type of a blob trigger."""
    of_steps = ("azure.data", "azure.keyvault", "azure.mgmt", "function_app.azure.adapters")
    assert loaded_by("import function_app", *of_steps, TRANSFER_ROLE=role) == []
    both = "import function_app, function_app.azure.adapters"
    seen = loaded_by(both, *of_steps, TRANSFER_ROLE=role)
    assert {"azure.data", "azure.keyvault", "azure.mgmt", "function_app.azure.adapters"} <= set(seen)
