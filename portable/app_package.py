"""The function app as one zip file, with all it imports: no build and no package index where it is deployed.

``python -m portable.app_package``; ``./dev package`` calls it.

==================================  =========================================================================
``function_app.py``, ``host.json``  where the worker and the host begin
``function_app/``, ``airgap/``,     our code
``blob_wire/``
``.python_packages/lib/…``          what it imports, where the worker looks for it, from the wheels of
                                    ``requirements.txt`` by their hashes; nothing of them is executed
==================================  =========================================================================

https://learn.microsoft.com/azure/azure-functions/functions-reference-python#folder-structure
"""

from __future__ import annotations

import argparse
import base64
import hashlib
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from importlib.metadata import Distribution, distributions
from pathlib import Path, PurePosixPath

from portable.shapes import write_single_file, zipped
from portable.wheels import CONTENT, TEST_FOLDERS, PackError, fetch, files_of

ROOT = Path(__file__).resolve().parents[1]
LOCK = ROOT / "requirements.txt"
OWN_FILES = ("function_app.py", "host.json")
OWN_PACKAGES = ("airgap", "blob_wire", "function_app")
SITE_PACKAGES = ".python_packages/lib/site-packages"

PYTHONS = ("3.11", "3.12", "3.13")
"""What the package can be built for; the first unless another is asked for, as in ``infra/``."""

PLATFORM = "x86_64-manylinux_2_28"
"""The worker's, as uv calls it: Functions run Python on Linux and x86_64 only, with glibc 2.31 or later.

https://github.com/Azure/azure-functions-docker: the images for Python 3.11 and later are of Debian 11 or 12.
"""

WITHOUT_CODE = {
    "cffi": "cryptography needs its compiled file only",
}
"""Distributions of which only compiled files travel."""

LEFT_OUT = {
    "furl": "azure-functions-durable asks for it and does not import it",
    "msal-extensions": "azure-identity imports it to keep tokens on a disk, which the app never does",
    "opentelemetry-sdk": "azure-functions-durable asks for it and imports the API only",
    "opentelemetry-semantic-conventions": "as opentelemetry-sdk",
    "orderedmultidict": "as furl",
    "pycparser": "cffi imports it to compile C, which nothing does here",
    "pyjwt": "msal imports it to sign in with a certificate, which the app never does",
    "six": "as furl",
    "tzdata": "python-dateutil imports it for zones of the world; the app knows UTC only",
}
"""Distributions of the lock that do not travel, since the app never imports them."""

_NOISE = frozenset({"INSTALLER", "REQUESTED", "RECORD", "direct_url.json", "uv_cache.json"})
"""What installing leaves beside a distribution's own metadata; RECORD is written anew."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Write the package; returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="./dev package",
        description="Packs the function app for the Functions host, with what it imports.",
    )
    parser.add_argument(
        "--out", type=Path, metavar="FILE", help="default: dist/function-app-cp311.zip, by the Python"
    )
    parser.add_argument(
        "--python",
        choices=PYTHONS,
        default=PYTHONS[0],
        help="the Python of the plan, `pythonVersion` of the templates; default: %(default)s",
    )
    options = parser.parse_args(arguments)
    out = options.out or ROOT / "dist" / f"function-app-cp{options.python.replace('.', '')}.zip"
    try:
        content = zipped(package(options.python))
    except PackError as error:
        print(f"package: {error}", file=sys.stderr)
        return 2
    out.parent.mkdir(parents=True, exist_ok=True)
    write_single_file(content, out, mode=0o644)
    print(f"{out}: {len(content) / 1e6:.1f} MB, for CPython {options.python} on Linux x86_64")
    print(f"{hashlib.sha256(content).hexdigest()}  {out.name}")
    return 0


def package(python_version: str, root: Path = ROOT) -> dict[str, bytes]:
    """The files of the app's package by name, made from the project at ``root``.

    Raises:
        PackError: a wheel could not be had.
    """
    with tempfile.TemporaryDirectory(prefix="function-app-wheels-") as name:
        folder = Path(name)
        fetch(root / LOCK.name, folder, platform=PLATFORM, python_version=python_version)
        imported = {f"{SITE_PACKAGES}/{file}": content for file, content in carried_by(folder).items()}
    return {**own_code(root), **imported}


def own_code(root: Path) -> dict[str, bytes]:
    """The project's own files by name, with the line ends that the repository has."""
    paths = [root / name for name in OWN_FILES]
    paths += [path for name in OWN_PACKAGES for path in (root / name).rglob("*.py")]
    return {path.relative_to(root).as_posix(): path.read_bytes() for path in paths}


def carried_by(folder: Path) -> dict[str, bytes]:
    """The files of the distributions installed in ``folder`` that travel, each with a RECORD that fits."""
    carried: dict[str, bytes] = {}
    for distribution in distributions(path=[str(folder)]):
        if distribution.name.lower() in LEFT_OUT:
            continue
        files = {str(file): (folder / file).read_bytes() for file in _travelling(distribution)}
        metadata = next(PurePosixPath(name).parent for name in files if name.endswith(".dist-info/METADATA"))
        carried |= files | {f"{metadata}/RECORD": record(files, f"{metadata}/RECORD")}
    return carried


def record(files: Mapping[str, bytes], own_name: str) -> bytes:
    """The RECORD of a distribution: name, SHA-256 and size of each file; of the RECORD itself the name only.

    https://packaging.python.org/specifications/recording-installed-packages/#the-record-file
    """
    lines = [
        f"{name},sha256={_urlsafe(hashlib.sha256(files[name]).digest())},{len(files[name])}\n"
        for name in sorted(files)
    ]
    return "".join([*lines, f"{own_name},,\n"]).encode("utf-8")


def _urlsafe(digest: bytes) -> str:
    return base64.urlsafe_b64encode(digest).decode("ascii").rstrip("=")


def _travelling(distribution: Distribution) -> Iterator[PurePosixPath]:
    """Code, compiled files, and what says which distribution it is, under what terms."""
    has_code = distribution.name.lower() not in WITHOUT_CODE
    for file in files_of(distribution):
        if file.parts[0].endswith(".dist-info"):
            if file.name not in _NOISE:
                yield file
        elif file.suffix == ".so" or (has_code and _is_code(file)):
            yield file


def _is_code(file: PurePosixPath) -> bool:
    is_test = bool(TEST_FOLDERS & set(file.parts)) or file.parts[0] == "samples"
    return str(file) in CONTENT or (file.suffix == ".py" and not is_test)


if __name__ == "__main__":
    sys.exit(main())
