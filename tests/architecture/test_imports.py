"""Every contract of ``.importlinter`` can fail: it is broken by the very import that it is there to refuse.

``./dev check`` holds the contracts against the tree as it is. Here the graph of that tree gets one import
more, and the contract must see it.
"""

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
    ],
    "domain": [
        ("airgap.verify", "azure"),
        ("airgap.verify", "os"),
        ("airgap.verify", "time"),
        ("airgap.verify", "logging"),
    ],
    "portable": [("portable.tree", "airgap.fields"), ("portable.wheels", "offline_mover.cli")],
    "circles": [("airgap.errors", "airgap.verify"), ("bench.measuring", "bench.storage")],
}
"""By the contract's name in the file: pairs of a module and what it must not import."""


@cache
def graph() -> ImportGraph:
    """Who imports whom in this tree."""
    packages = CONFIGURATION["session_options"]["root_packages"]
    return build_graph(*packages, include_external_packages=True, cache_dir=None)


def is_kept(contract_id: str, offender: tuple[str, str] | None = None) -> bool:
    """Whether the contract is kept by the tree, or by the tree with one import more."""
    options = next(one for one in CONFIGURATION["contracts_options"] if one["id"] == contract_id)
    contract = _KINDS[options["type"]](
        name=options["name"], session_options=CONFIGURATION["session_options"], contract_options=options
    )
    tree = deepcopy(graph())
    if offender:
        importer, imported = offender
        assert importer in tree.modules, f"{importer} has moved"
        if imported not in tree.modules:
            tree.add_module(imported, is_squashed=True)
        tree.add_import(importer=importer, imported=imported)
    return contract.check(tree, verbose=False).kept


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
