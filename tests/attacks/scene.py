"""One attack on a target in memory, and what must hold whatever it was.

An attack acts on a :class:`Scene`: a target whose channel has an honest source. It ends in one of three ways:
refused before anything was decided for (`Refused`), refused after the number was taken (`Partial`), or it has
no effect, and the honest bundle is imported just as it was signed (`Harmless`). In each case the channel goes
on afterwards: the next honest bundle is imported.
"""

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any

from airgap.envelope import Envelope
from airgap.errors import Code
from airgap.ledger import LedgerEntry
from airgap.policy import TrustPolicy
from airgap.receipt import Receipt, ReceiptVerdict, verify_receipt
from airgap.states import FINAL, Kind, State
from airgap.strict_json import dump_canonical
from function_app.journal.store import JournalStore
from function_app.storage.policies import policy_in_force
from tests.bundles import CHANNEL, Bundle, SigningKey, default_key, make_bundle, make_policy, new_key
from tests.function_app.memory import START, MemoryBlobs, failed, succeeded
from tests.function_app.test_import import RECEIPT_KEY, Target

SMALL = (900, 300)
"""Sizes in bytes of the honest bundle's blobs."""

DEV_KEY = new_key()
"""Signs in another channel of the same target."""


def policy_document(**more: Any) -> dict[str, Any]:
    """The policy that the target pins: the honest source's channel, and ``dev`` with a key of its own."""
    prod = json.loads(make_policy([default_key()], receipt_keys=[RECEIPT_KEY], order="rising", **more))
    dev = json.loads(make_policy([DEV_KEY], channel="dev", order="rising"))
    prod["keys"] += [{**dev["keys"][0], "holder": "the team of dev"}]
    return {**prod, "channels": prod["channels"] | dev["channels"]}


HONEST_POLICY = json.dumps(policy_document()).encode()


@dataclass(frozen=True, kw_only=True)
class Refused:
    """Nothing was promoted or run, and no number taken unless it says so; one signed receipt says why."""

    code: Code
    takes_number: bool = False


@dataclass(frozen=True, kw_only=True)
class Partial:
    """It was found out after the number was taken: the receipt says so, and nothing importable is left."""

    code: Code


@dataclass(frozen=True, kw_only=True)
class Harmless:
    """The honest bundle was imported as it was signed."""


End = Refused | Partial | Harmless
Act = Callable[["Scene"], Mapping[str, Any]]
Change = Callable[[dict[str, Any]], object]
"""Makes something different in a document."""


@dataclass(frozen=True, kw_only=True)
class Attack:
    """What somebody does, and how it must end.

    Args:
        by: the adversary, as ``docs/threat-model.md`` calls the parts: A the carrier, B the holder of the
            upload SAS, B2 the holder of a ticket, C whoever writes the source's storage or pushes to its
            registry, D the holder of a key, E an identity in the target, F a caller, or who answers for a
            check, G a clock or a policy that is not what it should be.
        act: does it; returns the outcome of the orchestration that the attack is about.
    """

    by: str
    act: Act
    end: End


@dataclass(kw_only=True)
class Scene:
    """A target, and the honest bundle that is on its way."""

    target: Target = field(default_factory=lambda: Target(HONEST_POLICY))
    bundle: Bundle = field(
        default_factory=lambda: make_bundle(
            blob_sizes=SMALL, created_at=START, policy_json=HONEST_POLICY, transfer_id="honest0001"
        )
    )
    imported: dict[str, str] = field(default_factory=dict)
    """SHA-256 of what each run could read, by the blob's path; only since the attack began."""
    policies: int = 1
    """The newest version of the policy that the target has had."""
    rules: Change = lambda _: None
    """How its policy differs from the honest one."""
    attend: Callable[[Bundle, str], object] = lambda _bundle, _instance: None
    """What honest people at the target do so that the next bundle is imported, by this orchestration."""
    instance: str = ""
    """The orchestration that the attack is about."""
    numbers: list[str] = field(default_factory=list)
    """The ledger's numbers of the channel when the attack began."""

    def __post_init__(self) -> None:
        """Note what each run imports."""
        self.run_ends: Callable[[Mapping[str, Any]], dict[str, Any]] = lambda _: succeeded()

        def work(request: Mapping[str, Any]) -> dict[str, Any]:
            name = request["source"]["name"]
            content = self.target.blobs.containers["transfer"][name].content
            self.imported[name] = hashlib.sha256(content).hexdigest()
            return self.run_ends(request)

        self.target.pipelines.work = work

    def under(self, rules: Change) -> None:
        """Let the target have a policy of these rules, from now on and when the channel goes on."""
        self.rules = rules
        self.pin(lambda _: None)

    def pin(self, change: Change) -> None:
        """Let the target have another policy than the one of its rules."""
        self.policies += 1
        document = {**policy_document(), "version": self.policies}
        self.rules(document)
        change(document)
        self.follow(json.dumps(document).encode())

    def follow(self, policy: bytes) -> None:
        """Let the target's settings have this very policy."""
        settings = replace(self.target.side.settings, trust_policy=TrustPolicy.from_bytes(policy))
        self.target.side = replace(self.target.side, settings=settings)
        self.target.host.side = self.target.side

    def policy_version(self) -> int:
        """Which policy is in force, as each step asks it."""
        return policy_in_force(self.target.side).version

    def restart(self) -> None:
        """Another process: nothing is remembered but what the storage has."""
        blobs = MemoryBlobs()
        blobs.containers = self.target.blobs.containers
        self.target.blobs = blobs
        self.target.side = replace(self.target.side, blobs=blobs)
        self.target.host.side = self.target.side

    def push(
        self, bundle: Bundle | None = None, envelope: bytes | None = None, **more: Any
    ) -> dict[str, Any]:
        """Upload, and run the import to its end."""
        raw = self.target.upload(bundle or self.bundle, envelope=envelope, **more)
        return self.run(raw, folder=more.get("folder") or (bundle or self.bundle).transfer_id)

    def run(self, raw: bytes, *, folder: str | None = None, again: int = 0) -> dict[str, Any]:
        """The import that the event of an upload would start; the next one of the same bytes is another."""
        self.instance = f"{instance_of(raw)}{again:08d}"
        return self.target.run(raw, folder=folder or self.bundle.transfer_id, instance=self.instance)

    def signed(self, change: Change, *keys: SigningKey) -> bytes:
        """The honest statement, changed, and signed by the source's key unless others are named."""
        statement = json.loads(self.bundle.payload)
        change(statement)
        return seal(dump_canonical(statement), *keys)

    def before(self, activity: str, act: Callable[[], object]) -> None:
        """Do something just before an activity runs for the first time."""
        self.target.host.before[activity] = act

    def next_bundle(self) -> Bundle:
        """What the honest source sends after this: the next number, or the first where none was taken."""
        taken = self.target.numbers()
        ledger = self.target.blobs.containers["ledger"]
        last = LedgerEntry.from_bytes(ledger[taken[-1]].content) if taken else None
        return make_bundle(
            blob_sizes=(400,),
            created_at=START,
            policy_json=HONEST_POLICY,
            transfer_id="honest0002",
            sequence=last.sequence + 1 if last else 1,
            previous_sha256=last.manifest_sha256 if last else None,
            seed=77,
        )

    def import_honestly(self) -> None:
        """Before the attack: the honest bundle is imported, and its upload is gone."""
        raw = self.target.upload(self.bundle)
        outcome = self.target.run(raw, folder=self.bundle.transfer_id, instance=instance_of(raw))
        assert outcome["outcome"] == "imported", outcome
        self.imported.clear()
        self.numbers = self.target.numbers()

    # what must hold

    def assert_held(self, attack: Attack, outcome: Mapping[str, Any]) -> None:
        """The end that the attack must have, and then the channel goes on."""
        match attack.end:
            case Refused(code=code, takes_number=takes_number):
                receipt = self._assert_refused(outcome, code)
                assert receipt.verdict is not ReceiptVerdict.PARTIAL
                assert self.imported == {}
                assert len(self.target.numbers()) == len(self.numbers) + takes_number
            case Partial(code=code):
                receipt = self._assert_refused(outcome, code)
                assert receipt.verdict is ReceiptVerdict.PARTIAL
                assert receipt.ledger is not None
            case Harmless():
                assert outcome["outcome"] == "imported", outcome
                assert self._receipt(outcome).is_imported
                self._assert_imported(self.bundle)
        assert self.target.blobs.names("transfer") == []
        self._assert_closed(self.instance)
        self._assert_channel_goes_on()

    def _assert_refused(self, outcome: Mapping[str, Any], code: Code) -> Receipt:
        assert outcome.get("code") == code.name, outcome
        receipt = self._receipt(outcome)
        assert receipt.code is code
        return receipt

    def _receipt(self, outcome: Mapping[str, Any]) -> Receipt:
        name = outcome["receipt"].removeprefix("receipts/")
        receipt = verify_receipt(
            self.target.blobs.containers["receipts"][name].content,
            policy=TrustPolicy.from_bytes(HONEST_POLICY),
            channel=CHANNEL,
            now=datetime.now(UTC),
        )
        names = self.target.blobs.names("receipts")
        assert [one for one in names if self.instance in one or one == name] == [name]  # exactly one
        return receipt

    def _assert_imported(self, bundle: Bundle) -> None:
        folder = f"{CHANNEL}/{bundle.manifest_sha256}"
        assert {name: sha256 for name, sha256 in self.imported.items() if name.startswith(folder)} == {
            f"{folder}/{name}": hashlib.sha256(content).hexdigest() for name, content in bundle.blobs.items()
        }

    def _assert_closed(self, instance: str) -> None:
        journal = JournalStore(self.target.side.blobs, self.target.side.projection).read(
            Kind.IMPORTS, instance
        )
        assert journal.state in FINAL[Kind.IMPORTS] | {State.HELD}

    def _assert_channel_goes_on(self) -> None:
        self.pin(lambda _: None)
        self.run_ends = lambda _: succeeded()
        following = self.next_bundle()
        raw = self.target.upload(following)
        self.attend(following, instance_of(raw))
        outcome = self.target.run(raw, folder=following.transfer_id, instance=instance_of(raw))
        assert outcome["outcome"] == "imported", outcome
        self._assert_imported(following)


def instance_of(raw: bytes) -> str:
    """The orchestration that the first event of an envelope starts."""
    return f"import{hashlib.sha256(raw).hexdigest()[:32]}"


def seal(payload: bytes, *keys: SigningKey) -> bytes:
    """A payload in an envelope, signed by the source's key unless others are named."""
    return Envelope.sign(payload, [key.signer for key in keys or (default_key(),)]).to_bytes()


def run_fails(message: str) -> Callable[[Mapping[str, Any]], dict[str, Any]]:
    """How a run ends that fails."""
    return lambda _: failed(message)
