"""The key ceremony's page: every command on it is run, and what comes out is what the app takes."""

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from airgap.keys import public_key_from_pem
from airgap.policy import TrustPolicy
from airgap.policy_chain import Chain, follow
from airgap.readiness import judge_own_keys
from infra.templates import FOLDER
from offline_mover.cli.parser import parse_options
from offline_mover.medium.policy_folder import PolicyFolder
from tests.bundles import SigningKey, key_from_private

PAGE = (FOLDER.parent / "docs" / "key-ceremony.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```sh\n(.*?)^```$", PAGE, re.DOTALL | re.MULTILINE)
NOW = datetime(2026, 11, 23, tzinfo=UTC)
AZ = """#!/bin/sh
# az keyvault key download --vault-name NAME --name bundle-signing --encoding PEM --file FILE
test "$1 $2 $3 $4" = "keyvault key download --vault-name" || exit 2
test "$6 $7 $8 $9" = "--name bundle-signing --encoding PEM" || exit 2
shift 9
test "$1" = --file && cp "$HERE/vault-of-$2" "$2"
"""
MOVER = f"""#!/bin/sh
PYTHONPATH={shlex.quote(str(FOLDER.parent))} exec {shlex.quote(sys.executable)} -m offline_mover "$@"
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Held:
    """What is on the table after the ceremony."""

    folder: Path
    keys: Mapping[str, SigningKey]
    printed: str

    def read(self, name: str) -> str:
        return (self.folder / name).read_text("utf-8")


@pytest.fixture(scope="module")
def held(tmp_path_factory: pytest.TempPathFactory) -> Held:
    folder = tmp_path_factory.mktemp("ceremony")
    (folder / "bin").mkdir()
    (folder / "bin" / "az").write_text(AZ, encoding="utf-8")
    (folder / "bin" / "az").chmod(0o755)
    (folder / "bin" / "offline-mover").write_text(MOVER, encoding="utf-8")
    (folder / "bin" / "offline-mover").chmod(0o755)
    keys = {side: key_from_private(ec.generate_private_key(ec.SECP384R1())) for side in ("source", "target")}
    for side, key in keys.items():
        (folder / f"vault-of-{side}.pem").write_text(key.public_pem, encoding="ascii")
    script = "set -eu\n" + "".join(BLOCKS) + 'echo "pinned $OFFLINE_MOVER_TRUST"\n'
    done = subprocess.run(
        [str(shutil.which("sh")), "-c", script],
        capture_output=True,
        text=True,
        check=False,
        cwd=folder,
        env={**os.environ, "PATH": f"{folder / 'bin'}:{os.environ['PATH']}", "HERE": str(folder)},
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    return Held(folder=folder, keys=keys, printed=done.stdout)


def test_policy_is_one_that_both_sides_take_and_by_which_their_keys_count(held: Held) -> None:
    policy = TrustPolicy.from_bytes(held.read("policy.json").encode())
    policy.require_in_force(NOW)
    (registry,) = json.loads(held.read("answers.json"))["audience"]
    for side in ("source", "target"):
        assert judge_own_keys(policy, side, [held.keys[side].keyid], registry, now=NOW).is_ok


def test_next_policy_is_in_force_once_two_officers_signed_it(held: Held) -> None:
    pinned = TrustPolicy.from_bytes(held.read("policy.json").encode())
    chain = follow(Chain(links=(pinned,)), PolicyFolder.beside(held.folder / "policy.json").find)
    following = TrustPolicy.from_bytes(held.read("next.json").encode())
    assert chain.links == (pinned, following)
    assert [*following.revoked] == [held.keys["source"].keyid]
    assert not judge_own_keys(following, "source", [held.keys["source"].keyid], "x", now=NOW).is_ok
    assert "not enough yet: THRESHOLD_NOT_MET" in held.printed
    assert "version 3 is in force, pinned is version 2" in held.printed


def test_fingerprint_that_is_read_aloud_is_the_id_that_the_app_gives_the_key(held: Held) -> None:
    for side, key in held.keys.items():
        groups = held.read(f"{side}.fingerprint").split()
        assert [len(group) for group in groups] == [4] * 16
        assert "".join(groups) == key.keyid == public_key_from_pem(held.read(f"{side}.pem")).keyid
        assert f"{side}: {' '.join(groups)}" in held.printed
        assert f"{side}: {' '.join(groups)}" in held.read("policy.fingerprints").splitlines()


def test_two_sides_write_the_same_bytes_from_the_same_keys(held: Held, tmp_path: Path) -> None:
    """Even where the PEM came over Windows."""
    scripts = ("write_policy.py", "add_officers.py")
    for name in ("answers.json", *scripts, "ada.pem", "bob.pem", "cleo.pem"):
        shutil.copy(held.folder / name, tmp_path)
    for side in held.keys:
        (tmp_path / f"{side}.pem").write_bytes(held.read(f"{side}.pem").replace("\n", "\r\n").encode())
    python = str(shutil.which("python3"))
    for script in scripts:
        subprocess.run([python, script], cwd=tmp_path, check=True, capture_output=True, timeout=60)
    assert (tmp_path / "policy.json").read_bytes() == (held.folder / "policy.json").read_bytes()


def test_pinning_is_what_the_mover_reads(held: Held, monkeypatch: pytest.MonkeyPatch) -> None:
    pinned = f"{held.folder.resolve()}/policy.json"
    assert f"pinned {pinned}" in held.printed
    monkeypatch.setenv("OFFLINE_MOVER_TRUST", pinned)
    assert parse_options(["policy", "show"]).trust == Path(pinned)


def test_every_block_of_commands_is_run_here() -> None:
    assert len(BLOCKS) == 11
    # And infra/deploy, which tests/infra/test_deploy.py runs; a push, a permit and a signature by a key in a
    # vault, which tests/offline_mover does; an upload, and the making of that key, by az.
    assert PAGE.count("```") == 2 * (len(BLOCKS) + 6)
