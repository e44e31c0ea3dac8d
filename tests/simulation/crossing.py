"""A whole crossing: source, carrier and target under one clock, and what must hold at both ends.

The orchestrators, steps, reconcilers and timers of both sides are the product's own. In between, a carrier
takes bundles one way and receipts the other: it loses, doubles, delays, mixes up and forges both.
"""

import hashlib
import json
import random
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass, fields, replace
from datetime import datetime, timedelta
from typing import Any

from airgap.envelope import Envelope
from airgap.errors import AirgapError
from airgap.holdings import KeptReceipt
from airgap.ledger import VoidEntry
from airgap.manifest import ENVELOPE_NAME, Void
from airgap.receipt import Receipt
from airgap.schedule import Schedule
from airgap.states import Kind, State
from function_app.durable.outcomes import run_step
from function_app.journal.store import JournalStore
from function_app.ports import Ports
from function_app.settings import SourceSettings, TargetSettings
from function_app.source import activities as source_activities
from function_app.source.blueprints import blueprints as source_blueprints
from function_app.source.cancelling import cancel_transfer
from function_app.source.placing import place_transfer
from function_app.source.receiving import receive
from function_app.source.reconciling import Reconciler as SourceReconciler
from function_app.source.removing import remove_ended
from function_app.source.standing import place_due_orders
from function_app.source.standing_order import StandingOrder
from function_app.source.transfer_request import TransferRequest
from function_app.source.voiding import void_transfer
from function_app.storage.paths import INCOMING, LEDGER, RECEIPTS, TRANSFER, manifest_path
from function_app.target import activities as target_activities
from function_app.target.blueprints import blueprints as target_blueprints
from function_app.target.intake import start_import
from function_app.target.reconciling import Reconciler as TargetReconciler
from tests.bundles import AUDIENCE
from tests.function_app.memory import (
    ENVIRONMENT,
    START,
    LocalKeys,
    MemoryRegistry,
    export_pipeline,
    failed,
    make_source,
    make_target,
    succeeded,
)
from tests.function_app.memory_projection import MemoryProjection
from tests.simulation.crossing_watch import CROSSED, Exported, Watch, artifacts_of
from tests.simulation.durable import Client, Durable, flows_of, is_expected
from tests.simulation.invariants import AT_REST, require
from tests.simulation.options import Options
from tests.simulation.scheduler import HOUR, MINUTE, SECOND, Died, Scheduler, Trace, Violation
from tests.simulation.services import SERVICES, After, Blobs, Pipelines, Registry, Service, Weather
from tests.simulation.services import outage_lasts as lasts_of_outage
from tests.simulation.simulator import CALM, Result, alone, run_through, workers_clock
from tests.simulation.workload import CHANNELS, RECEIPT_KEY, STRANGER, Incoming, keys_of, policy_of

OTHER_REGISTRY = "other.azurecr.io"
"""A registry of the same channels, whose receipts the same key signs; no bundle here is made for it."""

_TRIES = 5
_CARRIED_AGAIN = 8
_ROUNDS_TO_REST = 100
_TAGS = 4
_GOOD_FOR_S = 30 * 24 * 3600
_SETTINGS = ENVIRONMENT | {"PIPELINE_RUN_TIMEOUT_S": str(7 * 24 * 3600), "CHECKS": "[]"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Carriage:
    """How probable it is, between 0 and 1, that the carrier does each of these to a bundle or a receipt."""

    lost: float
    twice: float
    late: float
    mixed: float
    forged: float

    @classmethod
    def draw(cls, chance: random.Random) -> "Carriage":
        """A seed's own; most of them are left out."""
        return cls(**{field.name: chance.choice((0.0, 0.0, 0.2, 0.5)) for field in fields(cls)})


class ExportPipelines:
    """ACR Transfer at the source: a run reads its tags and writes its blob a while after it was asked for."""

    def __init__(self, scheduler: Scheduler, blobs: Blobs, registry: MemoryRegistry, watch: Watch) -> None:
        self._scheduler = scheduler
        self._blobs = blobs
        self._registry = registry
        self._watch = watch
        self._runs: dict[str, Mapping[str, Any]] = {}

    def get_pipeline(self, kind: str, name: str) -> Mapping[str, Any] | None:
        del kind, name
        return export_pipeline()

    def get_run(self, name: str) -> Mapping[str, Any] | None:
        return self._runs.get(name)

    def put_run(self, name: str, request: Mapping[str, Any]) -> None:
        if name not in self._runs:
            self._watch.asked_to_export(request)
            self._runs[name] = {"provisioningState": "Succeeded", "response": {"status": "Running"}}
            pause = self._scheduler.seconds(1, 120)
            self._scheduler.after(pause, f"run {name}", lambda: self._run(name, request))

    def delete_run(self, name: str) -> None:
        self._runs.pop(name, None)

    def _run(self, name: str, request: Mapping[str, Any]) -> None:
        if self._scheduler.chance.random() < self._scheduler.faults.run_failed:
            self._runs[name] = failed("broke off")
            return
        tags = (tuple(reference.split(":")) for reference in request["artifacts"])
        found = [[f"{where}:{tag}", self._registry.tags[where, tag]] for where, tag in tags]
        content = json.dumps({"artifacts": found, "run": name}).encode()
        path = request["target"]["name"]
        self._blobs.upload(TRANSFER, path, content, {"category": "acr-transfer-blob"})
        self._watch.exported[path] = Exported(content)
        self._runs[name] = succeeded(catalogDigest=f"sha256:{hashlib.sha256(content).hexdigest()}")


class World:
    """One side: its ports, its orchestrations, and the functions that are no activities."""

    def __init__(
        self,
        scheduler: Scheduler,
        side: Ports,
        ports: Mapping[str, tuple[str, object]],
        after: After,
        *,
        blueprints: Any,
        steps: Any,
    ) -> None:
        """``side``: with the doubles of all ports; ``ports``: those in their place, with their services."""
        self._scheduler = scheduler
        self.weather = Weather(scheduler)
        self._steps = {activity.name: (activity, step) for activity, step in steps.items()}
        of_side = {field.name: (field.name, getattr(side, field.name)) for field in fields(side)}
        wrapped: dict[str, Any] = {
            name: port[1] and Service(*port, scheduler, self.weather, after if name == "blobs" else None)
            for name, port in {**of_side, **ports}.items()
            if name not in {"settings", "staged"}
        }
        self.side: Any = replace(side, **wrapped)
        self.durable = Durable(scheduler, flows_of(blueprints), self._run_activity)
        self.client = Client(scheduler, self.durable)

    def _run_activity(self, name: str, order: Any) -> Any:
        self._begin()
        activity, step = self._steps[name]
        return run_step(step, lambda: self.side, activity.order, order)

    def _begin(self) -> None:
        """The task at work is of this side: it dies with its host."""
        assert self._scheduler.current is not None
        self._scheduler.current.side = self

    def die(self) -> None:
        """All workers of this side end at once, and with them what orchestrators they had in memory."""
        self._scheduler.kill_all(self)
        self.durable.forget_workers()

    def call(self, name: str, function: Callable[[], Coroutine[Any, Any, Any]], tries: int = 1) -> None:
        """Run a function that is no activity, so often if it fails or its worker dies."""

        def again() -> None:
            if tries > 1:
                pause = self._scheduler.seconds(10, 600)
                self._scheduler.after(pause, "", lambda: self.call(name, function, tries - 1))

        def run() -> None:
            self._begin()
            try:
                self._scheduler.say(f"comes to {run_through(function())}")
            except Died:
                again()
                raise
            except Exception as error:
                if not is_expected(error):
                    raise Violation("a function ends as it says", repr(error)) from error
                self._scheduler.say(f"fails: {error}")
                if not isinstance(error, AirgapError) or error.code.is_retryable:
                    again()

        self._scheduler.spawn(name, run)


class Crossing:
    """One run of one seed over both ends."""

    def __init__(self, seed: int, tell: Callable[[str], None] | None = None) -> None:
        self.seed = seed
        self.chance = random.Random(seed)  # noqa: S311 - it must repeat itself
        drawn = Options.draw(self.chance)
        self.options = replace(drawn, order="any", releases=0, checks=0, is_staged=False)
        self.carriage = Carriage.draw(self.chance)
        self.trace = Trace(tell)
        self.scheduler = Scheduler(self.chance, START + HOUR, self.options.faults, self.trace)
        self.ends_at = self.scheduler.now + self.options.lasts
        self.source_registry, self.target_registry = MemoryRegistry(), Registry()
        self.source_blobs, self.target_blobs = Blobs(self.scheduler, 0), Blobs(self.scheduler, 0)
        self.watch = Watch(self.source_blobs, self.target_blobs, self.target_registry)
        self.watch.published = self._published
        self.watch.receipt_issued = self._receipt_issued
        self.incoming = Incoming(self.scheduler, self.target_blobs, self._bundle_arrived)
        self.policy = policy_of(self.options, (), 1, (*AUDIENCE, OTHER_REGISTRY))
        self.source, self.target = self._source(), self._target()
        self.scheduler.given_up = self._give_up
        self._orders = 0
        self._receipts = 0

    def run(self) -> Result:
        """Everything, to the end or to the first violation."""
        violation = None
        try:
            self._draw_events()
            self.scheduler.run_until(self.ends_at)
            self.scheduler.faults, self.carriage = CALM, Carriage(lost=0, twice=0, late=0, mixed=0, forged=0)
            self.source.weather.clear()
            self.target.weather.clear()
            self.scheduler.say("all faults stop")
            self._carry_until_delivered()
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
            decided=sum(journal.newest(State.SEALED) is not None for journal in journals),
            imported=sum(journal.newest(State.DELIVERED) is not None for journal in journals),
            late=0,
        )

    # --- the two sides ---

    def _source(self) -> World:
        side, _, _ = make_source()
        settings = SourceSettings.from_environment(_SETTINGS)
        settings = replace(settings, trust_policy=self.policy, ended_transfer_days=1)
        channels = CHANNELS[: self.options.channels]
        pipelines = ExportPipelines(self.scheduler, self.source_blobs, self.source_registry, self.watch)
        return World(
            self.scheduler,
            replace(side, settings=settings, projection=MemoryProjection()),
            {
                "blobs": ("storage", self.source_blobs),
                "registry": ("registry", self.source_registry),
                "pipelines": ("arm", pipelines),
                "signing": ("vault", LocalKeys([keys_of(channel)[0] for channel in channels])),
            },
            self.watch.after_source,
            blueprints=source_blueprints("poll"),
            steps=source_activities.STEPS,
        )

    def _target(self) -> World:
        side, _ = make_target(ENVIRONMENT["TRUST_POLICY"].encode(), key=RECEIPT_KEY)
        settings = replace(TargetSettings.from_environment(_SETTINGS), trust_policy=self.policy)
        pipelines = Pipelines(
            self.scheduler,
            self.target_blobs,
            self.target_registry,
            AUDIENCE[0],
            lambda *_: None,
            read=artifacts_of,
        )
        return World(
            self.scheduler,
            replace(side, settings=settings, projection=MemoryProjection()),
            {
                "blobs": ("storage", self.target_blobs),
                "registry": ("registry", self.target_registry),
                "pipelines": ("arm", pipelines),
            },
            self.watch.after_target,
            blueprints=target_blueprints("poll"),
            steps=target_activities.STEPS,
        )

    def _give_up(self, about: str) -> None:
        for world in (self.source, self.target):
            found = world.durable.instances.get(about)
            if found is not None and found.is_active and found.parent is None and not self._is_over():
                self.scheduler.say(f"somebody terminates {about}")
                world.durable.terminate(about)

    def _clock(self) -> datetime:
        return workers_clock(self.scheduler)

    def _is_over(self) -> bool:
        return self.scheduler.now >= self.ends_at

    # --- what happens ---

    def _draw_events(self) -> None:
        options, chance = self.options, self.chance
        for channel in CHANNELS[: options.channels]:
            for tag in range(_TAGS):
                self.source_registry.push_image(f"{channel}/app", f"v{tag}")
        for many, what in (
            (chance.randint(2, 6), self._order),
            (chance.randint(0, 8), self._move_tag),
            (chance.randint(0, 3), self._cancel),
            (chance.randint(0, 3), self._void),
            (chance.randint(0, 3), self._plant),
            (options.outages, self._outage),
            (options.jumps, self._jump),
            (options.deaths, lambda: self.chance.choice((self.source, self.target)).die()),
        ):
            for _ in range(many):
                self.scheduler.after(options.lasts * chance.random(), "", self._while_it_lasts(what))
        if chance.random() < 0.3:
            self._stand(CHANNELS[0])
        moment = self.scheduler.now
        while (moment := moment + self.scheduler.seconds(300, 1800)) < self.ends_at:
            self.scheduler.at(moment, "", self._tick)

    def _while_it_lasts(self, what: Callable[[], None]) -> Callable[[], None]:
        return lambda: None if self._is_over() else what()

    def _tick(self) -> None:
        """The timers of both sides."""
        source, target = self.source, self.target

        async def remove() -> None:
            remove_ended(source.side, now=self._clock())

        source.call(
            "reconciler of the source",
            lambda: SourceReconciler(source.side, source.client, self._clock()).run(),
        )
        target.call(
            "reconciler of the target",
            lambda: TargetReconciler(target.side, target.client, self._clock()).run(),
        )
        source.call("removal", remove)
        if not self._is_over():
            source.call(
                "standing orders",
                lambda: place_due_orders(source.side, source.client, now=self._clock()),
            )

    def _order(self) -> None:
        self._orders += 1
        transfer_id = hashlib.sha256(f"{self.seed} {self._orders}".encode()).hexdigest()[:32]
        channel = self.chance.choice(CHANNELS[: self.options.channels])
        tags = sorted(self.chance.sample(range(_TAGS), self.chance.randint(1, _TAGS)))
        request = self._request(channel, tags, only_missing=self.chance.random() < 0.5)
        side, client = self.source.side, self.source.client
        self.source.call(
            f"order of {transfer_id}",
            lambda: place_transfer(
                client, side, transfer_id, request, facts={}, by="orderer", at=self._clock()
            ),
            _TRIES,
        )

    def _request(self, channel: str, tags: list[int], *, only_missing: bool) -> TransferRequest:
        return TransferRequest(
            artifacts=tuple(f"{channel}/app:v{tag}" for tag in tags),
            channel=channel,
            audience=AUDIENCE,
            expires_in_s=_GOOD_FOR_S,
            only_missing=only_missing,
        )

    def _stand(self, channel: str) -> None:
        """Have a standing order that is due every hour, of what is missing then."""
        order = StandingOrder(
            request=self._request(channel, list(range(_TAGS)), only_missing=True),
            schedule=Schedule.parse("R/2026-11-23T09:30:00Z/PT1H"),
            labels={},
            is_paused=False,
        )

        async def stand() -> None:
            JournalStore(self.source.side.blobs, self.source.side.projection).record(
                Kind.ORDERS, "hourly", State.STANDING, order.to_facts(), by="orderer", at=START
            )

        self.source.call("standing order", stand, _TRIES)

    def _move_tag(self) -> None:
        channel = self.chance.choice(CHANNELS[: self.options.channels])
        tag = f"v{self.chance.randrange(_TAGS)}"
        self.scheduler.say(f"{channel}/app:{tag} is pushed anew")
        self.source_registry.push_image(f"{channel}/app", tag, size=self.chance.randint(1, 10**6))

    def _of_transfer(self, what: str, do: Callable[[Any], Coroutine[Any, Any, Any]]) -> None:
        if not self.watch.journals:
            return
        about = self.chance.choice(list(self.watch.journals))

        async def function() -> Any:
            side = self.source.side
            return await do(JournalStore(side.blobs, side.projection).read(Kind.TRANSFERS, about))

        self.source.call(f"{what} of {about}", function)

    def _cancel(self) -> None:
        source = self.source

        async def cancel(journal: Any) -> Any:
            now = self._clock()
            return (await cancel_transfer(source.client, source.side, journal, by="orderer", at=now)).state

        self._of_transfer("cancel", cancel)

    def _void(self) -> None:
        async def void(journal: Any) -> Any:
            now = self._clock()
            return void_transfer(self.source.side, journal, reason="lost", by="orderer", now=now).state

        self._of_transfer("void", void)

    def _plant(self) -> None:
        """Somebody writes into the source's ledger: a void of a number in use, or a receipt of nobody's."""
        number = self.chance.choice([*self.watch.source_numbers.items(), None])
        if number is not None and self.chance.random() < 0.5:
            (channel, sequence), _ = number
            void = Void(sequence=sequence, reason="planted", who="intruder")
            entry = VoidEntry(channel=channel, void=void, manifest_sha256="0" * 64)
            name, content = entry.name, entry.to_bytes()
        else:
            forged = self._invented_receipt()
            if forged is None:
                return
            receipt, content = forged
            sha256 = hashlib.sha256(receipt.to_bytes()).hexdigest()
            name = KeptReceipt(registry=AUDIENCE[0], channel=str(receipt.channel), sha256=sha256).name
        if name not in self.source_blobs.containers[LEDGER]:
            self.scheduler.say(f"somebody plants {name}")
            self.watch.planted.add(name)
            self.source_blobs.upload(LEDGER, name, content)

    def _invented_receipt(self) -> tuple[Receipt, bytes] | None:
        """A stranger's receipt which says that the registry holds all that the source has now."""
        genuine = [one for one in self.watch.issued.values() if one.is_imported]
        if not genuine:
            return None
        model = self.chance.choice(genuine)
        proofs = tuple(
            replace(proof, digest=digest, found=digest)
            for proof in model.artifacts
            for digest in [self.source_registry.tags[*proof.reference.split(":")]]  # type: ignore[index]
        )
        receipt = replace(model, artifacts=proofs, decided_at=self.scheduler.now.replace(microsecond=0))
        return receipt, Envelope.sign(receipt.to_bytes(), [STRANGER.signer]).to_bytes()

    def _outage(self) -> None:
        world, service = self.chance.choice((self.source, self.target)), self.chance.choice(SERVICES)
        lasts = lasts_of_outage(self.scheduler)
        self.scheduler.say(f"{service} is away for {lasts}")
        world.weather.take_away(service, lasts)

    def _jump(self) -> None:
        jump = self.chance.choice((HOUR, 24 * HOUR, 72 * HOUR))
        self.scheduler.say(f"the clock jumps by {jump}")
        self.scheduler.now += jump

    # --- the carrier ---

    def _happens(self, probability: float) -> bool:
        return self.chance.random() < probability

    def _on_the_way(self) -> timedelta:
        return self.scheduler.seconds(60, 4 * 3600 if self._happens(self.carriage.late) else 600)

    def _published(self, transfer_id: str) -> None:
        for _ in range(2 if self._happens(self.carriage.twice) else 1):
            if not self._happens(self.carriage.lost):
                self.scheduler.after(
                    self._on_the_way(), f"carries {transfer_id}", lambda: self._carry(transfer_id)
                )

        imported = [one for one in self.watch.issued.values() if one.is_imported]
        if imported and self._happens(self.carriage.forged):
            model = replace(self.chance.choice(imported), transfer_id=transfer_id)
            sha256 = self.watch.sha256_of[transfer_id]
            self._bring_receipt(transfer_id, self._forged(model, sha256), self._on_the_way())

    def _carry(self, transfer_id: str) -> None:
        """Take the bundle as it lies at the source, the manifest last, or what becomes of it on the way."""
        lies = self.source_blobs.containers[TRANSFER]
        names = [name for name in sorted(lies) if name.startswith(f"{transfer_id}/")]
        manifest = manifest_path(transfer_id)
        if manifest not in names:
            return
        carried = {name: lies[name].content for name in names if name != manifest}
        if carried and self._happens(self.carriage.mixed):
            others = [name for name in sorted(lies) if not name.endswith(ENVELOPE_NAME)]
            carried[self.chance.choice(list(carried))] = lies[self.chance.choice(others)].content
        envelope = lies[manifest].content
        if self._happens(self.carriage.forged):
            payload = Envelope.from_bytes(envelope).payload
            envelope = Envelope.sign(payload, [STRANGER.signer]).to_bytes()
        pause = timedelta()
        for name, content in (*carried.items(), (manifest, envelope)):
            pause += self.scheduler.seconds(1, 60)
            self.scheduler.after(pause, "", self._putting(name, content))

    def _putting(self, name: str, content: bytes) -> Callable[[], None]:
        def put() -> None:
            found = self.target_blobs.containers[INCOMING].get(name)
            if found is None or found.content != content or name.endswith(ENVELOPE_NAME):
                self.incoming.put(name, content)

        return put

    def _bundle_arrived(self, folder: str) -> None:
        target = self.target
        self.target.call(
            f"event for {folder}",
            lambda: start_import(target.client, target.side, folder=folder, now=self._clock()),
            _TRIES,
        )

    def _receipt_issued(self, receipt: Receipt, content: bytes) -> None:
        if receipt.transfer_id is None:
            return
        for _ in range(2 if self._happens(self.carriage.twice) else 1):
            if not self._happens(self.carriage.lost):
                self._bring_receipt(receipt.transfer_id, content, self._on_the_way())
        if self.watch.journals and self._happens(self.carriage.mixed):
            other = self.chance.choice(list(self.watch.journals))
            self._bring_receipt(other, content, self._on_the_way())

    def _forged(self, about: Receipt, manifest_sha256: str) -> bytes:
        """Another registry's answer by a key that counts, or an import that a stranger vouches for."""
        forged = replace(about, manifest_sha256=manifest_sha256)
        if self._happens(0.5):
            elsewhere = replace(forged, target=OTHER_REGISTRY)
            return Envelope.sign(elsewhere.to_bytes(), [RECEIPT_KEY.signer]).to_bytes()
        return Envelope.sign(forged.to_bytes(), [STRANGER.signer]).to_bytes()

    def _bring_receipt(self, transfer_id: str, content: bytes, pause: timedelta) -> None:
        self._receipts += 1
        name = f"{transfer_id}/{self._receipts:06d}.dsse.json"

        async def function() -> Any:
            return receive(self.source.side, name, now=self._clock())

        def put() -> None:
            self.source_blobs.upload(RECEIPTS, name, content)
            if not self._happens(self.scheduler.faults.event_lost):
                self.source.call(f"receipt {name}", function, _TRIES)

        self.scheduler.after(pause, f"brings receipt {name}", put)

    # --- the end ---

    def _carry_until_delivered(self) -> None:
        """As a carrier who finds no receipt: the same bundle, and every receipt of it, once more."""
        for _ in range(_CARRIED_AGAIN):
            self._settle()
            owed = [about for about in self.watch.journals if self._is_owed(about)]
            if not owed:
                return
            for about in owed:
                for content, receipt in self.watch.issued.items():
                    if receipt.transfer_id == about:
                        self._bring_receipt(about, content, SECOND)
                self._carry(about)
            self.scheduler.run_until(self.scheduler.now + 10 * MINUTE)
        require(False, CROSSED, ", ".join(owed))

    def _is_owed(self, about: str) -> bool:
        """Whether nothing has happened that would excuse a sealed transfer from being delivered."""
        journal = self.watch.journals[about]
        manifest = self.watch.manifests.get(about)
        if manifest is None or journal.newest(State.VOIDED) is not None or journal.state is State.DELIVERED:
            return False
        if manifest_path(about) not in self.source_blobs.containers[TRANSFER]:
            return False  # it was removed after its time
        is_taken = (manifest.channel, manifest.sequence) in self.watch.target_numbers
        is_imported = any(one.is_imported and one.transfer_id == about for one in self.watch.issued.values())
        return is_imported or not is_taken  # else a fault used its number up, and its receipt says so

    def _settle(self) -> None:
        """Let the timers come round until nothing has been going on for two rounds."""
        quiet, why = 0, ""
        for _ in range(_ROUNDS_TO_REST):
            self._tick()
            self.scheduler.run_until(self.scheduler.now + 11 * MINUTE)
            why = self._why_restless()
            quiet = 0 if why else quiet + 1
            if quiet == 2:
                self.watch.at_rest()
                return
        raise Violation(AT_REST, why)

    def _why_restless(self) -> str:
        for world in (self.source, self.target):
            for instance in world.durable.instances.values():
                if instance.is_active:
                    return f"{instance.id} runs"
        return next((f"{one.about} is {one.state}" for one in self.watch.at_work()), "")


def cross(seed: int, tell: Callable[[str], None] | None = None) -> Result:
    """Run a seed over both ends; ``tell`` is given every line of the trace."""
    with alone():
        return Crossing(seed, tell).run()
