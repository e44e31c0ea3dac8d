"""Who puts what into ``incoming``: honest carriers of several channels, and whoever got hold of their SAS."""

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from functools import lru_cache
from typing import Any

from airgap.envelope import Envelope
from airgap.manifest import ENVELOPE_NAME
from airgap.policy import TrustPolicy
from function_app.storage.paths import INCOMING, STAGING
from tests.bundles import AUDIENCE, Bundle, SigningKey, fixed_key, make_bundle, make_policy
from tests.function_app.memory import START
from tests.simulation.options import Options
from tests.simulation.scheduler import Scheduler
from tests.simulation.services import Blobs, blob_of

RECEIPT_KEY, STRANGER = fixed_key(100), fixed_key(101)
POLICY_OFFICER, OVERRIDER = fixed_key(102), fixed_key(103)
RELEASERS = (fixed_key(104), fixed_key(105))
LIFETIME = timedelta(days=30)
_PUSHES_AGAIN = 4
CHANNELS = ("alpha", "beta", "gamma", "delta", "epsilon")


@lru_cache(maxsize=1000)
def policy_of(
    options: Options, revoked: tuple[str, ...], version: int, audience: tuple[str, ...] = AUDIENCE
) -> TrustPolicy:
    """The policy of the channels; each has two keys of its own, of which one is enough."""
    documents = [
        json.loads(
            make_policy(
                keys_of(channel),
                channel=channel,
                audience=audience,
                threshold=1,
                order=options.order,
                receipt_keys=[RECEIPT_KEY],
                release_keys=RELEASERS if options.releases else (),
            )
        )
        for channel in CHANNELS[: options.channels]
    ]
    keys = {held["publicKey"]: held for document in documents for held in document["keys"]}
    keys |= {key.public_pem: {"publicKey": key.public_pem} for key in (POLICY_OFFICER, OVERRIDER)}
    rules = {name: rules for document in documents for name, rules in document["channels"].items()}
    for channel in rules.values():
        channel["overrideRoles"] = _role(OVERRIDER)
        channel["onGap"] = options.on_gap
        for role in channel.get("releaseRoles", {}).values():
            role["threshold"] = options.releases
    merged = {
        **documents[0],
        "version": version,
        "keys": [{**held, "holder": f"holder {number}"} for number, held in enumerate(keys.values())],
        "policyRoles": _role(POLICY_OFFICER),
        "channels": rules,
        "revoked": [{"keyid": keyid, "from": "2026-01-01T00:00:00Z"} for keyid in revoked],
    }
    return TrustPolicy.from_bytes(json.dumps(merged).encode())


def _role(key: SigningKey) -> dict[str, Any]:
    return {"one": {"threshold": 1, "keyids": [key.keyid]}}


@lru_cache
def keys_of(channel: str) -> tuple[Any, Any]:
    """The two keys of a channel's source."""
    number = 1 + 2 * CHANNELS.index(channel)
    return fixed_key(number), fixed_key(number + 1)


@lru_cache
def keyid_of(channel: str, key: int) -> str:
    """The id of a channel's first or second key."""
    return str(keys_of(channel)[key].keyid)


@dataclass(frozen=True, slots=True, kw_only=True)
class Sealed:
    """A bundle that somebody sealed.

    Args:
        bundle: with all its bytes.
        variant: what is the matter with it; ``honest`` if nothing.
        keyid: whose signature it has.
        is_signed: whether that is a key of its channel.
    """

    bundle: Bundle
    variant: str
    keyid: str
    is_signed: bool

    @property
    def channel(self) -> str:
        return self.bundle.manifest.channel

    @property
    def sequence(self) -> int:
        return self.bundle.manifest.sequence

    @property
    def folder(self) -> str:
        """Where it is pushed to."""
        return self.bundle.transfer_id

    @property
    def sha256(self) -> str:
        """Digest of its bundle manifest."""
        return self.bundle.manifest_sha256

    def files(self) -> Iterator[tuple[str, bytes]]:
        """What a push puts into ``incoming``, the bundle manifest last."""
        for name, content in self.bundle.blobs.items():
            yield f"{self.folder}/{name}", content
        yield f"{self.folder}/{ENVELOPE_NAME}", self.bundle.envelope


@lru_cache(maxsize=2000)
def seal(
    channel: str, sequence: int, variant: str, *, key: int, created_at: datetime, previous: str | None
) -> Sealed:
    """The bundle of a channel and number, the same for the same arguments; one or two blobs of some bytes."""
    signing = {"stranger": STRANGER, "neighbour": keys_of(CHANNELS[CHANNELS.index(channel) - 1])[0]}
    used = signing.get(variant, keys_of(channel)[key])
    folder = f"{channel}{sequence:04d}{variant}"
    repository = f"{channel}/{sequence:04d}{variant}"
    contents = [
        blob_of(
            [f"{repository}{number:03d}:v1"]
            + (["stowaway/thing:v1"] if variant == "undeclared" and number == 1 else []),
            folder,
        )
        for number in range(1, 2 + sequence % 2)
    ]
    age = LIFETIME * 2 if variant == "expired" else timedelta()
    bundle = make_bundle(
        transfer_id=folder,
        channel=channel,
        sequence=sequence,
        previous_sha256=previous,
        contents=contents,
        created_at=created_at - age,
        lifetime=LIFETIME,
        keys=[used],
        policy_json=b"-",
        repository=repository,
    )
    return Sealed(
        bundle=bundle,
        variant=variant,
        keyid=str(used.keyid),
        is_signed=variant not in {"stranger", "neighbour"},
    )


@dataclass(slots=True)
class Incoming:
    """The container that carriers and attackers write to, each write followed by an event or not."""

    scheduler: Scheduler
    blobs: Blobs
    arrived: Callable[[str], None]
    """Is told of each bundle manifest's name, once for each event that comes."""

    def put(self, name: str, content: bytes) -> None:
        """Write a blob, with all that follows from it."""
        self.scheduler.say(f"puts {name[:80]!r}")
        self.blobs.upload(INCOMING, name, content)
        if not name.endswith(f"/{ENVELOPE_NAME}"):
            return
        chance, faults = self.scheduler.chance, self.scheduler.faults
        folder = name.removesuffix(f"/{ENVELOPE_NAME}")
        for _ in range(2 if chance.random() < faults.event_twice else 1):
            if chance.random() >= faults.event_lost:
                is_late = chance.random() < faults.event_late
                pause = self.scheduler.seconds(0, 7200 if is_late else 5)
                self.scheduler.after(pause, "", lambda: self.arrived(folder))

    def push(self, sealed: Sealed) -> None:
        """Upload a bundle as the mover does: what is there already stays, the bundle manifest comes last."""
        pause = timedelta()
        for name, content in sealed.files():
            pause += self.scheduler.seconds(0, 60)
            self.scheduler.after(pause, "", self._putting(name, content))

    def _putting(self, name: str, content: bytes) -> Callable[[], None]:
        def put_missing() -> None:
            found = self.blobs.containers[INCOMING].get(name)
            if found is None or found.content != content or name.endswith(ENVELOPE_NAME):
                self.put(name, content)

        return put_missing


class Carriers:
    """The honest ones: each channel's bundles, in their order."""

    def __init__(self, scheduler: Scheduler, incoming: Incoming, options: Options) -> None:
        self.bundles: list[Sealed] = []
        self.by_sha256: dict[str, Sealed] = {}
        self.revoked: list[str] = []
        self.again = 0
        self._scheduler = scheduler
        self._incoming = incoming
        for channel in CHANNELS[: options.channels]:
            previous = None
            for sequence in range(1, options.bundles + 1):
                sealed = self.add(
                    seal(channel, sequence, "honest", key=0, created_at=START, previous=previous)
                )
                previous = sealed.sha256
                self.bundles.append(sealed)
                pause = options.lasts * scheduler.chance.uniform(0, 0.5)
                scheduler.after(pause, f"pushes {sealed.folder}", self._pushing(sealed))

    def add(self, sealed: Sealed) -> Sealed:
        """Know a bundle by its digest."""
        self.by_sha256[sealed.sha256] = sealed
        return sealed

    def refused(self, sha256: str | None) -> None:
        """A receipt says that a bundle is not imported: it is pushed again, a few times."""
        sealed = next((one for one in self.bundles if one.sha256 == sha256), None)
        if sealed is not None and self.again < _PUSHES_AGAIN:
            self.again += 1
            pause = self._scheduler.seconds(60, 1800)
            self._scheduler.after(pause, f"pushes {sealed.folder} again", self._pushing(sealed))

    def _pushing(self, sealed: Sealed) -> Callable[[], None]:
        return lambda: self._incoming.push(sealed)


class Attackers:
    """Whoever has the upload SAS, and once in a while whoever has more than that."""

    def __init__(
        self, scheduler: Scheduler, incoming: Incoming, carriers: Carriers, is_over: Callable[[], bool]
    ) -> None:
        self._scheduler = scheduler
        self._incoming = incoming
        self._carriers = carriers
        self._is_over = is_over

    def attack(self) -> None:
        """Do one of many things to one of the honest uploads, or beside it."""
        if self._is_over():
            return
        chance = self._scheduler.chance
        victim = chance.choice(self._carriers.bundles)
        what = chance.choice(
            (
                self._put_garbage,
                self._put_odd_name,
                self._push_variant,
                self._push_variant,
                self._push_variant,
                self._push_again,
                self._push_elsewhere,
                self._overwrite_blob,
                self._overwrite_blob,
                self._overwrite_manifest,
                self._delete,
                self._litter,
            )
        )
        self._scheduler.say(f"attack on {victim.folder}: {what.__name__}")
        what(victim)

    def fork(self) -> None:
        """Have the source itself sign another bundle with a number of its own."""
        victim = self._scheduler.chance.choice(self._carriers.bundles)
        self._scheduler.say(f"a fork of {victim.folder}")
        self._push(victim, "fork", START)

    def belated(self) -> Sealed:
        """Have a carrier come with a bundle that is past its time, far ahead in its channel."""
        chance = self._scheduler.chance
        channel = chance.choice(self._carriers.bundles).channel
        late = seal(channel, chance.randint(50, 90), "expired", key=0, created_at=START, previous=None)
        self._incoming.push(self._carriers.add(late))
        return late

    def intrude(self) -> None:
        """Write into ``staging``, where nobody but the app can write: what if somebody could?"""
        if self._is_over():
            return
        staged = self._incoming.blobs.names(STAGING)
        if not staged:  # it lies in wait
            self._scheduler.after(self._scheduler.seconds(1, 30), "", self.intrude)
            return
        name = self._scheduler.chance.choice(staged)
        self._scheduler.say(f"intrusion into {STAGING}/{name}")
        self._incoming.blobs.upload(STAGING, name, blob_of(["stowaway/evil:v1"], "intruder"))

    def _put_garbage(self, victim: Sealed) -> None:
        self._incoming.put(f"{victim.folder}x/{ENVELOPE_NAME}", b'{"payloadType": "application/vnd')

    def _put_odd_name(self, victim: Sealed) -> None:
        folder = self._scheduler.chance.choice(
            ("..", "a/../b", "custody", "custody/alpha", "x" * 300, "\u202eevil", f"{victim.folder}//x")
        )
        self._incoming.put(f"{folder}/{ENVELOPE_NAME}", victim.bundle.envelope)

    def _push_variant(self, victim: Sealed) -> None:
        """A number of the channel, in another bundle: a stranger's, a neighbour's, or the source's own."""
        variant = self._scheduler.chance.choice(
            ("stranger", "neighbour", "fork", "fork", "expired", "undeclared", "future")
        )
        self._push(victim, variant, START + timedelta(days=20) if variant == "future" else START)

    def _push(self, victim: Sealed, variant: str, created_at: datetime) -> None:
        previous = victim.bundle.manifest.previous_sha256
        sealed = seal(
            victim.channel, victim.sequence, variant, key=0, created_at=created_at, previous=previous
        )
        self._incoming.push(self._carriers.add(sealed))

    def _push_again(self, victim: Sealed) -> None:
        self._incoming.push(victim)

    def _push_elsewhere(self, victim: Sealed) -> None:
        bundle = victim.bundle
        moved = replace(
            victim, bundle=replace(bundle, manifest=replace(bundle.manifest, transfer_id="elsewhere"))
        )
        self._incoming.push(moved)

    def _overwrite_blob(self, victim: Sealed) -> None:
        name, content = next(victim.files())
        chance = self._scheduler.chance
        other = chance.choice(
            (
                b"",
                content[:-1],
                content + b"!",
                bytes([content[0] ^ 1]) + content[1:],
                blob_of(["stowaway/evil:v1"], "attacker").ljust(len(content))[: len(content)],
                content,
            )
        )
        self._incoming.put(name, other)

    def _overwrite_manifest(self, victim: Sealed) -> None:
        envelope = victim.bundle.envelope
        padded = Envelope.from_bytes(envelope).to_bytes() + b" "  # other bytes, and as well signed
        other = self._scheduler.chance.choice((b"{}", padded, envelope))
        self._incoming.put(f"{victim.folder}/{ENVELOPE_NAME}", other)

    def _delete(self, victim: Sealed) -> None:
        name = self._scheduler.chance.choice([name for name, _ in victim.files()])
        self._incoming.blobs.delete(INCOMING, name)

    def _litter(self, victim: Sealed) -> None:
        number = self._scheduler.chance.randrange(1000)
        self._incoming.put(f"{victim.folder}/litter/{number}", b"litter")
        self._incoming.put(f"custody/{victim.folder}/{number}.jsonl", b"litter")
