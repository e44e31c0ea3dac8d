"""What an app may declare, and how it is refused."""

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from local_cloud.functions_host.app import AppError, HostSettings, load_app, read_host_settings
from local_cloud.functions_host.azure_storage import connect
from local_cloud.functions_host.host import Host

HEAD = "import azure.functions as func\nimport azure.durable_functions as df\napp = df.DFApp()\n"
QUEUE = '@app.queue_trigger("m", "q", "C")\ndef f(m): ...\n'
ENTITY = '@app.entity_trigger("context")\ndef f(context): ...\n'
OUTPUT = '@app.route("x")\n@app.blob_output("o", "c/b", "C")\ndef f(req, o): ...\n'
FREE = '@app.route("x")\ndef f(req, more=1): ...\n'
TWICE = '@app.route("x")\ndef f(req): ...\n@app.route("y")\ndef f(req): ...\n'
FINE = '@app.route("x")\ndef f(req): ...\n'
BLOB = '@app.blob_trigger("b", "c/{n}", "NoSuchConnection")\ndef f(b): ...\n'


@pytest.fixture(autouse=True)
def _imports_are_undone() -> Iterator[None]:
    path, module = list(sys.path), sys.modules.pop("function_app", None)
    yield
    sys.path[:] = path
    sys.modules.pop("function_app", None)
    if module is not None:
        sys.modules["function_app"] = module


def app_folder(folder: Path, source: str) -> Path:
    (folder / "function_app.py").write_text(source, encoding="utf-8")
    return folder


@pytest.mark.parametrize(
    ("source", "complaint"),
    [
        ("", "one app object, found 0"),
        (HEAD + "other = func.FunctionApp()\n", "one app object, found 2"),
        (HEAD, "declares no function"),
        (HEAD + QUEUE, "queueTrigger is not built"),
        (HEAD + ENTITY, "entityTrigger is not built"),
        (HEAD + OUTPUT, "binding blob is not built"),
        (HEAD + FREE, "bound to nothing"),
        (HEAD + TWICE, "unique"),
        ("import no_such_module\n", r"ModuleNotFoundError in function_app\.py:1"),
        ("raise RuntimeError('no settings')\n", r"RuntimeError in function_app\.py:1: no settings"),
    ],
)
def test_refused(tmp_path: Path, source: str, complaint: str) -> None:
    with pytest.raises(AppError, match=complaint):
        load_app(app_folder(tmp_path, source))


def test_package_beside_the_marker_wins(tmp_path: Path) -> None:
    app_folder(tmp_path, "raise RuntimeError('never imported')\n")
    (tmp_path / "function_app").mkdir()
    (tmp_path / "function_app" / "__init__.py").write_text(HEAD + FINE, encoding="utf-8")
    assert [function.name for function in load_app(tmp_path).functions] == ["f"]


def test_package_without_the_marker_is_refused_because_the_worker_finds_nothing(tmp_path: Path) -> None:
    (tmp_path / "function_app").mkdir()
    (tmp_path / "function_app" / "__init__.py").write_text(HEAD + FINE, encoding="utf-8")
    with pytest.raises(AppError, match=r"no function_app\.py"):
        load_app(tmp_path)


def test_connection_without_settings_is_refused_at_the_start(tmp_path: Path) -> None:
    app = load_app(app_folder(tmp_path, HEAD + BLOB))
    with pytest.raises(AppError, match="NoSuchConnection__blobServiceUri"):
        Host(app, db=tmp_path / "state.db", connect=lambda name: connect(name, {}))


def test_host_json_is_read(tmp_path: Path) -> None:
    path = tmp_path / "host.json"
    path.write_text(
        """{"version": "2.0", "extensions": {
            "http": {"routePrefix": "/v1/"}, "blobs": {"poisonBlobThreshold": 2},
            "durableTask": {"hubName": "Hub", "maxConcurrentActivityFunctions": 3, "defaultVersion":
            "2"}}}""",
        encoding="utf-8",
    )
    assert read_host_settings(path) == HostSettings(
        route_prefix="v1", poison_blob_threshold=2, task_hub="Hub", max_activities=3, default_version="2"
    )


@pytest.mark.parametrize(
    "text",
    [
        "{",
        "[]",
        '{"version": "1.0"}',
        '{"version": "2.0", "extensions": {"durableTask": 1}}',
        '{"version": "2.0", "extensions": {"blobs": {"poisonBlobThreshold": 0}}}',
        '{"version": "2.0", "extensions": {"blobs": {"poisonBlobThreshold": true}}}',
        '{"version": "2.0", "extensions": {"durableTask": {"hubName": "%NO_SUCH_SETTING%"}}}',
    ],
)
def test_bad_host_json_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "host.json").write_text(text, encoding="utf-8")
    with pytest.raises(AppError):
        read_host_settings(tmp_path / "host.json")
