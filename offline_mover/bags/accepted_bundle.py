"""A bundle that the trust policy accepts: the only kind on whose word anything is written, read or sent."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Self

from airgap.manifest import BundleManifest
from airgap.policy import TrustPolicy
from airgap.verify import Verdict, verify_bundle


@dataclass(frozen=True, slots=True, kw_only=True)
class AcceptedBundle:
    """A bundle's envelope, byte by byte, and the verdict by which the trust policy accepts it.

    Args:
        envelope: the bytes of the file ``bundle-manifest.dsse.json``.
        verdict: the verdict on that envelope; :meth:`judge` makes sure that it is an acceptance.
    """

    envelope: bytes
    verdict: Verdict

    @classmethod
    def judge(cls, envelope: bytes, *, policy: TrustPolicy, now: datetime) -> Self:
        """Verify an envelope by the trust policy, and keep it with its verdict if it is accepted.

        Raises:
            UntrustedInputError: the envelope is malformed, forged, or signed by nobody known; codes are those
                of :func:`airgap.verify.verify_bundle`.
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
