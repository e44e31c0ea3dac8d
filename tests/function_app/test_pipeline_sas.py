"""The SAS of the pipeline over weeks: renewed in time, told of when it is not, and never shown."""

import logging
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from airgap.errors import Code, ServiceError
from airgap.pipeline_sas import SasVersion, Step
from function_app.pipeline_sas import renew, sas_ends_at
from function_app.ports import Ports
from function_app.preflight import check_side, order_checks
from function_app.settings import Role
from tests.function_app.memory import MemorySas, make_source, make_target
from tests.function_app.test_preflight import POLICY, URL

START = datetime(2026, 12, 1, 12, tzinfo=UTC)
HOUR, DAY = timedelta(hours=1), timedelta(days=1)
SECRET = "https://vault.example/secrets/acrsas"
END: dict[Role, str] = {"source": "target", "target": "source"}


class Scene:
    """A side whose pipeline comes by a SAS that the deployment has just made, on a clock of its own."""

    def __init__(self, role: Role) -> None:
        self.role = role
        self.now = START
        self.sas = MemorySas(clock=lambda: self.now)
        self.sas.versions.append(SasVersion(created_at=START, expires_at=None, is_enabled=True))
        made: Ports = make_source()[0] if role == "source" else make_target(POLICY)[0]
        settings = replace(made.settings, pipeline_sas_secret=SECRET, pipeline_sas_client_id="sas-renewer")
        self.side = replace(made, settings=settings, pipeline_sas=self.sas)
        option = "OverwriteBlobs" if role == "source" else "OverwriteTags"
        self.pipeline: dict[str, Any] = {
            "provisioningState": "Succeeded",
            "options": [option],
            END[role]: {"uri": URL, "storageAccessMode": "SasToken"},
            "trigger": {"sourceTrigger": {"status": "Disabled"}},
        }
        pipelines: Any = self.side.pipelines
        pipelines.pipelines[settings.pipeline_kind, settings.pipeline] = self.pipeline

    def round(self) -> Step | None:
        return renew(self.role, self.side, now=self.now)

    def go_on(self, hours: int) -> list[Step | None]:
        """Let hours go by, each with a round."""
        steps = []
        for _ in range(hours):
            self.now += HOUR
            steps.append(self.round())
        return steps

    @property
    def access(self) -> tuple[bool, str, str]:
        """What the preflight says of how the pipeline comes to the storage."""
        checks = check_side(self.role, self.side, {}, now=self.now)
        (found,) = (one for one in checks if one.id == "pipeline-access")
        return found.is_ok, found.detail, found.remedy

    @property
    def order_faults(self) -> list[str]:
        """The checks by which an order would be refused."""
        return [one.id for one in order_checks(self.role, self.side, now=self.now) if not one.is_ok]


@pytest.fixture(params=["source", "target"])
def scene(request: pytest.FixtureRequest) -> Scene:
    return Scene(request.param)


@pytest.fixture(autouse=True)
def _everything_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)


def refuse(code: Code) -> Callable[..., Any]:
    def refused(*_: object, **__: object) -> None:
        raise ServiceError(code, "as the service has it")

    return refused


def warnings(caplog: pytest.LogCaptureFixture) -> list[str]:
    found = [one.getMessage() for one in caplog.records if one.levelno >= logging.WARNING]
    caplog.clear()
    return found


def test_there_is_a_good_sas_at_every_hour_of_a_month_and_each_renewal_leaves_the_old_one(
    scene: Scene, caplog: pytest.LogCaptureFixture
) -> None:
    assert scene.round() is Step.RENEW  # that of the deployment, of which nobody knows when it ends
    for hour in range(1, 30 * 24 + 1):
        before = scene.sas.newest()
        assert before is not None
        assert before.expires_at is not None
        scene.now += HOUR
        if scene.round() is Step.RENEW:
            assert before.expires_at - scene.now > 2 * DAY, hour
        assert scene.access[0], hour
        assert scene.order_faults == []
    assert len(scene.sas.versions) == 12  # the deployment's, that of the first round, and one in three days
    assert set(scene.sas.signed) == {{"source": "rawl", "target": "rl"}[scene.role]}
    assert warnings(caplog) == []


def test_pipeline_that_comes_by_its_identity_has_nothing_renewed(scene: Scene) -> None:
    side = replace(scene.side, pipeline_sas=None)
    assert renew(scene.role, side, now=scene.now) is None
    assert len(scene.sas.versions) == 1


def test_two_rounds_at_once_leave_two_sas_that_are_both_good(scene: Scene) -> None:
    """Each has looked before the other has renewed."""
    newest = scene.sas.newest()
    scene.sas.newest = lambda: newest  # type: ignore[method-assign]
    assert [scene.round(), scene.round()] == [Step.RENEW, Step.RENEW]
    assert [one.expires_at for one in scene.sas.versions[1:]] == [START + 6 * DAY] * 2
    del scene.sas.newest
    assert scene.go_on(24) == [Step.KEEP] * 24


@pytest.mark.parametrize("code", [Code.SERVICE_DENIED, Code.SERVICE_UNREACHABLE])
def test_renewal_that_fails_is_tried_each_hour_and_told_days_before_the_end(
    scene: Scene, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, code: Code
) -> None:
    """Whether the storage gives no key or the vault takes no version."""
    scene.round()
    with monkeypatch.context() as patch:
        patch.setattr(scene.sas, "renew", refuse(code))
        steps = scene.go_on(3 * 24 + 1)
        assert steps[-2:] == [Step.RENEW, Step.RENEW]
        assert scene.access[0]
        assert not any("was not renewed" in line for line in warnings(caplog))
        scene.go_on(1)
        assert warnings(caplog) == [
            f"the SAS of the pipeline was not renewed: {code.name}: as the service has it"
        ]
        is_ok, told, remedy = scene.access
        assert (is_ok, "Storage Blob Delegator" in remedy) == (False, True)
        assert "2026-12-07T12:00:00Z" in told
        assert scene.order_faults == []  # the SAS is good for three days yet
        scene.go_on(3 * 24)
        assert "ended at 2026-12-07T12:00:00Z" in scene.access[1]
        assert scene.order_faults == ["pipeline-access"]
    assert scene.go_on(1) == [Step.RENEW]
    assert (scene.access[0], scene.order_faults) == (True, [])


def test_vault_that_does_not_answer_is_told_and_refuses_no_order(
    scene: Scene, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    scene.round()
    monkeypatch.setattr(scene.sas, "newest", refuse(Code.SERVICE_DENIED))
    assert scene.round() is None
    (line,) = warnings(caplog)
    assert line.startswith("the SAS of the pipeline was not renewed: SERVICE_DENIED")
    is_ok, _, remedy = scene.access
    assert (is_ok, "secretRenewer" in remedy) == (False, True)
    assert scene.order_faults == []
    assert len(scene.sas.signed) == 1


def test_storage_that_gives_no_key_is_told_by_the_preflight_before_a_renewal_needs_one(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    scene.round()
    before = list(scene.sas.versions)
    monkeypatch.setattr(scene.sas, "require_key", refuse(Code.SERVICE_DENIED))
    is_ok, _, remedy = scene.access
    assert (is_ok, "Storage Blob Delegator" in remedy) == (False, True)
    assert scene.order_faults == []
    assert scene.sas.versions == before


@pytest.mark.parametrize("is_gone", [False, True], ids=["disabled", "deleted"])
def test_secret_that_somebody_has_withdrawn_is_left_alone_and_told(
    scene: Scene, caplog: pytest.LogCaptureFixture, is_gone: bool
) -> None:
    scene.round()
    versions = scene.sas.versions[:]
    scene.sas.versions[:] = [] if is_gone else [replace(versions[-1], is_enabled=False)]
    assert scene.go_on(24 * 8) == [Step.LEAVE] * 24 * 8
    assert len(warnings(caplog)) == 24 * 8
    is_ok, _, remedy = scene.access
    assert not is_ok
    assert f"--id {SECRET.replace('secrets', 'deletedsecrets') if is_gone else SECRET}" in remedy
    assert scene.order_faults == ["pipeline-access"]


def test_clock_that_is_days_ahead_is_told_as_a_renewal_that_fails(
    scene: Scene, caplog: pytest.LogCaptureFixture
) -> None:
    """Azure gives no key for a time so far away."""
    scene.round()
    renew(scene.role, scene.side, now=scene.now + 30 * DAY)
    assert len(scene.sas.signed) == 1
    assert "was not renewed" in warnings(caplog)[-1]


def test_end_of_the_sas_is_that_of_the_newest_version_or_of_the_setting(scene: Scene) -> None:
    told = START + DAY
    side = replace(scene.side, settings=replace(scene.side.settings, pipeline_sas_expires_at=told))
    assert sas_ends_at(side) == told
    scene.round()
    assert sas_ends_at(side) == START + 6 * DAY
    assert sas_ends_at(replace(side, pipeline_sas=None)) == told


def test_sas_of_the_deployment_that_was_never_renewed_refuses_orders_once_it_has_ended(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its version does not say when it ends, and a setting does."""
    ends = START + 7 * DAY
    scene.side = replace(scene.side, settings=replace(scene.side.settings, pipeline_sas_expires_at=ends))
    monkeypatch.setattr(scene.sas, "renew", refuse(Code.SERVICE_DENIED))
    scene.go_on(7 * 24 - 1)
    assert "its SAS ends at 2026-12-08T12:00:00Z, and is to be renewed since" in scene.access[1]
    assert scene.order_faults == []
    scene.go_on(1)
    assert "its SAS ended at 2026-12-08T12:00:00Z" in scene.access[1]
    assert scene.order_faults == ["pipeline-access"]


def test_setting_says_nothing_of_a_sas_that_somebody_has_set_after_the_time_it_names(scene: Scene) -> None:
    scene.side = replace(
        scene.side, settings=replace(scene.side.settings, pipeline_sas_expires_at=START - DAY)
    )
    assert sas_ends_at(scene.side) is None
    assert scene.order_faults == []
    assert scene.access[0]


def test_pipeline_by_its_identity_is_fit_whatever_lies_in_the_vault(scene: Scene) -> None:
    scene.pipeline[END[scene.role]]["storageAccessMode"] = "ManagedIdentity"
    scene.sas.versions.clear()
    assert scene.access[:2] == (True, "it comes to the storage by its identity")
