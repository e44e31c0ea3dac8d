"""What must hold after every step, and what must hold once all has come to rest.

Judged by what lies in storage and registry, and by what the simulation itself knows of the bundles that it
sealed; never by what a step says of itself. So a step more, or another order of steps, needs no change here.
"""

from collections import defaultdict
from collections.abc import Callable, Mapping
from datetime import timedelta
from typing import Any

from airgap.carried_receipt import decision_name
from airgap.envelope import Envelope
from airgap.errors import AirgapError
from airgap.journal import Journal, JournalEntry, parse_entry_name
from airgap.ledger import LedgerEntry, sequence_of
from airgap.policy import TrustPolicy
from airgap.receipt import Receipt, verify_receipt
from airgap.states import DECIDED, Kind, State
from function_app.storage.paths import JOURNAL, LEDGER, RECEIPTS, STAGING, TRANSFER, WORK
from tests.simulation.scheduler import Violation
from tests.simulation.services import Blobs, Registry
from tests.simulation.workload import Sealed

_ON_RECORD = frozenset({LEDGER, JOURNAL, RECEIPTS})
_DECISIONS = frozenset({State.PROVEN, State.REFUSED, State.FAILED})
"""Of a journal at most one; a damaged bundle may be mended, and is decided then."""

_SKEW = timedelta(seconds=300)

RECORD_KEPT = "nothing on record changes"
ONE_NUMBER = "one number, one import"
PROVEN = "imported means proven, and declared"
HASHED = "nothing lies in transfer that was not hashed in staging"
TRUSTED = "a number is taken only by what the policy accepts at that time"
CHAIN = "every journal is whole and legal"
ONE_DECISION = "every upload that is dealt with ends in one decision"
ONE_RECEIPT = "every decision has one receipt"
TURN_LEFT = "nobody who has ended keeps a turn"
DOOR_LEFT = "nobody who has ended keeps a place at the door"
AT_REST = "all comes to rest"
LIVENESS = "an honest bundle is imported in the end"


def require(holds: object, invariant: str, detail: object) -> None:
    """Nothing, if it holds.

    Raises:
        Violation: it does not.
    """
    if not holds:
        raise Violation(invariant, str(detail))


class Watch:
    """Looks at everything that is written, and remembers."""

    def __init__(
        self,
        blobs: Blobs,
        registry: Registry,
        bundles: Mapping[str, Sealed],
        policy: Callable[[], TrustPolicy],
        held_at: Callable[[], str],
    ) -> None:
        """``bundles``: by manifest digest.

        ``policy``: that which whoever is at work now began with; ``held_at``: where he was held up last.
        """
        self._blobs = blobs
        self._registry = registry
        self._bundles = bundles
        self._policy = policy
        self._held_at = held_at
        self.late: set[str] = set()
        """The imports that took a number after they were decided upon; see :meth:`_require_undecided`."""
        self._kept: dict[tuple[str, str], bytes] = {}
        self._read: dict[tuple[str, str], dict[int, bytes]] = defaultdict(dict)
        self._imports: dict[tuple[str, int], set[str]] = defaultdict(set)
        self._runs: dict[str, int] = defaultdict(int)
        self._stowaways: dict[str, list[str]] = defaultdict(list)
        self.refused: Callable[[str | None], None] = lambda _: None
        """Is told of each receipt of no import, by the digest of its bundle manifest."""
        self.journals: dict[str, Journal] = {}
        self.entries: dict[tuple[str, int], LedgerEntry] = {}
        self._receipts: dict[str, list[Receipt]] = defaultdict(list)

    # --- after every step ---

    def after_storage(self, method: str, args: tuple[Any, ...], kwargs: dict[str, Any], result: Any) -> None:
        """A call of the blob port had its effect."""
        if method == "read_range" and args[0] == STAGING:
            self._read[args[1], kwargs["etag"]][kwargs["offset_bytes"]] = b"".join(result)
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
        self._require_number(path)

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
        if sequence_of(name) is None:  # an envelope
            return
        entry = LedgerEntry.from_bytes(content)
        sealed = self._bundles.get(entry.manifest_sha256)
        require(sealed is not None, TRUSTED, f"{name}: nobody sealed {entry.manifest_sha256}")
        assert sealed is not None
        manifest, policy = sealed.bundle.manifest, self._policy()
        is_stated = (sealed.channel, sealed.sequence) == (entry.channel, entry.sequence)
        require(sealed.is_signed and is_stated, TRUSTED, f"{name}: {sealed.folder}")
        require(sealed.keyid not in policy.revoked, TRUSTED, f"{name}: the key of {sealed.folder} is revoked")
        is_in_time = manifest.created_at - _SKEW <= entry.taken_at <= manifest.expires_at + _SKEW
        require(is_in_time, TRUSTED, f"{name}: {sealed.folder} is not in force at {entry.taken_at}")
        self.entries[entry.channel, entry.sequence] = entry
        self._require_undecided(entry)

    def _require_undecided(self, entry: LedgerEntry) -> None:
        """Whoever is decided upon takes no number, unless he was held up between the last look and the leap.

        That is known and left: no storage writes to the ledger on condition of a blob elsewhere.
        """
        journal = self.journals.get(entry.owner)
        if journal is not None and journal.state in DECIDED | {State.CLOSED, State.QUARANTINED}:
            is_leap = self._held_at().startswith((f"create {LEDGER} ", f"put {LEDGER} ", f"read {JOURNAL} "))
            require(is_leap, ONE_DECISION, f"{entry.owner} takes {entry.name}, and is {journal.state}")
            self.late.add(entry.owner)

    def _journal_grown(self, name: str, content: bytes) -> None:
        parsed = parse_entry_name(name)
        require(parsed is not None and parsed[0] is Kind.IMPORTS, CHAIN, name)
        assert parsed is not None
        about = parsed[1]
        journal = self.journals.get(about) or Journal(kind=Kind.IMPORTS, about=about)
        self.journals[about] = journal = journal.extended(JournalEntry.from_bytes(content))
        decisions = [entry.state for entry in journal.entries if entry.state in _DECISIONS]
        require(len(decisions) <= 1, ONE_DECISION, f"{about}: {decisions}")
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
        self._receipts[owner].append(receipt)
        require(len(self._receipts[owner]) == 1, ONE_RECEIPT, f"{owner} has another one: {name}")
        is_proven = self.journals[owner].newest(State.PROVEN) is not None
        require(receipt.is_imported == is_proven, PROVEN, f"{name}: {receipt.verdict}")
        if not receipt.is_imported:
            self.refused(receipt.manifest_sha256)

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
        """What is still going on, by journal and working documents; ``None`` if nothing is."""
        for about, journal in self.journals.items():
            if journal.is_active:
                return f"{about} is {journal.state}"
        for name in self._blobs.containers[WORK]:
            if name.startswith(("door/", "channels/", "closing/")):
                return f"{WORK}/{name} is there"
        return None

    def require_rest(self, why: str) -> None:
        """Say which invariant does not hold, of what never comes to rest."""
        names = list(self._blobs.containers[WORK])
        require(not any(name.startswith("channels/") for name in names), TURN_LEFT, why)
        require(not any(name.startswith("door/") for name in names), DOOR_LEFT, why)
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
