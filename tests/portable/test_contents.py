"""What is in a packed mover, and that it is the same on every build."""

from __future__ import annotations

import ast
import hashlib
import json
import os
import re
import stat
import subprocess
import sys
import zipfile
from pathlib import Path, PurePosixPath

import pytest

from offline_mover.tool_copy import _LINE, SUMS
from portable.shapes import EPOCH_S
from portable.targets import MINORS, TARGETS, WHEEL_PLATFORMS
from portable.wheels import LEFT_OUT, Carried, PackError
from tests.portable.conftest import PACK_TIMEOUT_S, ROOT, Packed, pack

pytestmark = pytest.mark.timeout(PACK_TIMEOUT_S)  # the first test packs

_IN_FOLDER_ONLY = {"README.txt", "SHA256SUMS", "offline-mover.cmd", "offline-mover.sh"}


def files_of(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def described(folder: Path) -> dict[str, tuple[int, int, str]]:
    """Mode, time and content of everything below a folder."""
    return {
        path.relative_to(folder).as_posix(): (
            stat.S_IMODE(path.stat().st_mode),
            int(path.stat().st_mtime),
            hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else "",
        )
        for path in sorted(folder.rglob("*"))
    }


def test_second_build_is_the_same_bytes(packed: Packed, tmp_path: Path) -> None:
    mask = os.umask(0o077)
    try:
        pack(tmp_path / "again", **{**os.environ, "TZ": "Asia/Tokyo", "PYTHONHASHSEED": "7"})
    finally:
        os.umask(mask)
    assert described(tmp_path / "again" / "offline-mover") == described(packed.folder)
    assert (tmp_path / "again" / "offline-mover.pyz").read_bytes() == packed.single_file.read_bytes()


def test_times_are_fixed(packed: Packed) -> None:
    assert {time for _, time, _ in described(packed.folder).values()} == {EPOCH_S}
    with zipfile.ZipFile(packed.single_file) as archive:
        assert {entry.date_time for entry in archive.infolist()} == {(1980, 1, 1, 0, 0, 0)}


def test_both_shapes_hold_the_same_tree(packed: Packed) -> None:
    folder = files_of(packed.folder)
    with zipfile.ZipFile(packed.single_file) as archive:
        single = {entry.filename: archive.read(entry) for entry in archive.infolist() if not entry.is_dir()}
    bytecode = {f"app/bytecode/{sys.implementation.cache_tag}.{suffix}" for suffix in ("index", "pycs")}
    assert folder.keys() - single.keys() == _IN_FOLDER_ONLY | bytecode
    assert single == {name: content for name, content in folder.items() if name in single}


def test_folders_have_entries_of_their_own(packed: Packed) -> None:
    with zipfile.ZipFile(packed.single_file) as archive:
        names = set(archive.namelist())
    wanted = {f"{parent}/" for name in names for parent in PurePosixPath(name).parents if str(parent) != "."}
    assert wanted <= names


def test_all_of_our_code_travels_and_no_other(packed: Packed) -> None:
    carried = files_of(packed.folder / "app")
    for package in ("airgap", "blob_wire", "offline_mover"):
        wanted = {path.relative_to(ROOT).as_posix() for path in (ROOT / package).rglob("*.py")}
        assert wanted == {name for name in carried if name.startswith(f"{package}/")}
    assert {name for name in carried if name.startswith("portable/")} == {
        "portable/__init__.py",
        "portable/bytecode_loader.py",
        "portable/native_loader.py",
    }


def test_nothing_travels_that_is_not_needed(packed: Packed) -> None:
    names = list(files_of(packed.folder / "app"))
    assert not [name for name in names if "__pycache__" in name or name.endswith((".pyc", ".pyi"))]
    assert not [name for name in names if re.search(r"(^|/)(tests?|test_\w+)(/|\.py$)", name)]
    assert not [name for name in names if re.match(r"azure/(functions|durable|keyvault|mgmt)", name)]
    assert not [name for name in names if re.match(r"function_app|local_cloud|pygments|markdown_it", name)]
    other = {
        name for name in names if not name.endswith(".py") and not name.startswith(("native/", "bytecode/"))
    }
    assert other == {"certifi/cacert.pem", "native.json"}


def test_compiled_files_are_those_of_the_table(packed: Packed) -> None:
    app = packed.folder / "app"
    table = json.loads((app / "native.json").read_bytes())
    assert table.keys() == {target.key for target in TARGETS}
    assert all(len(row) == 2 for row in table.values())
    listed = {name: sha256 for row in table.values() for name, sha256 in row.values()}
    assert len(listed) == len(WHEEL_PLATFORMS) * (1 + len(MINORS))
    assert listed == {
        path.relative_to(app).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in (app / "native").rglob("*")
        if path.is_file()
    }


@pytest.mark.parametrize(
    "pattern",
    [rb"pypi\.org", rb"pythonhosted", rb"npmjs", re.escape(str(ROOT).encode()), rb"site-packages/[a-z]"],
)
def test_no_trace_of_where_it_was_built(packed: Packed, pattern: bytes) -> None:
    ours = ("app/airgap/", "app/blob_wire/", "app/offline_mover/", "app/portable/", "app/native.json")
    names = [
        name
        for name, content in files_of(packed.folder).items()
        if name.startswith(ours) or not name.startswith("app/")
        if re.search(pattern, content)
    ]
    assert not names


def test_names_are_safe_on_every_file_system(packed: Packed) -> None:
    names = list(files_of(packed.folder))
    assert len({name.casefold() for name in names}) == len(names)
    assert all(_LINE.fullmatch(f"{'0' * 64}  {name}") for name in names)
    assert max(map(len, names)) < 120
    reserved = re.compile(r"(^|/)(con|prn|aux|nul|com\d|lpt\d)(\.|/|$)", re.IGNORECASE)
    assert not [name for name in names if reserved.search(name)]


def test_coreutils_accept_the_sums_and_they_list_everything(packed: Packed) -> None:
    subprocess.run(["sha256sum", "--check", "--strict", "--quiet", SUMS], cwd=packed.folder, check=True)  # noqa: S607 - coreutils
    lines = (packed.folder / SUMS).read_text("ascii").splitlines()
    assert {line[66:] for line in lines} == files_of(packed.folder).keys() - {SUMS}


def test_licence_of_everything_that_travels_is_named(packed: Packed) -> None:
    lock = (ROOT / "requirements-mover.txt").read_text("utf-8")
    pins = dict(re.findall(r"^([a-z0-9-]+)==([^\s;]+)", lock, re.MULTILINE))
    page = (packed.folder / "LICENCES.txt").read_text("utf-8").partition("-" * 79)[0].lower()
    for name, version in pins.items():
        line = re.search(rf"^{name.replace('-', '[-_]')} {re.escape(version)} +(\S.*)$", page, re.MULTILINE)
        assert (line is None) == (name in LEFT_OUT), name
        assert line is None or line[1] != "none"


def test_lock_holds_no_url_and_hashes_everything() -> None:
    text = (ROOT / "requirements-mover.txt").read_text("utf-8")
    assert not re.search(r"https?://|^--|^-i| @ ", text, re.MULTILINE)
    requirements = re.split(r"\n(?=[a-z])", text[text.index("\na") + 1 :])
    assert all("--hash=sha256:" in requirement for requirement in requirements)


def test_lock_agrees_with_that_of_the_app() -> None:
    def pins(name: str) -> set[str]:
        return set(re.findall(r"^[a-z0-9-]+==[^\s;]+", (ROOT / name).read_text("utf-8"), re.MULTILINE))

    names = {pin.partition("==")[0] for pin in pins("requirements.txt")}
    shared = {pin for pin in pins("requirements-mover.txt") if pin.partition("==")[0] in names}
    assert shared <= pins("requirements.txt")


def test_wheels_that_differ_between_platforms_are_refused() -> None:
    carried = Carried()
    carried.add("x.py", b"1")
    carried.add("x.py", b"1")
    with pytest.raises(PackError, match=r"x\.py is not the same"):
        carried.add("x.py", b"2")


def test_python_that_is_too_old_can_read_the_entry() -> None:
    source = (ROOT / "portable" / "entry.py").read_text("utf-8")
    tree = ast.parse(source, feature_version=(3, 4))
    assert not [node for node in ast.walk(tree) if isinstance(node, (ast.JoinedStr, ast.AnnAssign))]
