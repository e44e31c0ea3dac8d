from __future__ import annotations

import json
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest

from airgap.errors import Code, MediaError
from offline_mover.cli import main
from offline_mover.cli.next_command import TypedWords, compose
from offline_mover.cli.parser import parse, parser_of
from offline_mover.cli.run_ending import RunEnding
from offline_mover.cli.shell_words import posix_line, windows_line
from offline_mover.outcome import Ending, NextCommand, Placeholder
from offline_mover.progress import Meter
from tests.offline_mover.conftest import Bench

_SOURCE = "https://account.blob.core.windows.net/transfer/k3v9x2m7q1"
_HOSTILE = ("a b", "it's", "$HOME", "`id`", "=ls", "*", "", "~", "ü", "!x", "a;b")


def typed(*arguments: str) -> TypedWords:
    return parse(arguments).typed


def composed(step: NextCommand, run: TypedWords) -> str:
    return posix_line(compose(step, run, parser_of(step.verb), ["offline-mover"]).words)


@pytest.mark.parametrize("shell", ["bash", "zsh"])
def test_line_is_read_by_the_shell_as_it_was_meant(shell: str) -> None:
    if shutil.which(shell) is None:
        pytest.skip(f"needs {shell}")
    line = posix_line(["printf", r"%s\n", *_HOSTILE])
    said = subprocess.run([shell, "-c", line], capture_output=True, text=True, check=True).stdout
    assert said.splitlines() == list(_HOSTILE)


def test_windows_line_suits_both_shells() -> None:
    words = ["D:\\my tool\\offline-mover.cmd", "verify", "E:\\it's $5", "E:\\x"]
    cmd = """"D:\\my tool\\offline-mover.cmd" verify "E:\\it's $5" E:\\x"""
    assert windows_line(words, is_powershell=False) == cmd
    powershell = """& "D:\\my tool\\offline-mover.cmd" verify 'E:\\it''s $5' E:\\x"""
    assert windows_line(words, is_powershell=True) == powershell


def test_same_verb_keeps_all_that_was_typed() -> None:
    run = typed(
        *("pull", _SOURCE, "/media/one slot", "--plan", "plan.json", "--number", "1"),
        *("--sas-file", "source.sas", "--trust", "policy.json", "--who", "Ada O'Neil"),
    )
    line = composed(NextCommand(verb="pull", options={"number": "2"}), run)
    assert shlex.split(line) == [
        *("offline-mover", "pull", _SOURCE, "/media/one slot", "--plan", "plan.json", "--number", "2"),
        *("--sas-file", "source.sas", "--trust", "policy.json", "--who", "Ada O'Neil"),
    ]


def test_other_storage_has_another_sas_and_the_same_one_the_same() -> None:
    run = typed("plan", _SOURCE, "--volume", "/usb", "--trust", "policy.json", "--sas-file", "source.sas")
    pull = NextCommand(verb="pull", words={"source": (_SOURCE,), "volumes": ("/usb",)})
    assert composed(pull, run) == (
        f"offline-mover pull {_SOURCE} /usb --sas-file source.sas --trust policy.json"
    )
    push = compose(NextCommand.on("push", ["/usb"]), run, parser_of("push"), ["offline-mover"])
    assert posix_line(push.words) == "offline-mover push /usb TARGET --sas-file FILE --trust policy.json"
    assert push.placeholders == ("TARGET", "FILE")


def test_transfer_of_a_container_that_was_listed_has_that_containers_sas() -> None:
    container, _, _ = _SOURCE.rpartition("/")
    run = typed("list", container, "--trust", "policy.json", "--sas-file", "source.sas")
    plan = NextCommand(verb="plan", words={"source": (_SOURCE,)})
    assert composed(plan, run) == (
        f"offline-mover plan {_SOURCE} --volume VOLUME --trust policy.json --sas-file source.sas"
    )
    elsewhere = NextCommand(verb="plan", words={"source": ("https://other.example/transfer/k3v9x2m7q1",)})
    assert "--sas-file FILE" in composed(elsewhere, run)


def test_value_of_the_environment_is_not_typed_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OFFLINE_MOVER_TRUST", "policy.json")
    monkeypatch.setenv("OFFLINE_MOVER_SAS_FILE", "some.sas")
    run = typed("verify", "/usb")
    assert composed(NextCommand.on("push", ["/usb"]), run) == "offline-mover push /usb TARGET"


def test_option_that_the_step_replaces_stands_once() -> None:
    run = typed("verify", "/usb", "--trust", "policy.json", "--recarry", "mine.json")
    step = NextCommand(
        verb="pull", words={"volumes": (Placeholder("PATCH"),)}, options={"recarry": "mine.json"}
    )
    assert composed(step, run) == (
        "offline-mover pull SOURCE PATCH --recarry mine.json --sas-file FILE --trust policy.json"
    )


@pytest.mark.parametrize(
    ("arguments", "verb"),
    [
        (["verify", "--json"], "verify"),
        (["--json"], ""),
        (["receipts", "push", "--json"], "receipts push"),
        (["verify", "/usb", "--trust", "policy.json", "--bogus", "--json"], "verify"),
        (["receipts", "show", "/usb", "--trust", "policy.json", "--bogus", "--json"], "receipts show"),
    ],
)
def test_argument_error_is_told_as_json_where_that_is_asked_for(
    arguments: list[str], verb: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments) == 2
    event = json.loads(capsys.readouterr().out)
    assert (event["command"], event["code"], event["exitCode"]) == (verb, "USAGE", 2)
    assert event["nextCommand"] == ["offline-mover", *verb.split(), "--help"]


def test_next_command_of_verify_can_be_pasted(
    loaded: Bench, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    volume = tmp_path / "Ada's stick $1"
    loaded.volume.rename(volume)
    policy = tmp_path / "a policy.json"
    policy.write_bytes(loaded.bundle.policy_json)
    assert main(["verify", str(volume), "--trust", str(policy), "--json"]) == 0
    event = json.loads(capsys.readouterr().out)
    assert main(["verify", str(volume), "--trust", str(policy)]) == 0
    line = capsys.readouterr().out.splitlines()[-2]
    assert shlex.split(line) == event["nextCommand"]
    assert event["nextCommand"][:4] == ["offline-mover", "push", str(volume), "TARGET"]


@pytest.mark.parametrize(
    "code",
    [Code.VOLUME_ON_SYSTEM_DISK, Code.VOLUME_GONE, Code.VOLUME_NOT_FOUND, Code.MEDIA_FULL],
)
def test_what_is_run_again_once_the_remedy_was_followed_stands_there_whole(code: Code) -> None:
    run = typed("pull", _SOURCE, "/media/one slot", "--trust", "policy.json", "--sas-file", "source.sas")
    ending = RunEnding(run, Meter()).after_error(MediaError(code))
    assert ending.line == (
        f"offline-mover pull {_SOURCE} '/media/one slot' --sas-file source.sas --trust policy.json"
    )


def test_what_another_run_would_not_mend_names_no_command() -> None:
    run = typed("verify", "/usb", "--trust", "policy.json")
    assert RunEnding(run, Meter()).after_error(MediaError(Code.MEDIA_LIED)) == Ending()
