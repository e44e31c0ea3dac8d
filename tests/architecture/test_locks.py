"""Locks carry names, versions and hashes; no host, no URL."""

import json
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("name", ["requirements.txt", "requirements-dev.lock"])
def test_python_lock_holds_no_url_and_hashes_everything(name: str) -> None:
    text = (ROOT / name).read_text(encoding="utf-8")
    assert not re.search(r"https?://|^--|^-i| @ ", text, re.MULTILINE)
    requirements = re.split(r"\n(?=[a-z])", text[text.index("\na") + 1 :])
    assert all("--hash=sha256:" in requirement for requirement in requirements)


def test_app_and_development_locks_agree() -> None:
    def pins(name: str) -> dict[str, str]:
        text = (ROOT / name).read_text(encoding="utf-8")
        return dict(re.findall(r"^([a-z0-9-]+)==(\S+)", text, re.MULTILINE))

    app, development = pins("requirements.txt"), pins("requirements-dev.lock")
    assert {name: development.get(name) for name in app} == app


def test_node_lock_names_no_registry() -> None:
    lock = json.loads((ROOT / "local_cloud/node/package-lock.json").read_text(encoding="utf-8"))
    packages = {name: package for name, package in lock["packages"].items() if name}
    assert packages
    assert not [name for name, package in packages.items() if "resolved" in package]
    assert not [name for name, package in packages.items() if not package.get("integrity")]
