"""The proven ledger: at the source an entry counts only if a key that counts has signed its manifest.

Nobody but the app should write to the container ``ledger``. What gets signed must not depend on that: an
entry counts through the signed envelope behind it, and one far above the others is not even looked at.
"""

from dataclasses import dataclass
from datetime import datetime
from functools import cached_property

from airgap.errors import Code, UntrustedInputError
from airgap.ledger import Floor, LedgerEntry, free_number, prove_entry
from airgap.manifest import BundleManifest
from airgap.policy import keyids_of
from airgap.signatures import Key
from function_app.ports import SourceSide
from function_app.storage.ledger import Ledger
from function_app.storage.policies import policy_in_force


@dataclass(frozen=True)
class ProvenLedger:
    """The ledger of one channel, of which only proven entries are used.

    The keys that count are those that the source signs with, and those of the channel's bundle roles that
    are in force at ``now``.
    """

    side: SourceSide
    channel: str
    now: datetime

    @cached_property
    def _keys(self) -> list[Key]:
        policy = policy_in_force(self.side)
        rules = policy.channels.get(self.channel)
        named = set() if rules is None else keyids_of(rules.bundle_roles)
        in_force = policy.keys_in_force(self.now)
        trusted: dict[str, Key] = {keyid: in_force[keyid].public_key for keyid in named & in_force.keys()}
        return [*(trusted | {key.keyid: key for key in self._own_keys()}).values()]

    def _own_keys(self) -> list[Key]:
        return [signer.public_key for signer in self.side.signing.signers()]

    @property
    def _floor(self) -> Floor:
        return self.side.settings.sequence_floors.get(self.channel, Floor())

    def free_number(self) -> int:
        """The number that the next bundle of the channel gets, as the ledger is now."""
        return free_number(Ledger(self.side.blobs).numbers(self.channel), self._floor.sequence)

    def find(self, sequence: int) -> LedgerEntry | None:
        """The entry of a number, not proven yet; ``None`` while the number is free.

        Raises:
            UntrustedInputError: ``LEDGER_UNPROVEN``: what is there is no entry of that number.
        """
        try:
            return Ledger(self.side.blobs).find(self.channel, sequence)
        except UntrustedInputError as error:
            raise UntrustedInputError(Code.LEDGER_UNPROVEN, error.detail) from None

    def prove(self, entry: LedgerEntry) -> tuple[bytes, BundleManifest]:
        """The envelope behind an entry, and its manifest, once a key that counts is seen to have signed it.

        Raises:
            UntrustedInputError: ``LEDGER_UNPROVEN``: nobody whose signature counts has signed such a
                manifest.
        """
        raw = Ledger(self.side.blobs).find_envelope(entry.manifest_sha256)
        manifest = prove_entry(entry, raw, self._keys)
        return raw or b"", manifest

    def previous_of(self, sequence: int) -> str | None:
        """The manifest digest (hex) of the number before; ``None`` for the first of all.

        Raises:
            UntrustedInputError: ``LEDGER_UNPROVEN``: nobody whose signature counts has signed that entry, or
                it is gone.
        """
        if sequence <= self._floor.sequence:
            return self._floor.previous_sha256
        entry = self.find(sequence - 1)
        if entry is None:
            raise UntrustedInputError(Code.LEDGER_UNPROVEN, f"number {sequence - 1} is free again")
        self.prove(entry)
        return entry.manifest_sha256
