"""The sample app through Microsoft's worker: what it indexes, refuses, and does when called."""

import asyncio
import json
from pathlib import Path

import pytest

from local_cloud.functions_host.app import load_app
from local_cloud.functions_host.history import EventType, event, payload
from local_cloud.functions_host.replay import Replay, ScheduleActivity
from tests.functions_host import worker_runtime
from tests.functions_host.host_process import SAMPLE_APP
from tests.functions_host.worker_runtime import (
    CallFailedError,
    IndexingRefusedError,
    bytes_datum,
    http_datum,
    json_datum,
    text_datum,
    worker,
)

pytestmark = [
    pytest.mark.skipif(not worker_runtime.is_available(), reason="azure-functions-runtime needs Python 3.13"),
    pytest.mark.filterwarnings("ignore"),  # the worker's own imports and the SDK's notices are not under test
]
HEAD = "import azure.functions as func\nimport azure.durable_functions as df\napp = df.DFApp()\n"


def test_finds_the_same_functions_as_the_local_host() -> None:
    with worker(SAMPLE_APP, {"SAMPLE_BLOBS": "1", "SAMPLE_TIMERS": "1"}) as running:
        theirs = {name: function.trigger for name, function in running.functions.items()}
    with worker_runtime._fresh_imports(SAMPLE_APP), pytest.MonkeyPatch.context() as patch:
        patch.setenv("SAMPLE_BLOBS", "1")
        patch.setenv("SAMPLE_TIMERS", "1")
        ours = {function.name: function.trigger for function in load_app(SAMPLE_APP).functions}
    assert theirs == ours


def test_activities_and_http(tmp_path: Path) -> None:
    async def calls() -> None:
        assert await running.call("double", number=json_datum(4)) == "8"
        assert await running.call("greet", name=json_datum("you")) == '"hello you"'
        with pytest.raises(CallFailedError, match="ValueError: no"):
            await running.call("fail", reason=json_datum("no"))
        answer = await running.call("echo", req=http_datum("GET", "http://x/api/echo/5", number="5"))
        assert answer["status_code"].value == "203"

    with worker(SAMPLE_APP, {"SAMPLE_JOURNAL": str(tmp_path / "journal")}) as running:
        asyncio.run(calls())


def test_orchestrator_answers_what_the_replay_reads() -> None:
    history = [
        event(EventType.ORCHESTRATOR_STARTED, 1.0),
        event(EventType.EXECUTION_STARTED, 1.0, Name="chain", Version="", Input=json.dumps('{"n": 1}')),
    ]
    with worker(SAMPLE_APP) as running:
        call = running.call("chain", context=text_datum(payload("id", [], history, None)))
        answer = json.loads(asyncio.run(call))
    assert Replay(answer).run(history).commands == (ScheduleActivity(task_id=0, name="double", input="1"),)


def test_blob_function(tmp_path: Path) -> None:
    journal = tmp_path / "journal"
    metadata = {
        "BlobTrigger": "incoming/a/manifest.json",
        "Uri": "https://account/incoming/a/manifest.json",
        "Properties": '{"ContentLength": 3}',
        "Metadata": "{}",
    }
    with worker(SAMPLE_APP, {"SAMPLE_BLOBS": "1", "SAMPLE_JOURNAL": str(journal)}) as running:
        kinds = {
            name: worker_runtime._datum(text, "json") for name, text in metadata.items() if text[0] == "{"
        }
        texts = {name: text_datum(text) for name, text in metadata.items() if text[0] != "{"}
        asyncio.run(running.call("arrived", metadata={**kinds, **texts}, blob=bytes_datum(b"abc")))
    assert journal.read_text(encoding="utf-8") == "incoming/a/manifest.json 3 3 {}\n"


def test_timer_function(tmp_path: Path) -> None:
    """The request is the JSON that the local host sends, too."""
    journal = tmp_path / "journal"
    request = {"Schedule": {"AdjustForDST": False}, "ScheduleStatus": None, "IsPastDue": True}
    with worker(SAMPLE_APP, {"SAMPLE_TIMERS": "1", "SAMPLE_JOURNAL": str(journal)}) as running:
        assert running.functions["hourly"].bindings[0]["schedule"] == "01:00:00"
        asyncio.run(running.call("hourly", tick=json_datum(request)))
    assert journal.read_text(encoding="utf-8") == "hourly True\n"


@pytest.mark.parametrize(
    "source",
    [
        '@app.activity_trigger("x")\ndef f(x: dict[str, int]): ...\n',
        '@app.activity_trigger("x")\ndef f(x: dict | None): ...\n',
        '@app.activity_trigger("x")\ndef f(x: int, more: int = 1): ...\n',
        '@app.route("x")\ndef f(req: func.HttpRequest) -> func.HttpResponse | None: ...\n',
        '@app.timer_trigger("t", "0 0 * * * *")\ndef f(t: dict): ...\n',
        "other = df.DFApp()\n",
        "import no_such_module\n",
    ],
)
def test_apps_that_would_have_no_function_in_azure(tmp_path: Path, source: str) -> None:
    (tmp_path / "function_app.py").write_text(HEAD + source, encoding="utf-8")
    with pytest.raises(IndexingRefusedError), worker(tmp_path):
        pass


def test_package_without_the_marker_has_zero_functions(tmp_path: Path) -> None:
    (tmp_path / "function_app").mkdir()
    source = HEAD + '@app.activity_trigger("x")\ndef f(x: int): ...\n'
    (tmp_path / "function_app" / "__init__.py").write_text(source, encoding="utf-8")
    with pytest.raises(IndexingRefusedError, match="zero functions"), worker(tmp_path):
        pass
