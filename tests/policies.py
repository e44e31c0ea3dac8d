"""Chains of trust policies for tests: officers, versions of a policy, and what they sign."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from airgap.policy import TrustPolicy
from airgap.policy_chain import sign_version
from tests.bundles import SigningKey, default_key, make_policy, new_key

Change = Callable[[dict[str, Any]], object]


ADA, BOB, CLEO, DAN = (new_key() for _ in range(4))
THREE: Mapping[str, SigningKey] = {"Ada": ADA, "Bob": BOB, "Cleo": CLEO}


def policy_version(
    version: int,
    *,
    officers: Mapping[str, SigningKey] = THREE,
    threshold: int = 2,
    base: bytes | None = None,
    change: Change = lambda _: None,
) -> bytes:
    """A policy of that number, whose next one ``threshold`` of the officers must sign.

    Args:
        version: its number.
        officers: keys by the name of their holder; "Ada, again" is another key of Ada's.
        threshold: of the policy role.
        base: the policy without officers; one for :func:`default_key` unless given.
        change: makes something different.
    """
    policy = json.loads(base or make_policy([default_key()]))
    policy["version"] = version
    policy["keys"] += [
        {"holder": name.partition(",")[0], "publicKey": key.public_pem} for name, key in officers.items()
    ]
    keyids = [key.keyid for key in officers.values()]
    policy["policyRoles"] = {"officer": {"threshold": threshold, "keyids": keyids}}
    change(policy)
    return json.dumps(policy).encode()


def signed(before: bytes, policy: bytes, *keys: SigningKey) -> bytes:
    """The envelope of the version after ``before``."""
    envelope = sign_version(
        TrustPolicy.from_bytes(before), TrustPolicy.from_bytes(policy), [key.signer for key in keys]
    )
    return envelope.to_bytes()


def chain_of(policies: Sequence[bytes], *keys: SigningKey) -> dict[int, bytes]:
    """Envelopes by version: of each policy after the first, signed by the same keys."""
    return {
        json.loads(policy)["version"]: signed(before, policy, *keys)
        for before, policy in itertools.pairwise(policies)
    }
