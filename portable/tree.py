"""The packed tree: every file by its name below the top, as bytes.

========================  =====================================================================
``__main__.py``           where Python starts: ``python3 offline-mover/__main__.py``
``app/``                  our code, that of the packages it needs, ``native.json`` and
                          ``native/``: compiled files by platform
``app/bytecode/``         of our code and that of the packages, by Python; not in the single file
``LICENCES.txt``          what is carried, under what terms
``README.txt``            how to check and start it
``offline-mover.sh``      find a fitting Python and start it; not in the single file
``offline-mover.cmd``
``python/``               on request, a Python for Windows; not in the single file
``SHA256SUMS``            of all the others; not in the single file
========================  =====================================================================
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from portable.wheels import Carried, Licence

ROOT = Path(__file__).resolve().parents[1]
OWN_PACKAGES = ("airgap", "blob_wire", "offline_mover")
ENTRY = "__main__.py"
SUMS = "SHA256SUMS"
_TRAVELLING = ("__init__.py", "bytecode_loader.py", "native_loader.py")
_LAUNCHERS = ("README.txt", "offline-mover.cmd", "offline-mover.sh")


def common_tree(carried: Carried) -> dict[str, bytes]:
    """The files that the folder and the single file have in common, by name."""
    return {
        ENTRY: (ROOT / "portable" / "entry.py").read_bytes(),
        "LICENCES.txt": licences_page(carried.licences).encode("utf-8"),
        **{f"app/{name}": content for name, content in carried.files.items()},
        **{f"app/{name}": (ROOT / name).read_bytes() for name in own_code()},
    }


def folder_tree(
    common: Mapping[str, bytes], bytecode: Mapping[str, bytes], windows_python: Mapping[str, bytes]
) -> dict[str, bytes]:
    """The files of the folder: the common ones, bytecode, launchers, perhaps a Python, and all their sums."""
    files = {
        **common,
        **bytecode,
        **{name: launcher(name) for name in _LAUNCHERS},
        **{f"python/{name}": content for name, content in windows_python.items()},
    }
    return {**files, SUMS: sums(files)}


def own_code() -> Iterator[str]:
    """The names of the project's modules that travel, relative to its root."""
    for package in OWN_PACKAGES:
        for path in sorted((ROOT / package).rglob("*.py")):
            yield path.relative_to(ROOT).as_posix()
    yield from (f"portable/{name}" for name in _TRAVELLING)


def launcher(name: str) -> bytes:
    """The content of a file of ``portable/launchers``, with the line ends that its reader expects."""
    content = (ROOT / "portable" / "launchers" / name).read_bytes()
    return content if name.endswith(".sh") else content.replace(b"\n", b"\r\n")


def sums(files: Mapping[str, bytes]) -> bytes:
    """The SHA-256 of every file, in lines as ``sha256sum -c`` reads them."""
    lines = [f"{hashlib.sha256(files[name]).hexdigest()}  {name}\n" for name in sorted(files)]
    return "".join(lines).encode("ascii")


def licences_page(licences: Iterable[Licence]) -> str:
    """The page with names, versions and terms of all that is carried, and then their texts."""
    ordered = sorted(licences)
    width = max(len(f"{licence.name} {licence.version}") for licence in ordered)
    lines = [
        "Carried with the offline mover. The compiled files of cryptography contain OpenSSL (Apache-2.0)",
        "and Rust libraries, those of cffi contain libffi (MIT).",
        "",
        *(f"{f'{licence.name} {licence.version}':<{width}}  {licence.terms}" for licence in ordered),
    ]
    for licence in ordered:
        for name, text in licence.texts:
            lines += ["", "", f"{licence.name} {licence.version}: {name}", "-" * 79, text]
    return "\n".join(line.rstrip() for line in "\n".join(lines).splitlines()) + "\n"
