from __future__ import annotations

import json
import os
import pty
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Mapping
from contextlib import nullcontext
from pathlib import Path
from urllib.parse import quote

import pytest

from airgap.errors import Code
from airgap.media_plan import SavedPlan
from offline_mover import cli
from offline_mover.amounts import size
from offline_mover.cli import (
    custody,
    list_transfers,
    plan,
    pull,
    push,
    receipts,
    repair,
    report,
    sign,
    verify,
)
from offline_mover.cli import policy as policy_verb
from offline_mover.cli.options import Access, Output
from offline_mover.cli.parser import VERBS, parse, parse_options, verb_of
from offline_mover.cli.push import PushRequest
from offline_mover.cli.session import Session
from offline_mover.cli.verb import Verb
from offline_mover.commands import verify as verify_command
from offline_mover.outcome import work_line
from offline_mover.progress import Work
from tests.offline_mover.conftest import Bench, flip
from tests.offline_mover.memory_container import MemoryContainer

_ROOT = Path(__file__).parents[3]
_SECRET = "c2VjcmV0LXNpZ25hdHVyZQ"
_SAS = f"sv=2025-01-05&sp=rcw&sr=c&se=2099-01-31T08:00:00Z&sig={_SECRET}"
_TARGET = "https://127.0.0.1:1/acct/incoming"
_SOURCE = "https://127.0.0.1:1/acct/transfer/k3v9x2m7q1"


@pytest.fixture(autouse=True)
def _clean_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.chdir(tmp_path)  # where verify leaves its recarry.json
    for name in os.environ:
        if name.startswith("OFFLINE_MOVER_"):
            monkeypatch.delenv(name)


@pytest.fixture
def policy(loaded: Bench, tmp_path: Path) -> Path:
    path = tmp_path / "policy.json"
    path.write_bytes(loaded.bundle.policy_json)
    return path


def run_python(code: str, *arguments: str, prefix: tuple[str, ...] = ()) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*prefix, sys.executable, "-c", code, *arguments],
        cwd=_ROOT,
        env={"PATH": os.environ["PATH"], "PYTHONPATH": str(_ROOT)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def exit_of(*arguments: str) -> int:
    try:
        return cli.main(arguments)
    except SystemExit as error:
        return int(error.code or 0)


# --- help, usage -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("command", ["plan", "pull", "verify", "repair", "push", "report"])
def test_help_shows_an_example(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert exit_of(command, "--help") == 0
    text = capsys.readouterr().out
    assert f"\n  offline-mover {command} " in text
    assert "--trust" in text
    assert "OFFLINE_MOVER_" in text


@pytest.mark.parametrize("view", ["", "show", "pull", "push", "sign", "permit"])
def test_help_of_policy_fits_a_terminal_and_tells_the_whole_once(
    view: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    assert exit_of("policy", *view.split(), "--help") == 0
    text = capsys.readouterr().out
    assert [line for line in text.splitlines() if len(line) > 80] == []
    assert ("A pinned policy leads to later versions" in text) == (view == "")


def test_example_of_policy_can_be_pasted(capsys: pytest.CaptureFixture[str]) -> None:
    assert exit_of("policy", "--help") == 0
    examples = capsys.readouterr().out.replace("\\\n", " ")
    told = [line.split() for line in examples.splitlines() if line.startswith("  offline-mover policy ")]
    assert [words[2] for words in told] == ["show", "sign", "pull", "push", "permit"]
    for words in told:
        assert parse(words[1:]).command == "policy"


@pytest.mark.parametrize(
    ("view", "needed"), [("sign", {"key", "trust"}), ("permit", {"lift", "reason", "until", "key", "trust"})]
)
def test_what_officers_must_give_is_shown_as_needed(
    view: str, needed: set[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert exit_of("policy", view, "--help") == 0
    usage = capsys.readouterr().out.partition("\n\n")[0]
    assert set(re.findall(r"(?<!\[)--([a-z-]+)", usage)) == needed


def test_verb_brings_in_the_arguments_of_no_other() -> None:
    code = (
        "import sys\nfrom offline_mover.cli.parser import parse\nparse(['custody', 'show', '/x'])\n"
        "print(sorted(name for name in sys.modules if name.startswith('offline_mover.cli.')))"
    )
    done = run_python(code)
    verbs = {"list_transfers", *VERBS} - {"list"}
    assert verbs & {name.rpartition(".")[2] for name in re.findall(r"[\w.]+", done.stdout)} == {"custody"}


ALL_VERBS: Mapping[str, Verb] = {
    "custody": custody,
    "list": list_transfers,
    "plan": plan,
    "policy": policy_verb,
    "pull": pull,
    "push": push,
    "receipts": receipts,
    "repair": repair,
    "report": report,
    "sign": sign,
    "verify": verify,
}
"""That each is a verb is what mypy reads here: the parser imports them by name."""


def test_every_verb_has_the_module_of_its_name() -> None:
    assert {name: verb_of(name) for name in VERBS} == ALL_VERBS


def test_help_imports_neither_azure_nor_cryptography() -> None:
    done = run_python(
        "import sys\nfrom offline_mover.cli import main\n"
        "try:\n    main(['pull', '--help'])\nexcept SystemExit:\n    pass\n"
        "print(sorted({name.split('.')[0] for name in sys.modules}))"
    )
    modules = done.stdout.splitlines()[-1]
    assert not re.search("azure|cryptography|securesystemslib|requests|rich", modules)


@pytest.mark.parametrize(
    "arguments",
    [
        *([], ["fly"], ["verify"], ["verify", "/x"], ["pull", "a", "b", "--trust", "p", "--sas", "x"]),
        *(["verify", "/x", "--trust", "p", "--concurrency", n] for n in ("0", "33", "-1", "x", "9" * 5000)),
        *(["verify", "/x", "--trust", "p", "--transfer", t] for t in ("../x", "A" * 10, "")),
        ["push", "/x", _TARGET, "--trust", "p", "--retries", "11"],
        ["verify", "/x", "--trust", "p", "--conc", "2"],
    ],
)
def test_wrong_arguments_are_usage_errors(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert exit_of(*arguments) == Code.USAGE.exit_code
    assert "Traceback" not in capsys.readouterr().err


def test_environment_mirrors_every_option(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {
        "TRUST": "/p",
        "CONCURRENCY": "7",
        "TRANSFER": "k3v9x2m7q1",
        "RETRIES": "3",
        "SAS_FILE": "/s",
        "JSON": "1",
        "PLAIN": "true",
        "DEBUG": "0",
    }.items():
        monkeypatch.setenv(f"OFFLINE_MOVER_{name}", value)
    asked = parse(["push", "/x", _TARGET])
    assert asked.request == _push(concurrency=7)
    assert asked.output == Output(as_json=True, is_plain=True, shows_traces=False)
    assert parse(["push", "/x", _TARGET, "--concurrency", "2"]).request == _push(concurrency=2)


def test_verbs_that_move_parts_take_as_many_connections_as_help_and_others_few_parts_at_a_time() -> None:
    of = {
        verb: parse([verb, "/x", *more, "--trust", "p"]).request.concurrency  # type: ignore[attr-defined]
        for verb, more in {"push": [_TARGET], "verify": [], "report": []}.items()
    }
    assert of == {"push": 32, "verify": 4, "report": 4}


def _push(*, concurrency: int) -> PushRequest:
    return PushRequest(
        volumes=(Path("/x"),),
        target=_TARGET,
        ticket=None,
        transfer_id="k3v9x2m7q1",
        trust=Path("/p"),
        access=Access(sas_file=Path("/s"), token_host=None, retries=3),
        concurrency=concurrency,
        who=None,
        custody_dir=None,
    )


_WORDS = {
    "list": ("list", "/x"),
    "plan": ("plan", _SOURCE, "--volume", "1G:fat32"),
    "pull": ("pull", _SOURCE, "/x"),
    "verify": ("verify", "/x"),
    "repair": ("repair", "/x"),
    "push": ("push", "/x", _TARGET),
    "receipts pull": ("receipts", "pull", _TARGET, "/x"),
    "receipts push": ("receipts", "push", "/x", _TARGET),
    "receipts show": ("receipts", "show", "/x"),
    "custody show": ("custody", "show", "/x"),
    "report": ("report", "/x"),
    "policy show": ("policy", "show"),
    "policy pull": ("policy", "pull", "/x"),
    "policy push": ("policy", "push", "/x"),
    "policy permit": ("policy", "permit", "bundle-manifest.dsse.json", "/x"),
    "policy sign": ("policy", "sign", "next.json", "/x"),
    "sign": ("sign", "/x"),
}
_VALUES = {"concurrency": ("7", 7), "retries": ("3", 3), "number": ("5", 5), "transfer": ("k3v9x2m7q1",) * 2}


def test_no_verb_is_left_out() -> None:
    assert {command.split()[0] for command in _WORDS} == VERBS.keys()


@pytest.mark.parametrize("command", _WORDS)
def test_every_option_has_its_variable(
    command: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert exit_of(*command.split(), "--help") == 0
    names = set(re.findall(r"^  --([a-z-]+)", capsys.readouterr().out, re.MULTILINE))
    assert {"json", "plain", "debug"} <= names
    expected: dict[str, object] = {}
    for name in names:
        text, value = _VALUES.get(name, ("1", True))
        monkeypatch.setenv(f"OFFLINE_MOVER_{name.replace('-', '_').upper()}", text)
        expected[name.replace("-", "_")] = value
    options = vars(parse_options(_WORDS[command]))
    expected.pop("volume", None)  # repeated, and given on the command line here
    found = {name: options[name] for name in expected}
    assert {name: value if name in _VALUES else bool(value) for name, value in found.items()} == expected


def test_environment_is_checked_like_arguments(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OFFLINE_MOVER_CONCURRENCY", "many")
    assert exit_of("verify", "/x", "--trust", "p") == Code.USAGE.exit_code


# --- secrets -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "arguments",
    [
        ["pull", f"{_SOURCE}?{_SAS}", "VOLUME"],
        ["push", "VOLUME", f"{_TARGET}?{_SAS}"],
        ["push", "VOLUME", _TARGET, "--sas", _SAS],
        ["push", "VOLUME", _TARGET, "--sas-file", "SAS_OF_ANOTHER_KIND"],
        ["push", "VOLUME", _TARGET, "--sas-file", "SAS", "--retries", "0"],
        ["push", "VOLUME", _TARGET, "--sas-file", "SAS", "--retries", "0", "--json", "--debug"],
        ["pull", _SOURCE, "VOLUME", "--allow-system-disk", "--sas-file", "SAS", "--retries", "0", "--debug"],
        ["verify", "VOLUME", "--unknown", quote(f"https://acct/incoming?{_SAS}", safe="")],
    ],
)
def test_no_message_shows_a_signature(
    loaded: Bench,
    policy: Path,
    tmp_path: Path,
    arguments: list[str],
    capsys: pytest.CaptureFixture[str],
) -> None:
    (tmp_path / "SAS").write_text(_SAS)
    (tmp_path / "SAS_OF_ANOTHER_KIND").write_text(f"https://acct/incoming?{_SAS}")
    places = {"VOLUME": str(loaded.volume)} | {
        name: str(tmp_path / name) for name in ("SAS", "SAS_OF_ANOTHER_KIND")
    }
    arguments = [places.get(argument, argument) for argument in arguments]
    assert exit_of(*arguments, "--trust", str(policy)) in {
        Code.USAGE.exit_code,
        Code.SERVICE_UNREACHABLE.exit_code,
    }
    said = capsys.readouterr()
    assert _SECRET not in said.out + said.err


def test_url_with_a_sas_gets_a_remedy(policy: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert exit_of("pull", f"{_SOURCE}?{_SAS}", "/x", "--trust", str(policy)) == 2
    assert "--sas-file" in capsys.readouterr().err


def test_bug_is_one_line_and_its_trace_is_redacted(
    loaded: Bench,
    policy: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def broken(*_: object, **__: object) -> None:
        raise ValueError(f"unforeseen ?sig={_SECRET}")

    monkeypatch.setattr(verify_command, "verify", broken)
    assert exit_of("verify", str(loaded.volume), "--trust", str(policy)) == 1
    assert capsys.readouterr().err.startswith("BUG: ValueError; run again with --debug")
    assert exit_of("verify", str(loaded.volume), "--trust", str(policy), "--debug") == 1
    traced = capsys.readouterr().err
    assert "Traceback" in traced
    assert _SECRET not in traced


# --- outcomes ----------------------------------------------------------------------------------------------


def test_verdict_and_next_step_on_stdout(
    loaded: Bench, policy: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert exit_of("verify", str(loaded.volume), "--trust", str(policy)) == 0
    said = capsys.readouterr()
    assert said.out.startswith("OK: 4 parts, ")
    step, command, placeholders = said.out.splitlines()[-3:]
    assert step == "Next: Carry the volumes on, or push them:"
    assert command == f"  offline-mover push {loaded.volume} TARGET --sas-file FILE --trust {policy}"
    assert placeholders == "  (put your own in place of TARGET, FILE)"
    assert said.err == ""


def test_run_tells_at_its_end_what_it_did_how_long_and_how_fast(
    loaded: Bench, policy: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert exit_of("verify", str(loaded.volume), "--trust", str(policy)) == 0
    whole = size(loaded.bundle.manifest.size_bytes)
    told = capsys.readouterr().out.splitlines()[-4]
    assert re.fullmatch(rf"Took [0-9.]+ s: verifying {re.escape(whole)} in [0-9.]+ s(, .+/s)?", told)
    work = Work(title="fetching", done_bytes=114_300_000, seconds=2.0)
    assert work_line(work) == "fetching 114.3 MB in 2 s, 57.1 MB/s"


def test_plan_that_is_saved_says_so(
    loaded: Bench,
    policy: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    source = MemoryContainer.holding(loaded.bundle)
    monkeypatch.setattr(Session, "container", lambda *_, **__: nullcontext(source))
    saved = tmp_path / "plan.json"
    address = f"https://acct.example/transfer/{loaded.bundle.transfer_id}"
    words = ("plan", address, "--volume", "8M:fat32", "--volume", "32G:exfat", "--save", str(saved))
    assert exit_of(*words, "--trust", str(policy)) == 0
    said = capsys.readouterr().out
    assert f"Saved as {saved}, for 2 volumes." in said.splitlines()
    assert len(SavedPlan.from_bytes(saved.read_bytes()).volumes) == 2
    assert f"--plan {saved} --number 1" in said


def test_damage_is_named_with_its_exit_code(
    loaded: Bench, policy: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    flip(loaded.part("001/00000002.part"))
    assert exit_of("verify", str(loaded.volume), "--trust", str(policy)) == 18
    assert capsys.readouterr().out.startswith(
        f"PART_CORRUPT  {loaded.volume}: 001/00000002.part (bytes 4194304 to 8388607 of its blob): "
        "its SHA-256 is "
    )


def test_receipts_are_not_brought_to_a_stick_that_is_not_there(
    loaded: Bench, policy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OFFLINE_MOVER_SAS", _SAS)
    (tmp_path / "nothing").mkdir()

    def pulled(volume: Path, *options: str) -> int:
        receipts = _TARGET.replace("incoming", "receipts")
        words = ("receipts", "pull", receipts, str(volume), "--trust", str(policy), "--retries", "0")
        return exit_of(*words, *options)

    for wanted in (("--all",), ("--transfer", "k3v9x2m7q1")):
        assert pulled(tmp_path / "nothing", *wanted) == Code.VOLUME_ON_SYSTEM_DISK.exit_code
        assert (
            pulled(tmp_path / "nothing", *wanted, "--allow-system-disk") == Code.SERVICE_UNREACHABLE.exit_code
        )
    assert pulled(loaded.volume) == Code.SERVICE_UNREACHABLE.exit_code  # a transfer is on it


def test_json_result_is_one_line_with_all_damage(
    loaded: Bench, policy: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    flip(loaded.part("001/00000002.part"))
    (loaded.bag / "x").write_bytes(b"")
    assert exit_of("verify", str(loaded.volume), "--trust", str(policy), "--json") == 18
    said = capsys.readouterr()
    events = [json.loads(line) for line in said.out.splitlines()]
    assert [event["event"] for event in events] == ["result"]
    assert (events[0]["code"], events[0]["exitCode"]) == ("PART_CORRUPT", 18)
    assert [damage["name"] for damage in events[0]["damage"]] == ["001/00000002.part", "x"]
    assert said.err == ""


def test_json_refusal_says_what_to_do(
    tmp_path: Path, policy: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert (
        exit_of("verify", str(tmp_path / "none"), "--trust", str(policy), "--json")
        == Code.VOLUME_NOT_FOUND.exit_code
    )
    event = json.loads(capsys.readouterr().out)
    assert (event["code"], event["retryable"]) == ("VOLUME_NOT_FOUND", False)
    assert event["next"] == Code.VOLUME_NOT_FOUND.remedy


@pytest.mark.parametrize(
    ("content", "code"), [(b"{}", 40), (b"not json", 40), (b"x" * 400_000, 2), (None, 2)]
)
def test_unusable_trust_policy(
    loaded: Bench, tmp_path: Path, content: bytes | None, code: int, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "policy.json"
    if content is not None:
        path.write_bytes(content)
    assert exit_of("verify", str(loaded.volume), "--trust", str(path)) == code
    assert "Next: " in capsys.readouterr().err


def test_interruption_says_what_is_safe(
    loaded: Bench,
    policy: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def interrupt(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(verify_command, "verify", interrupt)
    assert exit_of("verify", str(loaded.volume), "--trust", str(policy), "--json") == 130
    said = capsys.readouterr()
    assert "run the same command again" in said.err
    assert json.loads(said.out)["exitCode"] == 130


def test_unreachable_storage(
    loaded: Bench, policy: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("OFFLINE_MOVER_SAS", _SAS)
    arguments = ("push", str(loaded.volume), _TARGET, "--trust", str(policy), "--retries", "0")
    assert exit_of(*arguments) == Code.SERVICE_UNREACHABLE.exit_code
    assert "127.0.0.1:1: Connection refused" in capsys.readouterr().err


# --- verify needs nothing ----------------------------------------------------------------------------------

_VERIFY = """
import sys
from offline_mover.cli import main
code = main(sys.argv[1:])
print(sorted({name.split(".")[0] for name in sys.modules} & {"azure", "requests", "urllib3", "msal", "rich"}))
sys.exit(code)
"""


def test_verify_imports_no_azure(loaded: Bench, policy: Path) -> None:
    done = run_python(_VERIFY, "verify", str(loaded.volume), "--trust", str(policy))
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines()[-1] == "[]"


@pytest.mark.skipif(shutil.which("unshare") is None, reason="needs Linux namespaces")
def test_verify_needs_no_network(loaded: Bench, policy: Path) -> None:
    arguments = ("verify", str(loaded.volume), "--trust", str(policy))
    done = run_python(_VERIFY, *arguments, prefix=("unshare", "-rn"))
    if "unshare" in done.stderr:
        pytest.skip(f"no namespaces here: {done.stderr.strip()}")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("OK: ")


# --- terminal ----------------------------------------------------------------------------------------------


def run_on_terminal(*arguments: str, **environment: str) -> str:
    """What a person sees: stdout and stderr are a terminal."""
    return on_terminal("-m", "offline_mover", *arguments, **environment)


def on_terminal(*arguments: str, **environment: str) -> str:
    """What a Python program says to a terminal."""
    master, slave = pty.openpty()
    with subprocess.Popen(
        [sys.executable, *arguments],
        cwd=_ROOT,
        env={"PATH": os.environ["PATH"], "TERM": "xterm-256color", **environment},
        stdin=slave,
        stdout=slave,
        stderr=slave,
    ) as child:
        os.close(slave)
        seen = b""
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            try:
                seen += (piece := os.read(master, 65_536))
            except OSError:  # the other end is closed
                break
            if not piece:
                break
        assert child.wait(10) == 0
    os.close(master)
    return seen.decode()


def test_terminal_gets_a_bar_and_colours(loaded: Bench, policy: Path) -> None:
    seen = run_on_terminal("verify", str(loaded.volume), "--trust", str(policy))
    assert "verifying" in seen
    assert "\x1b[32mOK\x1b[0m: 4 parts" in seen


_PROGRESS = """
from offline_mover.progress import Meter, RichDisplay
now = [0.0]
with Meter(RichDisplay(), clock=lambda: now[0]) as meter:
    meter.start("fetching", 100_000_000, {"/media/a": 60_000_000, "/media/b": 40_000_000}, parts=25)
    for volume in ("/media/a", "/media/b") * 5:
        now[0] += 1
        meter.lane(volume, "001/00000001.part").advance(4_000_000)
"""


@pytest.mark.parametrize(
    ("columns", "begins", "rate"),
    [
        ("50", "fetching 10/25", ""),
        ("80", "fetching part 10 of 25", "2.0 MB/s"),
        ("120", "fetching part 10 of 25", "2.0 MB/s"),
    ],
)
def test_part_of_how_many_and_each_volumes_pace_fit_a_terminal(columns: str, begins: str, rate: str) -> None:
    seen = on_terminal("-c", _PROGRESS, COLUMNS=columns)
    lines = [re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", line) for line in re.split(r"[\r\n]+", seen)]
    told = {line.split()[0]: line for line in lines if line.strip()}  # as they were last
    assert all(len(line) <= int(columns) for line in lines)
    assert told["fetching"].startswith(begins)
    for volume, figures in (("/media/a", "20.0 MB of 60.0 MB"), ("/media/b", "20.0 MB of 40.0 MB")):
        assert figures in told[volume]
        assert " left" in told[volume]
        assert rate in told[volume]


def test_terminal_that_wants_it_plain_gets_no_control_codes(loaded: Bench, policy: Path) -> None:
    seen = run_on_terminal(*("verify", str(loaded.volume), "--trust", str(policy), "--plain"), NO_COLOR="1")
    assert seen.startswith("OK: 4 parts")
    assert "\x1b" not in seen
