"""A bundle that the trust policy accepts; nothing is written, read or sent by the word of any other."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Self

from airgap.manifest import BundleManifest
from airgap.policy import TrustPolicy
from airgap.verify import Verdict, verify_bundle


@dataclass(frozen=True, slots=True, kw_only=True)
class AcceptedBundle:
    """An envelope, byte by byte, and what the trust policy says of it, which is yes.

    Args:
        envelope: the file ``bundle-manifest.dsse.json``.
        verdict: on that envelope; :meth:`judge` makes sure that it is an acceptance.
    """

    envelope: bytes
    verdict: Verdict

    @classmethod
    def judge(cls, envelope: bytes, *, policy: TrustPolicy, now: datetime) -> Self:
        """Verify an envelope.

        Raises:
            UntrustedInputError: it is malformed, forged, or signed by nobody known.
            PolicyRefusal: the trust policy does not accept it.
        """
        verdict = verify_bundle(envelope, policy=policy, now=now)
        verdict.require()
        return cls(envelope=envelope, verdict=verdict)

    @property
    def manifest(self) -> BundleManifest:
        """The bundle manifest that was signed."""
        return self.verdict.require()

    @property
    def manifest_sha256(self) -> str:
        """The hex SHA-256 of the bundle manifest: the identity of the bundle."""
        return self.verdict.manifest_sha256 or ""
