"""Alerts and workbook search for what the code really logs: here the code itself logs it."""

import json
import logging
import re
from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta

import pytest

from airgap.errors import Code
from airgap.states import Kind, State
from function_app.journal.store import forget_journals
from function_app.signs_of_life import tell_of_round
from infra.rules import Choice, deploy
from infra.rules.relations import ALERTS
from tests.airgap.test_custody_copies import LATE
from tests.bundles import TRANSFER_ID
from tests.function_app.durable_client import RuntimeStatus
from tests.function_app.memory import START, Host
from tests.function_app.test_custody_logs import FORGED, deliver
from tests.function_app.test_custody_logs import Scene as CustodyScene
from tests.function_app.test_events import Scene as EventScene
from tests.function_app.test_pipeline_sas import Scene as SasScene
from tests.function_app.test_reconciling import NOON, SourceRound, TargetRound
from tests.infra.expansions import template

DEPLOYED = deploy(template("source"), Choice(side="source"))
QUERIES = {
    one.name.rpartition("-telemetry-")[2]: str(one.properties["criteria"]["allOf"][0]["query"])
    for one in DEPLOYED.of_type("Microsoft.Insights/scheduledQueryRules")
}
SEARCHED = re.compile(r'message (startswith|contains) "([^"]*)"')
OF_THE_HOST = {"function-failed", "poison"}
"""Alerts on what the host logs, not the app."""


def holds(condition: str, line: str) -> bool:
    """Whether one line meets a condition of our queries."""
    choices = [SEARCHED.fullmatch(one) for one in condition.split(" or ")]
    assert None not in choices
    return any(
        line.startswith(words) if how == "startswith" else words in line
        for how, words in (found.groups() for found in choices if found)
    )


def fires(name: str, lines: Sequence[str]) -> bool:
    """Whether an alert would go off with these lines in its window."""
    source, *conditions, counted = QUERIES[name].replace("where ", "").split(" | ")
    assert (source, counted) == ("traces", "summarize lines = count()")
    found = sum(all(holds(one, line) for one in conditions) for line in lines)
    operator, threshold, _ = ALERTS[name]
    return found > threshold if operator == "GreaterThan" else found < threshold


def firing(caplog: pytest.LogCaptureFixture) -> set[str]:
    """The alerts that would go off after what was logged since."""
    lines = [record.getMessage() for record in caplog.records]
    caplog.clear()
    return {name for name in QUERIES if name not in OF_THE_HOST and fires(name, lines)}


def sealed(*, good_for: timedelta = timedelta(days=30)) -> SourceRound:
    """A source whose transfer is sealed."""
    scene = SourceRound(expires_in_s=int(good_for.total_seconds()))
    scene.run()
    Host(scene.side).run("export_transfer", scene.client.instances[TRANSFER_ID].input_, TRANSFER_ID)
    scene.client.instances[TRANSFER_ID].runtime_status = RuntimeStatus.Completed
    assert scene.state is State.SEALED
    return scene


@pytest.fixture(autouse=True)
def _everything_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)


def test_round_of_either_side_sets_nothing_off(caplog: pytest.LogCaptureFixture) -> None:
    scene = sealed()
    firing(caplog)
    scene.run(START + timedelta(days=13))
    assert firing(caplog) == set()
    TargetRound().run()
    assert firing(caplog) == set()


def test_reconciler_that_does_not_come_is_told(caplog: pytest.LogCaptureFixture) -> None:
    assert firing(caplog) == {"reconciler-behind"}


@pytest.mark.parametrize(("state", "alert"), [(State.REFUSED, "refused"), (State.DAMAGED, "refused")])
def test_refusal_and_damage_are_told(state: State, alert: str, caplog: pytest.LogCaptureFixture) -> None:
    scene = sealed()
    facts = {"code": "AUDIENCE_MISMATCH", "detail": "another registry"}
    scene.journals.record(Kind.TRANSFERS, TRANSFER_ID, state, facts, by="receipt", at=NOON)
    assert firing(caplog) == {alert}


def test_failure_is_told(caplog: pytest.LogCaptureFixture) -> None:
    scene = SourceRound()
    scene.client.add(TRANSFER_ID, state=RuntimeStatus.Failed)
    scene.run()
    assert firing(caplog) == {"failed"}


def test_transfer_without_receipt_is_told_for_as_long_as_it_waits(caplog: pytest.LogCaptureFixture) -> None:
    scene = sealed()
    firing(caplog)
    for days in (15, 16):
        scene.run(START + timedelta(days=days))
        assert firing(caplog) == {"no-receipt"}
    scene.journals.record(Kind.TRANSFERS, TRANSFER_ID, State.DELIVERED, {}, by="receipt", at=NOON)
    scene.run(START + timedelta(days=17))
    assert firing(caplog) == set()


def test_transfer_that_expires_without_receipt_is_told_a_last_time(caplog: pytest.LogCaptureFixture) -> None:
    scene = sealed(good_for=timedelta(hours=1))
    firing(caplog)
    scene.run(START + timedelta(days=15))
    assert (firing(caplog), scene.state) == ({"no-receipt"}, State.EXPIRED)
    scene.run(START + timedelta(days=16))
    assert firing(caplog) == set()


def test_journal_that_cannot_be_read_keeps_nobody_else_from_being_told(
    caplog: pytest.LogCaptureFixture,
) -> None:
    scene = sealed()
    scene.blobs.put("journal", f"transfers/{TRANSFER_ID}/00000002.json", b"{}")
    forget_journals()
    firing(caplog)
    scene.run(START + timedelta(days=15))
    assert firing(caplog) == set()


@pytest.mark.parametrize(("days", "expected"), [(15, set()), (13, {"sas-expires"}), (-1, {"sas-expires"})])
def test_sas_that_is_about_to_expire_is_told(
    days: int, expected: set[str], caplog: pytest.LogCaptureFixture
) -> None:
    settings = replace(SourceRound().side.settings, pipeline_sas_expires_at=NOON + timedelta(days=days))
    caplog.clear()
    tell_of_round(Kind.TRANSFERS, settings, NOON)
    assert firing(caplog) == expected


def test_sas_that_the_app_renews_is_told_by_its_renewal_alone(caplog: pytest.LogCaptureFixture) -> None:
    scene = SasScene("source")
    settings = replace(scene.side.settings, pipeline_sas_expires_at=NOON)
    caplog.clear()
    tell_of_round(Kind.TRANSFERS, settings, NOON)
    scene.round()
    assert firing(caplog) == set()
    scene.sas.versions[-1] = replace(scene.sas.versions[-1], is_enabled=False)
    scene.round()
    assert firing(caplog) == {"reconciler-behind", "sas-not-renewed"}


def test_poison_is_looked_for_under_the_name_of_the_queue_that_is_deployed() -> None:
    """The host logs the name as it moves a message there: QueueProcessor in Azure/azure-sdk-for-net."""
    queue = DEPLOYED.one("Microsoft.Storage/storageAccounts/queueServices/queues").name.rpartition("/")[2]
    assert SEARCHED.findall(QUERIES["poison"]) == [("contains", queue)]


def test_custody_log_that_was_written_anew_is_told(caplog: pytest.LogCaptureFixture) -> None:
    scene = CustodyScene()
    deliver(scene, LATE)
    assert firing(caplog) == set()
    deliver(scene, FORGED)
    assert firing(caplog) == {"custody-tampered"}


def test_event_that_was_not_taken_for_half_an_hour_is_told(caplog: pytest.LogCaptureFixture) -> None:
    scene = EventScene()
    scene.note(TRANSFER_ID, State.REQUESTED)
    scene.receiver.refusal = lambda _: Code.SERVICE_UNREACHABLE
    scene.round(rounds=30)
    assert "events-behind" not in firing(caplog)
    scene.round(rounds=20)
    assert "events-behind" in firing(caplog)
    scene.receiver.refusal = lambda _: None
    scene.round(rounds=20)
    assert "events-behind" not in firing(caplog)


def test_every_alert_is_tried_here() -> None:
    tried = {
        "events-behind",
        "custody-tampered",
        "reconciler-behind",
        "refused",
        "failed",
        "no-receipt",
        "sas-expires",
        "sas-not-renewed",
    }
    assert QUERIES.keys() == ALERTS.keys() == tried | OF_THE_HOST


def test_workbook_reads_the_line_of_a_journal_entry(caplog: pytest.LogCaptureFixture) -> None:
    scene = sealed()
    facts = {"code": "REPLAYED", "detail": "it was imported before"}
    caplog.clear()
    scene.journals.record(Kind.TRANSFERS, TRANSFER_ID, State.REFUSED, facts, by="receipt", at=NOON)
    (line,) = [record.getMessage() for record in caplog.records]
    workbook = DEPLOYED.one("Microsoft.Insights/workbooks").properties["serializedData"]
    for item in json.loads(workbook)["items"]:
        query = item["content"]["query"]
        parsed = re.search(r'\| parse message with ((?:"[^"]*"|\w+|\s)+)', query)
        assert parsed is not None
        words = re.findall(r'"([^"]*)"|(\w+)', parsed[1])
        pattern = "".join(f"(?P<{name}>.*?)" if name else re.escape(text) for text, name in words)
        found = re.fullmatch(pattern, line)
        assert found is not None
        assert found.groupdict() == {
            "kind": "transfers",
            "about": TRANSFER_ID,
            "state": "refused",
            "code": "REPLAYED",
        }
