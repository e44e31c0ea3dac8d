"""What survives `kill -9`, what delivering twice does, and how the host ends and refuses to start."""

import json
import random
import socket
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

from tests.functions_host.host_process import ROOT, SAMPLE_APP, running_host, start_in_vain


def test_running_patterns_survive_kill_9(tmp_path: Path) -> None:
    with running_host(tmp_path) as host:
        gate = tmp_path / "gate"
        slow = host.start("slow_chain", {"tag": "s", "count": 4, "until": str(gate)})
        waiting = host.start("approval", {"seconds": 600})
        sleeping = host.start("timer", {"seconds": 1})
        suspended = host.start("approval", {"seconds": 600})
        host.hook("POST", f"instances/{suspended}/suspend")
        host.until(suspended, lambda status: status["runtimeStatus"] == "Suspended")
        host.hook("POST", f"instances/{suspended}/raiseEvent/approved", "kept")
        Path(f"{gate}.0").touch()
        host.until_noted("s:1")
        host.kill()
    for number in (1, 2, 3):
        Path(f"{gate}.{number}").touch()
    with running_host(tmp_path) as host:
        assert host.finish(slow)["output"] == ["s:0", "s:1", "s:2", "s:3"]
        assert host.finish(sleeping)["output"] >= 1
        host.hook("POST", f"instances/{waiting}/raiseEvent/approved", 1)
        assert host.finish(waiting)["output"] == {"approved": 1}
        host.hook("POST", f"instances/{suspended}/resume")
        assert host.finish(suspended)["output"] == {"approved": "kept"}
        runs = Counter(host.lines())
    assert runs["s:1"] == 2  # was running when the host died: at least once
    assert runs["s:0"] == runs["s:2"] == runs["s:3"] == 1


def test_20_kills_at_random_moments_lose_nothing(tmp_path: Path) -> None:
    moments = random.Random(20)  # noqa: S311 - moments, not keys
    with running_host(tmp_path) as host:
        chain = host.start("slow_chain", {"tag": "k", "count": 60, "seconds": 0.03})
        generations = host.start("generations", {"n": 1, "left": 40})
        fan_out = host.start("fan_out", {"count": 60})
        waiting = host.start("approval", {"seconds": 600})
        host.until_notes(2)
    for _ in range(19):
        with running_host(tmp_path) as host:
            host.until_notes(len(host.lines()) + moments.randrange(4))
            time.sleep(moments.uniform(0, 0.04))  # and it is killed
    with running_host(tmp_path) as host:
        host.hook("POST", f"instances/{waiting}/raiseEvent/approved", 1)
        assert host.finish(chain, 60)["output"] == [f"k:{n}" for n in range(60)]
        assert host.finish(generations, 60)["output"] == 2**41
        assert host.finish(fan_out, 60)["output"] == 2 * 2 * sum(range(60))
        assert host.finish(waiting)["output"] == {"approved": 1}
        runs = Counter(host.lines())
    assert set(runs) == {f"k:{n}" for n in range(60)}
    assert max(runs.values()) > 1  # some kill met a running activity


def test_every_activity_delivered_twice_counts_once(tmp_path: Path) -> None:
    with running_host(tmp_path, "--deliver-twice") as host:
        result = host.result("slow_chain", {"tag": "t", "count": 3, "seconds": 0})
        assert result == ["t:0", "t:1", "t:2"]
        assert host.result("fan_out", {"count": 10}) == 180
        assert host.result("generations", {"n": 1, "left": 2}) == 8
        assert host.result("any_loop") == [0, 2, 4]
        runs = Counter(host.lines())
    assert set(runs.values()) == {2}


def test_sigterm_ends_cleanly_and_what_was_running_goes_on_later(tmp_path: Path) -> None:
    with running_host(tmp_path) as host:
        instance_id = host.start("slow_chain", {"tag": "q", "count": 2, "seconds": 0.3})
        host.until_noted("q:0")
        assert host.terminate() == 0
    assert "Traceback" not in (tmp_path / "log").read_text(encoding="utf-8")
    with running_host(tmp_path) as host:
        assert host.finish(instance_id)["output"] == ["q:0", "q:1"]


def test_ends_with_the_one_who_started_it(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "local_cloud.functions_host", "--app", str(SAMPLE_APP)]
    command += ["--db", str(tmp_path / "state.db"), "--until-stdin-closes"]
    with subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as host:
        assert host.stdin is not None
        assert host.stdout is not None
        assert host.stdout.readline()
        assert host.poll() is None
        host.stdin.close()
        assert host.wait(10) == 0


def test_ready_file_holds_the_url(tmp_path: Path) -> None:
    ready = tmp_path / "ready.json"
    with running_host(tmp_path, "--ready-file", str(ready)) as host:
        # Written after the line on stdout, so a request that is answered does not prove it yet.
        while not ready.exists():
            assert host.process.is_alive()
        assert json.loads(ready.read_text(encoding="utf-8")) == {"url": host.url}


def test_second_host_on_the_same_file_is_refused(tmp_path: Path) -> None:
    with running_host(tmp_path):
        ended = start_in_vain(tmp_path)
    assert (ended.code, ended.stdout) == (2, "")
    assert "database is locked" in ended.stderr


def test_port_that_is_taken_is_refused(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        ended = start_in_vain(tmp_path, "--port", str(taken.getsockname()[1]))
    assert (ended.code, ended.stdout) == (2, "")
    assert "address already in use" in ended.stderr
    assert "Traceback" not in ended.stderr


def test_file_that_is_no_database_is_refused(tmp_path: Path) -> None:
    (tmp_path / "state.db").write_bytes(b"not a database" * 100)
    ended = start_in_vain(tmp_path)
    assert (ended.code, ended.stdout) == (2, "")
    assert "not a database" in ended.stderr
    assert "Traceback" not in ended.stderr


def test_app_that_cannot_run_here_ends_with_a_sentence(tmp_path: Path) -> None:
    ended = start_in_vain(tmp_path, app=tmp_path)
    assert (ended.code, ended.stdout) == (2, "")
    assert "has no function_app.py" in ended.stderr
    assert "Traceback" not in ended.stderr
