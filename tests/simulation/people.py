"""Who else has a say in an import: a scanner, officers who release, and those who write policies.

Each of them keeps record of what was really said, so that the invariants need not believe the app.
"""

import json
from collections import defaultdict
from collections.abc import Callable
from datetime import datetime
from typing import Any

from airgap.checks import Check
from airgap.envelope import Envelope
from airgap.errors import AirgapError, Code
from airgap.journal import Journal
from airgap.manifest import Tool
from airgap.override import Override, override_name
from airgap.policy import TrustPolicy
from airgap.policy_chain import sign_version, version_name
from airgap.release import ReleasedBundle, ReleaseStatement, verify_release
from function_app.journal.store import forget_journals
from function_app.ports import TargetSide
from function_app.storage import policies
from function_app.storage.paths import POLICY
from function_app.target.releasing import bundle_of, keep_release
from tests.bundles import AUDIENCE, SigningKey
from tests.simulation.options import Options
from tests.simulation.scheduler import HOUR, MINUTE, Scheduler
from tests.simulation.services import Blobs
from tests.simulation.workload import (
    OVERRIDER,
    POLICY_OFFICER,
    RELEASERS,
    STRANGER,
    Carriers,
    Sealed,
    policy_of,
)

_TARGET = AUDIENCE[0]


class Scanner:
    """The port for checks: as long as there are faults it answers late, badly, malformed or never."""

    def __init__(self, scheduler: Scheduler, is_over: Callable[[], bool]) -> None:
        self._scheduler = scheduler
        self._is_over = is_over
        self._moods: dict[tuple[str, str], str] = {}
        self.passed: set[tuple[str, str]] = set()
        """Check and manifest digest of what it has said to be good."""

    def ask(self, check: Check, question: bytes) -> bytes | None:
        """See the port."""
        asked = json.loads(question)
        about = (check.name, asked["manifestDigest"].removeprefix("sha256:"))
        chance = self._scheduler.chance
        if about not in self._moods:
            self._moods[about] = chance.choice(("good", "good", "late", "bad", "malformed", "never"))
        mood = "good" if self._is_over() else self._moods[about]
        if mood == "never" or (mood == "late" and chance.random() < 0.8):
            return None
        if mood == "malformed":
            return chance.choice((b"", b"{}", b"pass", json.dumps({**asked, "verdict": "pass"}).encode()))
        if mood != "bad":
            self.passed.add(about)
        answer = {
            "schema": 1,
            "manifestDigest": asked["manifestDigest"],
            "blobs": [{"name": one["name"], "etag": one["etag"]} for one in asked["blobs"]],
            "verdict": "fail" if mood == "bad" else "pass",
            "detail": mood,
            "scanner": "simulated",
        }
        return json.dumps(answer).encode()


class Officers:
    """Two who release bundles: at once, late, never as long as there are faults; and one who may not."""

    def __init__(
        self, scheduler: Scheduler, begin: Callable[[], TargetSide], is_over: Callable[[], bool]
    ) -> None:
        self._scheduler = scheduler
        self._begin = begin
        self._is_over = is_over
        self.released: dict[str, set[str]] = defaultdict(set)
        """By manifest digest: the keys of those who have signed."""
        self._waiting: dict[str, Journal] = {}

    def asked(self, journal: Journal) -> None:
        """An import waits for its release."""
        self._waiting[journal.about] = journal
        chance = self._scheduler.chance
        for key in RELEASERS:
            if self._is_over() or chance.random() < 0.7:
                pause = chance.choice((MINUTE, MINUTE, HOUR, 5 * HOUR))
                self._after(MINUTE if self._is_over() else pause, journal, key)
        if not self._is_over() and chance.random() < 0.3:
            self._after(MINUTE, journal, STRANGER)

    def hurry(self) -> None:
        """Whoever has not released what waits does so now."""
        for journal in self._waiting.values():
            for key in RELEASERS:
                self._after(MINUTE, journal, key)

    def _after(self, pause: Any, journal: Journal, key: SigningKey) -> None:
        name = f"{'a stranger' if key is STRANGER else 'an officer'} releases {journal.about}"
        self._scheduler.after(pause, name, lambda: self._hand_in(journal, key))

    def _hand_in(self, journal: Journal, key: SigningKey) -> None:
        """As the API takes it: again, if no service answers."""

        def post() -> None:
            side, now = self._begin(), self._scheduler.now.replace(microsecond=0)
            try:
                bundle = bundle_of(side, journal)
                assert bundle is not None
                envelope = _release(bundle, key, now)
                if key is not STRANGER:
                    self.released[bundle.manifest_sha256].add(str(key.keyid))
                policy = policies.policy_in_force(side)
                release = verify_release(envelope, bundle=bundle, policy=policy, now=now)
                keep_release(side, journal, release, by="api", now=now)
            except AirgapError as error:
                self._scheduler.say(f"is told {error.code.name}")
                if error.code.is_retryable:
                    self._after(MINUTE, journal, key)

        self._scheduler.spawn("release", post)


def _release(bundle: ReleasedBundle, key: SigningKey, now: datetime) -> bytes:
    statement = ReleaseStatement(bundle=bundle, released_at=now, tool=Tool(name="tests", version="0"))
    return Envelope.sign(statement.to_bytes(), [key.signer]).to_bytes()


class PolicyOffice:
    """Whoever brings versions of the trust policy, and permissions to pass a rule for once."""

    def __init__(self, scheduler: Scheduler, blobs: Blobs, carriers: Carriers, options: Options) -> None:
        self._scheduler = scheduler
        self._blobs = blobs
        self._carriers = carriers
        self._options = options
        self._envelopes: dict[str, bytes] = {}
        self.versions: list[TrustPolicy] = [self._version(1)]
        """From the pinned one on, in their order."""
        self.permitted: dict[str, datetime] = {}
        """By manifest digest: until when there was a permission that counts."""

    def _version(self, number: int) -> TrustPolicy:
        return policy_of(self._options, tuple(self._carriers.revoked), number)

    def deploy(self) -> TrustPolicy:
        """Another policy to be pinned, by which the revoked keys count no more."""
        self.versions = [self._version(1 + len(self._carriers.revoked))]
        return self.versions[0]

    def bring(self) -> None:
        """The next version, by which the revoked keys count no more."""
        before, following = self.versions[-1], self._version(len(self.versions) + 1)
        envelope = sign_version(before, following, [POLICY_OFFICER.signer]).to_bytes()
        name = version_name(following.version)
        self._scheduler.say(f"brings {POLICY}/{name}")
        self.versions.append(following)
        self._envelopes[name] = envelope
        self._blobs.upload(POLICY, name, envelope)

    def roll_back(self, newest: Callable[[], int], is_over: Callable[[], bool]) -> None:
        """Somebody takes away the newest version that was in force, or puts an older one in its place.

        He lies in wait for it; ``newest`` says which that is. Afterwards all processes are new.
        """
        if is_over():
            return
        names = sorted(self._envelopes)
        chance = self._scheduler.chance
        if newest() < self.versions[-1].version or not names:
            pause = self._scheduler.seconds(1, 60)
            self._scheduler.after(pause, "", lambda: self.roll_back(newest, is_over))
            return
        self._scheduler.say(f"the policy {names[-1]} is rolled back")
        if chance.random() < 0.5:
            self._blobs.delete(POLICY, names[-1])
        else:
            self._blobs.upload(POLICY, names[-1], self._envelopes[names[0]])
        forget_what_was_read()

    def restore(self) -> None:
        """Every version where it belongs."""
        for name, envelope in self._envelopes.items():
            self._blobs.upload(POLICY, name, envelope)
        forget_what_was_read()

    def permit(self, sealed: Sealed) -> None:
        """A permission for one bundle, which counts, or a stranger's, or one for another channel's target."""
        chance = self._scheduler.chance
        key = chance.choice((OVERRIDER, OVERRIDER, STRANGER))
        target = chance.choice((_TARGET, _TARGET, "other.azurecr.io"))
        override = Override(
            manifest_sha256=sealed.sha256,
            channel=sealed.channel,
            target=target,
            lifts=frozenset({Code.EXPIRED, Code.OUT_OF_ORDER, Code.SEQUENCE_GAP}),
            reason="simulated",
            expires_at=(self._scheduler.now + 24 * HOUR).replace(microsecond=0),
        )
        counts = key is OVERRIDER and target == _TARGET
        self._scheduler.say(f"a permission for {sealed.folder}, {'good' if counts else 'of no use'}")
        if counts:
            self.permitted[sealed.sha256] = override.expires_at
        envelope = override.sign([key.signer]).to_bytes()
        self._blobs.upload(POLICY, override_name(sealed.sha256), envelope)


def forget_what_was_read() -> None:
    """As a new process, which has seen neither policy nor journal yet."""
    policies._known.cache_clear()
    forget_journals()
