"""What must hold after every step, and what must hold once all has come to rest.

Judged by what lies in storage and registry, and by what the simulation itself knows of the bundles that it
sealed; never by what a step says of itself. So a step more, or another order of steps, needs no change here.
"""

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from airgap.carried_receipt import decision_name
from airgap.envelope import Envelope
from airgap.errors import AirgapError
from airgap.journal import Journal, JournalEntry, parse_entry_name
from airgap.ledger import LedgerEntry, sequence_of
from airgap.manifest import ENVELOPE_NAME
from airgap.policy import TrustPolicy
from airgap.policy_chain import UsedPolicy
from airgap.receipt import Receipt, verify_receipt
from airgap.states import DECIDED, Kind, State
from function_app.storage.paths import INCOMING, JOURNAL, LEDGER, RECEIPTS, STAGING, TRANSFER, WORK
from function_app.target.intake import may_be_bundle
from tests.simulation.scheduler import Scheduler, Violation
from tests.simulation.services import Blobs, Registry
from tests.simulation.workload import Sealed

_ON_RECORD = frozenset({LEDGER, JOURNAL, RECEIPTS})
_DECISIONS = frozenset({State.PROVEN, State.REFUSED, State.FAILED})
"""Of a journal at most one; a damaged bundle may be mended, and is decided then."""

_JUDGED_NEXT = frozenset({State.WAITING, State.CHECKING, State.AWAITING_RELEASE})
"""After these comes a judgement, by the policy in force then, and the receipt tells of which version."""

_POLICIES = "policies/"
_SKEW = timedelta(seconds=300)

RECORD_KEPT = "nothing on record changes"
ONE_NUMBER = "one number, one import"
PROVEN = "imported means proven, and declared"
HASHED = "nothing lies in transfer that was not hashed in staging"
TRUSTED = "a number is taken only by what the policy accepts at that time"
CLEARED = "nothing is promoted before every check has passed it and enough people have released it"
SIGNED = "nothing comes from the staging registry into the real one but what is signed and has its number"
NEWEST = "nothing is imported by an older policy than was in force when it was judged"
CHAIN = "every journal is whole and legal"
ONE_DECISION = "every upload that is dealt with ends in one decision"
ONE_RECEIPT = "every decision has one receipt"
TURN_LEFT = "nobody who has ended keeps a turn"
DOOR_LEFT = "nobody who has ended keeps a place at the door"
DECIDED_UPON = "no upload lies there that nobody decides upon"
AT_REST = "all comes to rest"
LIVENESS = "an honest bundle is imported in the end"


def require(holds: object, invariant: str, detail: object) -> None:
    """Nothing, if it holds.

    Raises:
        Violation: it does not.
    """
    if not holds:
        raise Violation(invariant, str(detail))


@dataclass(frozen=True, slots=True, kw_only=True)
class Said:
    """What others have really said, whatever the app made of it.

    Args:
        checks: names of those that are asked.
        passed: check and manifest digest of what was said to be good.
        releases: so many must have released a bundle.
        released: by manifest digest, the keys of those who have.
        permitted: by manifest digest, until when it may be past its time.
    """

    checks: tuple[str, ...]
    passed: AbstractSet[tuple[str, str]]
    releases: int
    released: Mapping[str, AbstractSet[str]]
    permitted: Mapping[str, datetime]


class Watch:
    """Looks at everything that is written, and remembers."""

    def __init__(
        self,
        scheduler: Scheduler,
        blobs: Blobs,
        registry: Registry,
        *,
        bundles: Mapping[str, Sealed],
        policy: Callable[[], TrustPolicy],
        policy_of: Callable[[int], TrustPolicy],
        said: Said,
    ) -> None:
        """``bundles``: by manifest digest; ``policy``: by which whoever is at work now judges.

        ``policy_of``: that of a version.
        """
        self._blobs = blobs
        self._registry = registry
        self._bundles = bundles
        self._policy = policy
        self._policy_of = policy_of
        self._said = said
        self._scheduler = scheduler
        self.late: set[str] = set()
        """The imports that took a number after they were decided upon; see :meth:`_require_undecided`."""
        self._in_vain: set[str] = set()
        """The imports that took a number when a policy was in force that revokes their key."""
        self._kept: dict[tuple[str, str], bytes] = {}
        self._read: dict[tuple[str, str], dict[int, bytes]] = defaultdict(dict)
        self._imports: dict[tuple[str, int], set[str]] = defaultdict(set)
        self._runs: dict[str, int] = defaultdict(int)
        self._stowaways: dict[str, list[str]] = defaultdict(list)
        self.refused: Callable[[str | None], None] = lambda _: None
        """Is told of each receipt of no import, by the digest of its bundle manifest."""
        self.asked: Callable[[Journal], None] = lambda _: None
        """Is told of each import that waits for people."""
        self.newest_policy = 1
        """The highest version that was ever in force."""
        self._judged_since: dict[str, int] = {}
        """The same, of the time before an import was judged last."""
        self.journals: dict[str, Journal] = {}
        self.entries: dict[tuple[str, int], LedgerEntry] = {}
        self._receipts: dict[str, list[Receipt]] = defaultdict(list)

    # --- after every step ---

    def after_storage(self, method: str, args: tuple[Any, ...], kwargs: dict[str, Any], result: Any) -> None:
        """A call of the blob port had its effect."""
        if method == "read_range" and args[0] == STAGING:
            self._read[args[1], kwargs["etag"]][kwargs["offset_bytes"]] = b"".join(result)
        elif method == "list_names" and args == (LEDGER, _POLICIES) and self._scheduler.current is not None:
            self._scheduler.current.policy_version = self.newest_policy
        elif method == "copy" and args[1][0] == TRANSFER:
            self._promoted(args[0], args[1][1], kwargs["etag"])
        elif method in {"create", "put"} and args[0] == TRANSFER:
            raise Violation(HASHED, f"{method} {args[1]}")
        elif method in {"create", "put", "delete", "copy"}:
            container, name = args[1] if method == "copy" else args[:2]
            if container in _ON_RECORD:
                self._recorded(container, name)

    def _promoted(self, source: tuple[str, str], path: str, etag: str) -> None:
        chunks = self._read[source[1], etag]
        read = b"".join(chunks[offset] for offset in sorted(chunks))
        lies = self._blobs.containers[TRANSFER].get(path)
        is_hashed = source[0] == STAGING and lies is not None and lies.content == read
        require(is_hashed, HASHED, f"{path} from {source} in the state {etag}")
        sealed = self._require_number(path)
        owner = self.entries[sealed.channel, sealed.sequence].owner
        require(owner not in self._in_vain, TRUSTED, f"{path}: its key was revoked when it took its number")
        self._require_cleared(sealed)

    def _require_cleared(self, sealed: Sealed) -> None:
        said, about = self._said, sealed.sha256
        unheard = [check for check in said.checks if (check, about) not in said.passed]
        require(not unheard, CLEARED, f"{sealed.folder}: {unheard}")
        released = len(said.released.get(about, ()))
        require(released >= said.releases, CLEARED, f"{sealed.folder}: {released} of {said.releases}")

    def entered(self, repository: str, digest: str) -> None:
        """An artifact comes from the staging registry into the real one."""
        taken = (self._bundles.get(entry.manifest_sha256) for entry in self.entries.values())
        is_signed = any(
            (repository, digest) in {(one.repository, one.digest) for one in sealed.bundle.manifest.artifacts}
            for sealed in taken
            if sealed is not None
        )
        require(is_signed, SIGNED, f"{repository}@{digest}")

    def _require_number(self, path: str) -> Sealed:
        """The bundle that a promoted blob belongs to; it must have its number by now."""
        channel, sha256, _ = path.split("/")
        sealed = self._bundles.get(sha256)
        require(sealed is not None and sealed.channel == channel, TRUSTED, path)
        assert sealed is not None
        entry = self.entries.get((channel, sealed.sequence))
        require(entry is not None and entry.manifest_sha256 == sha256, ONE_NUMBER, f"{path}: {entry}")
        return sealed

    def _recorded(self, container: str, name: str) -> None:
        before = self._kept.get((container, name))
        found = self._blobs.containers[container].get(name)
        now = None if found is None else found.content
        if now == before:
            return
        require(before is None, RECORD_KEPT, f"{container}/{name}")
        assert now is not None
        self._kept[container, name] = now
        new = {LEDGER: self._number_taken, JOURNAL: self._journal_grown, RECEIPTS: self._receipt_issued}
        try:
            new[container](name, now)
        except AirgapError as error:
            raise Violation(CHAIN if container == JOURNAL else RECORD_KEPT, f"{name}: {error}") from error

    def _number_taken(self, name: str, content: bytes) -> None:
        if name.startswith(_POLICIES):
            self.newest_policy = max(self.newest_policy, UsedPolicy.from_bytes(content).version)
        if sequence_of(name) is None:  # an envelope, a release, a permission
            return
        entry = LedgerEntry.from_bytes(content)
        sealed = self._bundles.get(entry.manifest_sha256)
        require(sealed is not None, TRUSTED, f"{name}: nobody sealed {entry.manifest_sha256}")
        assert sealed is not None
        policy = self._policy()
        is_stated = (sealed.channel, sealed.sequence) == (entry.channel, entry.sequence)
        require(sealed.is_signed and is_stated, TRUSTED, f"{name}: {sealed.folder}")
        newest = self._policy_of(self.newest_policy)
        if newest.version == self.newest_policy and sealed.keyid in newest.revoked:
            self._in_vain.add(entry.owner)
        # It is judged once more afterwards: whoever leaps like that takes a number for nothing.
        is_good = sealed.keyid not in policy.revoked or self._is_leap()
        require(is_good, TRUSTED, f"{name}: the key of {sealed.folder} is revoked")
        is_permitted = entry.taken_at <= self._permitted_until(entry.manifest_sha256)
        is_in_time = _is_in_time(sealed, entry)
        require(
            is_in_time or is_permitted,
            TRUSTED,
            f"{name}: {sealed.folder} is not in force at {entry.taken_at}",
        )
        self.entries[entry.channel, entry.sequence] = entry
        self._require_undecided(entry)

    def _permitted_until(self, sha256: str) -> datetime:
        until = self._said.permitted.get(sha256)
        return datetime.min.replace(tzinfo=UTC) if until is None else until + _SKEW

    def _require_undecided(self, entry: LedgerEntry) -> None:
        """Whoever is decided upon takes no number, unless he was held up between the last look and the leap.

        That is known and left: no storage writes to the ledger on condition of a blob elsewhere.
        """
        journal = self.journals.get(entry.owner)
        if journal is not None and journal.state in DECIDED | {State.CLOSED, State.QUARANTINED}:
            told = f"{entry.owner} takes {entry.name}, and is {journal.state}"
            require(self._is_leap(), ONE_DECISION, told)
            self.late.add(entry.owner)

    def _is_leap(self) -> bool:
        """Whether the task at work was held up between its last looks and the ledger."""
        last = (f"create {LEDGER} ", f"put {LEDGER} ", f"read {JOURNAL} ", f"list_names {JOURNAL} ")
        return self._scheduler.held_at.startswith(last)

    def _journal_grown(self, name: str, content: bytes) -> None:
        parsed = parse_entry_name(name)
        require(parsed is not None and parsed[0] is Kind.IMPORTS, CHAIN, name)
        assert parsed is not None
        about = parsed[1]
        journal = self.journals.get(about) or Journal(kind=Kind.IMPORTS, about=about)
        self.journals[about] = journal = journal.extended(JournalEntry.from_bytes(content))
        decisions = [entry.state for entry in journal.entries if entry.state in _DECISIONS]
        require(len(decisions) <= 1, ONE_DECISION, f"{about}: {decisions}")
        if journal.state in _JUDGED_NEXT:
            self._judged_since[about] = self.newest_policy
        if journal.state is State.AWAITING_RELEASE:
            self.asked(journal)
        if journal.state is State.PROVEN:
            self._require_proven(about)

    def _require_proven(self, about: str) -> None:
        entry = self.entry_of(about)
        require(entry is not None, PROVEN, f"{about} has no number")
        assert entry is not None
        manifest = self._bundles[entry.manifest_sha256].bundle.manifest
        for artifact in manifest.artifacts:
            is_there = (artifact.repository, artifact.digest) in self._registry.manifests
            require(is_there, PROVEN, f"{about}: {artifact.reference} is not in the registry")
        stowaways = self._stowaways[entry.manifest_sha256]
        require(not stowaways, PROVEN, f"{about} brought {stowaways}")

    def brought(self, path: str, content: bytes, artifacts: list[tuple[str, str]], is_ok: bool) -> None:
        """A run brought what a blob holds."""
        sealed = self._require_number(path)
        require(
            sealed.bundle.blobs[path.rpartition("/")[2]] == content, HASHED, f"{path} is not what was signed"
        )
        self._imports[sealed.channel, sealed.sequence].add(sealed.sha256)
        require(len(self._imports[sealed.channel, sealed.sequence]) == 1, ONE_NUMBER, path)
        self._runs[path] += is_ok
        require(self._runs[path] <= 1, ONE_NUMBER, f"{path} is imported twice")
        declared = {(one.reference, one.digest) for one in sealed.bundle.manifest.artifacts}
        self._stowaways[sealed.sha256] += [one[0] for one in artifacts if one not in declared]

    def _receipt_issued(self, name: str, content: bytes) -> None:
        receipt = self._read_receipt(content)
        owner = name.rpartition("/")[2].removesuffix(".dsse.json")
        if owner not in self.journals:
            owner = next(
                (
                    entry.owner
                    for entry in self.entries.values()
                    if name == decision_name(entry.transfer_id, entry.manifest_sha256)
                ),
                owner,
            )
        require(owner in self.journals, ONE_RECEIPT, f"{name} is nobody's")
        told = next(entry.facts for entry in self.journals[owner].entries if entry.state in DECIDED)
        require(receipt.policy_version == told.get("policyVersion"), ONE_DECISION, f"{name}: {told}")
        self._receipts[owner].append(receipt)
        require(len(self._receipts[owner]) == 1, ONE_RECEIPT, f"{owner} has another one: {name}")
        is_proven = self.journals[owner].newest(State.PROVEN) is not None
        require(receipt.is_imported == is_proven, PROVEN, f"{name}: {receipt.verdict}")
        if receipt.is_imported:
            self._require_judged(owner, receipt)
        else:
            self.refused(receipt.manifest_sha256)

    def _require_judged(self, owner: str, receipt: Receipt) -> None:
        """An import was judged by the newest policy of that time, and what was passed over is told."""
        version, since = receipt.policy_version or 0, self._judged_since[owner]
        require(version >= since, NEWEST, f"{owner}: by version {version}, and {since} was in force")
        entry = self.entry_of(owner)
        assert entry is not None
        is_told = _is_in_time(self._bundles[entry.manifest_sha256], entry) or receipt.override is not None
        require(is_told, TRUSTED, f"{owner}: nothing is told of the permission")

    def _read_receipt(self, content: bytes) -> Receipt:
        policy = self._policy()
        return verify_receipt(
            content,
            policy=policy,
            channel=receipt_channel(content) or next(iter(policy.channels)),
            now=self._blobs.now,
        )

    # --- what is asked of it ---

    def entry_of(self, about: str) -> LedgerEntry | None:
        """The ledger entry that an import has taken."""
        return next((entry for entry in self.entries.values() if entry.owner == about), None)

    def is_imported(self, sealed: Sealed) -> bool:
        """Whether a bundle is imported, and its receipt out."""
        entry = self.entries.get((sealed.channel, sealed.sequence))
        if entry is None or entry.manifest_sha256 != sealed.sha256:
            return False
        return any(receipt.is_imported for receipt in self._receipts[entry.owner])

    # --- once all has come to rest ---

    def why_restless(self) -> str | None:
        """What is still going on, by journal, working documents and uploads; ``None`` if nothing is."""
        for about, journal in self.journals.items():
            if journal.is_active:
                return f"{about} is {journal.state}"
        for name in self._undecided():
            return f"{INCOMING}/{name} is there"
        for name in self._blobs.containers[WORK]:
            if name.startswith(("door/", "channels/", "closing/")):
                return f"{WORK}/{name} is there"
        return None

    def _undecided(self) -> Iterator[str]:
        """The bundle manifests that lie there, but for those under names that no bundle can have."""
        suffix = f"/{ENVELOPE_NAME}"
        names = self._blobs.containers[INCOMING]
        return (name for name in names if name.endswith(suffix) and may_be_bundle(name.removesuffix(suffix)))

    def require_rest(self, why: str) -> None:
        """Say which invariant does not hold, of what never comes to rest."""
        names = list(self._blobs.containers[WORK])
        require(not any(name.startswith("channels/") for name in names), TURN_LEFT, why)
        require(not any(name.startswith("door/") for name in names), DOOR_LEFT, why)
        require(not any(self._undecided()), DECIDED_UPON, why)
        raise Violation(AT_REST, why)

    def at_rest(self) -> None:
        """Everything that must hold now that nothing is under way."""
        for about, journal in self.journals.items():
            if journal.state is State.SUPERSEDED:
                continue
            states = [entry.state for entry in journal.entries]
            decided = any(state in _DECISIONS or state is State.DAMAGED for state in states)
            require(decided, ONE_DECISION, f"{about}: {states}")
            receipts = self._receipts[about]
            require(len(receipts) == 1, ONE_RECEIPT, f"{about} has {len(receipts)}")
            entry = self.entry_of(about)
            told = receipts[0].ledger is not None or about in self.late
            require(
                told == (entry is not None), ONE_RECEIPT, f"{about}: its receipt tells of a number: {told}"
            )


def receipt_channel(content: bytes) -> str | None:
    """The channel that a receipt names."""
    return Receipt.from_bytes(Envelope.from_bytes(content).payload).channel


def _is_in_time(sealed: Sealed, entry: LedgerEntry) -> bool:
    manifest = sealed.bundle.manifest
    return manifest.created_at - _SKEW <= entry.taken_at <= manifest.expires_at + _SKEW
