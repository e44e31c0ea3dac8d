"""A whole run: what a seed draws, happens; then all faults stop, and everything must come right."""

import asyncio
import json
import logging
import random
from collections.abc import Callable, Coroutine, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, fields, replace
from datetime import datetime, timedelta
from functools import lru_cache
from typing import Any, cast

import pytest

from airgap.policy import TrustPolicy
from function_app.durable.blueprint import Activity
from function_app.durable.outcomes import run_step
from function_app.ports import Staged, TargetSide
from function_app.settings import TargetSettings
from function_app.target.activities import STEPS
from function_app.target.blueprints import blueprints
from function_app.target.intake import start_import
from function_app.target.reconciling import Reconciler
from tests.bundles import AUDIENCE, make_policy
from tests.function_app.memory import ENVIRONMENT, STAGING, START, LocalKeys, make_target
from tests.function_app.memory_projection import MemoryProjection
from tests.simulation.durable import Client, Durable, flows_of, is_expected
from tests.simulation.invariants import LIVENESS, Said, Watch, require
from tests.simulation.options import Faults, Options
from tests.simulation.people import Officers, PolicyOffice, Scanner, forget_what_was_read
from tests.simulation.scheduler import HOUR, MINUTE, SECOND, Died, Scheduler, Trace, Violation
from tests.simulation.services import (
    SERVICES,
    Blobs,
    ImageImports,
    Pipelines,
    Registry,
    Service,
    Weather,
    outage_lasts,
)
from tests.simulation.workload import (
    CHANNELS,
    RECEIPT_KEY,
    Attackers,
    Carriers,
    Incoming,
    Sealed,
    keyid_of,
    keys_of,
    seal,
)

_FLOWS = flows_of(blueprints("poll"))
_STEPS: Mapping[str, tuple[Activity[Any, Any], Callable[[TargetSide, Any], Any]]] = {
    activity.name: (activity, step) for activity, step in STEPS.items()
}
_TRIES = 5
"""So often an event is delivered that its function fails on; then it is given up, as a poison message."""

_ROUNDS_TO_REST = 100
"""Eighteen hours. The longest that anything is held up is twelve."""

_PUSHES = 8
_CHECKS = ("scan", "licence")
CALM = Faults(turn=0.1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """What a seed came to."""

    seed: int
    steps: int
    digest: str
    """Of the trace: the same for the same seed and the same code."""
    violation: Violation | None
    lines: tuple[str, ...]
    """The last of the trace."""
    decided: int
    """How many uploads were decided upon."""
    imported: int
    late: int
    """How many took a number after they were decided upon."""


@lru_cache(maxsize=1000)
def _settings(at_once: int, checks: int, release_hours: int, *, is_staged: bool) -> TargetSettings:
    asked = [{"name": name, "url": f"https://{name}.example", "scope": "any"} for name in _CHECKS[:checks]]
    return TargetSettings.from_environment(
        ENVIRONMENT
        | {
            "PIPELINE_RUNS_AT_ONCE": str(at_once),
            "HASHES_AT_ONCE": str(at_once),
            "PIPELINE_RUN_TIMEOUT_S": str(7 * 24 * 3600),
            "RELEASE_TIMEOUT_S": str(release_hours * 3600),
            "CHECK_TIMEOUT_S": str(release_hours * 3600),
            "CHECKS": json.dumps(asked),
        }
        | (STAGING if is_staged else {})
    )


@lru_cache
def _others() -> TargetSide:
    """The ports that are simulated by their doubles alone: a port more needs no change here."""
    return make_target(make_policy(keys_of(CHANNELS[0]), threshold=1))[0]


class Simulation:
    """One run of one seed."""

    def __init__(
        self, seed: int, tell: Callable[[str], None] | None = None, options: Options | None = None
    ) -> None:
        """``options``: in place of those that the seed draws."""
        self.seed = seed
        self.chance = random.Random(seed)  # noqa: S311 - it must repeat itself
        self.options = options or Options.draw(self.chance)
        self.trace = Trace(tell)
        self.scheduler = Scheduler(self.chance, START + HOUR, self.options.faults, self.trace)
        self.weather = Weather(self.scheduler)
        self.blobs = Blobs(self.scheduler, self.options.copy_polls)
        self.registry = Registry()
        self.staging = Registry() if self.options.is_staged else None
        incoming = Incoming(self.scheduler, self.blobs, self._arrived)
        self.carriers = Carriers(self.scheduler, incoming, self.options)
        self.incoming = incoming
        self.scanner = Scanner(self.scheduler, self._is_over)
        self.officers = Officers(self.scheduler, self._begin, self._is_over)
        self.office = PolicyOffice(self.scheduler, self.blobs, self.carriers, self.options)
        self.watch = Watch(
            self.scheduler,
            self.blobs,
            self.registry,
            bundles=self.carriers.by_sha256,
            policy=self._policy_at_work,
            policy_of=lambda version: self._policy_of(version, self.side),
            said=Said(
                checks=_CHECKS[: self.options.checks],
                passed=self.scanner.passed,
                releases=self.options.releases,
                released=self.officers.released,
                permitted=self.office.permitted,
            ),
        )
        self.watch.refused = self.carriers.refused
        self.watch.asked = self.officers.asked
        self.projection = MemoryProjection()
        self.scheduler.given_up = self._end_instance
        self.pipelines = Pipelines(
            self.scheduler,
            self.blobs,
            self.staging or self.registry,
            AUDIENCE[0] if self.staging is None else STAGING["STAGING_REGISTRY_LOGIN_SERVER"],
            self.watch.brought,
        )
        self.durable = Durable(self.scheduler, _FLOWS, self._run_activity)
        self.client = Client(self.scheduler, self.durable)
        self.side = self._side()
        self.ends_at = self.scheduler.now + self.options.lasts

    def run(self) -> Result:
        """Everything, to the end or to the first violation."""
        violation = None
        try:
            self._draw_events()
            self.scheduler.run_until(self.ends_at)
            self._calm_down()
            self._push_until_imported()
            self._push_fresh()
        except Violation as found:
            violation = found
        finally:
            self.scheduler.kill_all()
        journals = self.watch.journals.values()
        return Result(
            seed=self.seed,
            steps=self.trace.steps,
            digest=self.trace.digest,
            violation=violation,
            lines=tuple(self.trace.lines),
            decided=sum(journal.is_final for journal in journals),
            imported=sum(self.watch.is_imported(one) for one in self.carriers.by_sha256.values()),
            late=len(self.watch.late),
        )

    # --- the product ---

    def _side(self) -> TargetSide:
        """The target's ports and settings."""
        inner: Mapping[str, tuple[str, object]] = {
            "blobs": ("storage", self.blobs),
            "projection": ("table", self.projection),
            "registry": ("registry", self.registry),
            "pipelines": ("arm", self.pipelines),
            "signing": ("vault", LocalKeys([RECEIPT_KEY])),
            "checks": ("checks", self.scanner),
        }
        after = {"blobs": self.watch.after_storage}
        ports: dict[str, Any] = {"staged": self._staged()}
        for field in fields(TargetSide):
            name = field.name
            if name not in {"settings", "staged"}:
                service, port = inner.get(name) or (name, getattr(_others(), name))
                ports[name] = (
                    None  # some sides have none
                    if port is None
                    else Service(service, port, self.scheduler, self.weather, after.get(name))
                )
        return TargetSide(settings=self._settings(), **ports)

    def _staged(self) -> Staged | None:
        if self.staging is None:
            return None
        imports = ImageImports(self.scheduler, self.staging, self.registry, self.watch.entered)
        registry = Service("registry", self.staging, self.scheduler, self.weather)
        return Staged(
            registry=cast("Any", registry),
            imports=cast("Any", Service("arm", imports, self.scheduler, self.weather)),
        )

    def _settings(self) -> TargetSettings:
        options = self.options
        return replace(
            _settings(options.at_once, options.checks, options.release_hours, is_staged=options.is_staged),
            trust_policy=self.office.versions[0],
        )

    def _run_activity(self, name: str, order: Any) -> Any:
        activity, step = _STEPS[name]
        side = self._begin()
        return run_step(step, lambda: side, activity.order, order)

    def _begin(self) -> TargetSide:
        """The side that the task at work keeps, whatever is deployed meanwhile."""
        assert self.scheduler.current is not None
        self.scheduler.current.side = self.side
        return self.side

    def _policy_at_work(self) -> TrustPolicy:
        task = self.scheduler.current
        side = cast("TargetSide | None", None if task is None else task.side)
        return self._policy_of(
            self.watch.newest_policy if task is None else task.policy_version, side or self.side
        )

    def _policy_of(self, version: int, side: TargetSide) -> TrustPolicy:
        """The version that was brought, or else the one that ``side`` is pinned to."""
        following = (one for one in self.office.versions[1:] if one.version == version)
        return next(following, side.settings.trust_policy)

    def _arrived(self, folder: str, tries: int = _TRIES) -> None:
        def again() -> None:
            if tries > 1:
                pause = self.scheduler.seconds(10, 600)
                self.scheduler.after(pause, "", lambda: self._arrived(folder, tries - 1))

        def start() -> Coroutine[Any, Any, Any]:
            return start_import(self.client, self._begin(), folder=folder, now=self._clock())

        self.scheduler.spawn(f"event for {folder[:60]!r}", lambda: self._function(start, again))

    def _reconcile(self) -> None:
        def round_() -> Coroutine[Any, Any, Any]:
            return Reconciler(self._begin(), self.client, self._clock()).run()

        self.scheduler.spawn("reconciler", lambda: self._function(round_, lambda: None))

    def _function(self, function: Callable[[], Coroutine[Any, Any, Any]], again: Callable[[], None]) -> None:
        """Run a function that is no activity; ``again`` if it fails or dies."""
        try:
            self.scheduler.say(f"comes to {run_through(function())}")
        except Died:
            again()
            raise
        except Exception as error:
            if not is_expected(error):
                raise Violation("a function ends as it says", repr(error)) from error
            self.scheduler.say(f"fails: {error}")
            again()

    def _clock(self) -> datetime:
        return workers_clock(self.scheduler)

    # --- what happens ---

    def _draw_events(self) -> None:
        options = self.options
        attackers = Attackers(self.scheduler, self.incoming, self.carriers, self._is_over)
        for many, what in (
            (options.attacks, attackers.attack),
            (options.forks, attackers.fork),
            (options.intrusions, attackers.intrude),
            (options.outages, self._outage),
            (options.jumps, self._jump),
            (options.deaths, self._death),
            (options.interventions, self._intervene),
            (options.revocations, self._revoke),
            (options.policies, self.office.bring),
            (
                options.rollbacks,
                lambda: self.office.roll_back(lambda: self.watch.newest_policy, self._is_over),
            ),
            (options.permissions, lambda: self.office.permit(attackers.belated())),
        ):
            for _ in range(many):
                self.scheduler.after(options.lasts * self.chance.random(), "", self._while_it_lasts(what))
        moment = self.scheduler.now
        while (moment := moment + self.scheduler.seconds(300, 2400)) < self.ends_at:
            self.scheduler.at(moment, "", self._reconcile)

    def _is_over(self) -> bool:
        return self.scheduler.now >= self.ends_at

    def _while_it_lasts(self, what: Callable[[], None]) -> Callable[[], None]:
        return lambda: None if self._is_over() else what()

    def _outage(self) -> None:
        service = self.chance.choice((*SERVICES, "pipeline"))
        lasts = outage_lasts(self.scheduler)
        self.scheduler.say(f"{service} is away for {lasts}")
        if service == "pipeline":
            self.pipelines.unfit_until = self.scheduler.now + lasts
        else:
            self.weather.take_away(service, lasts)

    def _jump(self) -> None:
        jump = self.chance.choice((HOUR, 24 * HOUR, 72 * HOUR))
        self.scheduler.say(f"the clock jumps by {jump}")
        self.scheduler.now += jump

    def _death(self) -> None:
        self.scheduler.say("all workers die")
        self.scheduler.kill_all()
        self.durable.forget_workers()
        forget_what_was_read()

    def _intervene(self) -> None:
        if self.durable.instances:
            self._end_instance(self.chance.choice(list(self.durable.instances)))

    def _end_instance(self, instance_id: str) -> None:
        """As a person who is tired of waiting, or tidies up."""
        root = self.durable.instances.get(instance_id.partition(":")[0])
        chosen = self.durable.instances.get(instance_id) if self.chance.random() < 0.5 else root
        if chosen is None or self._is_over():
            return
        # Whoever purges a child that runs lets its parent wait for ever, whatever the app does.
        if chosen.is_active and (chosen.parent is not None or self.chance.random() < 0.5):
            self.scheduler.say(f"somebody terminates {chosen.id}")
            self.durable.terminate(chosen.id)
        else:
            self.scheduler.say(f"somebody purges {chosen.id}")
            self.durable.purge(chosen.id)

    def _revoke(self) -> None:
        channel = self.chance.choice(CHANNELS[: self.options.channels])
        self.scheduler.say(f"the first key of {channel} is revoked")
        self.carriers.revoked.append(keyid_of(channel, 0))
        if self.options.policies:
            self.office.bring()
        else:
            self.office.deploy()
            self.side = replace(self.side, settings=self._settings())

    # --- the end ---

    def _calm_down(self) -> None:
        self.scheduler.faults = CALM
        self.weather.clear()
        self.pipelines.unfit_until = self.scheduler.now
        self.scheduler.say("all faults stop")
        self.office.restore()
        self.officers.hurry()

    def _settle(self) -> None:
        """Let the reconciler come round until nothing has been going on for two rounds."""
        quiet = 0
        for _ in range(_ROUNDS_TO_REST):
            self._reconcile()
            self.scheduler.run_until(self.scheduler.now + 11 * MINUTE + SECOND)
            why = self._why_restless()
            quiet = 0 if why else quiet + 1
            if quiet == 2:
                self.watch.at_rest()
                return
        self.watch.require_rest(str(why))

    def _why_restless(self) -> str | None:
        active = next((one.id for one in self.durable.instances.values() if one.is_active), None)
        if active is not None:
            return f"{active} runs"
        return self.watch.why_restless() or (None if self.scheduler.is_idle else "something is to come")

    def _push_until_imported(self) -> None:
        """As a carrier who finds no receipt for an import: the same files again."""
        for _ in range(_PUSHES):
            self._settle()
            missing = [sealed for sealed in self.carriers.bundles if self._is_owed(sealed)]
            if not missing:
                return
            for sealed in missing:
                self.scheduler.say(f"pushes {sealed.folder} again")
                self.incoming.push(sealed)
                self.scheduler.run_until(self.scheduler.now + 3 * MINUTE)
        require(not missing, LIVENESS, ", ".join(sealed.folder for sealed in missing))

    def _is_owed(self, sealed: Sealed) -> bool:
        """Whether nothing has happened that would excuse a bundle from being imported.

        Raises:
            Violation: its number was used up for nothing.
        """
        if self.watch.is_imported(sealed):
            return False
        manifest, entries = sealed.bundle.manifest, self.watch.entries
        entry = entries.get((sealed.channel, sealed.sequence))
        if entry is not None:
            options = self.options
            faults = options.faults
            is_late = entry.owner in self.watch.late
            is_excused = (
                is_late
                or faults.run_failed
                or faults.impatience
                or options.intrusions
                or options.interventions
                or options.releases
                or options.checks
                or options.rollbacks
            )
            is_same = entry.manifest_sha256 == sealed.sha256
            require(
                is_excused or not is_same, LIVENESS, f"{sealed.folder} has its number and is not imported"
            )
            return False
        before = entries.get((sealed.channel, sealed.sequence - 1))
        taken = [number for channel, number in entries if channel == sealed.channel]
        return not (
            manifest.expires_at < self.scheduler.now + HOUR
            or sealed.keyid in self.carriers.revoked
            or (before is not None and before.manifest_sha256 != manifest.previous_sha256)
            or (self.options.order == "rising" and max(taken, default=0) > sealed.sequence)
        )

    def _push_fresh(self) -> None:
        """One more bundle of each channel, in which nobody interferes."""
        fresh = []
        for channel in CHANNELS[: self.options.channels]:
            number = max((one for name, one in self.watch.entries if name == channel), default=0)
            before = self.watch.entries.get((channel, number))
            key = 1 if keyid_of(channel, 0) in self.carriers.revoked else 0
            now = self.scheduler.now.replace(microsecond=0)
            previous = None if before is None else before.manifest_sha256
            sealed = self.carriers.add(
                seal(channel, number + 1, "fresh", key=key, created_at=now, previous=previous)
            )
            self.incoming.push(sealed)
            fresh.append(sealed)
        self._settle()
        for sealed in fresh:
            require(self.watch.is_imported(sealed), LIVENESS, f"{sealed.folder}, that nobody interfered with")


def workers_clock(scheduler: Scheduler) -> datetime:
    """The time as a worker has it, which may be wrong by up to four minutes."""
    is_wrong = scheduler.chance.random() < scheduler.faults.skew
    return scheduler.now + (scheduler.seconds(-240, 240) if is_wrong else timedelta())


def run_through(function: Coroutine[Any, Any, Any]) -> Any:
    """Run a coroutine that never waits for a loop."""
    try:
        function.send(None)
    except StopIteration as end:
        return end.value
    raise AssertionError("it waits for something that is not simulated")


async def _at_once(call: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
    return call(*args, **kwargs)


@contextmanager
def alone() -> Iterator[None]:
    """No threads but the scheduler's, and no log, which looks at the clock."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(asyncio, "to_thread", _at_once)
        logging.disable(logging.CRITICAL)
        try:
            yield
        finally:
            logging.disable(logging.NOTSET)


def simulate(seed: int, tell: Callable[[str], None] | None = None) -> Result:
    """Run a seed; ``tell`` is given every line of the trace."""
    with alone():
        return Simulation(seed, tell).run()
