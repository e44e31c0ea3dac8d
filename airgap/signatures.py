"""Keys, signers and DSSE as securesystemslib has them, imported without the SDKs of any cloud.

The library has signers for many clouds and imports whatever SDK it finds for them. None of those signers is
used: the app and the mover have their own for Key Vault. The SDKs of Azure alone take longer to import than a
small volume takes to verify, and the domain must not depend on them. So they are hidden while the library is
imported, which it takes for "not installed". Everybody has the library from here, else it would come with
them: the contract ``signatures`` of ``.importlinter`` holds that.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager

_NEEDED_BY_ALL = "azure.core"  # what the library's signer for Azure imports first, and each of Azure's SDKs


@contextmanager
def _hidden(package: str) -> Iterator[None]:
    """Make a package impossible to import meanwhile; one that is loaded costs nothing more and stays.

    Whoever starts the app or the mover imports this before there are other threads, which would miss it.
    """
    if package in sys.modules:
        yield
        return
    sys.modules[package] = None  # type: ignore[assignment]  # how Python marks what cannot be imported
    try:
        yield
    finally:
        del sys.modules[package]


with _hidden(_NEEDED_BY_ALL):
    from securesystemslib.dsse import Envelope as DsseEnvelope
    from securesystemslib.exceptions import UnverifiedSignatureError, VerificationError
    from securesystemslib.signer import CryptoSigner, Key, Signature, Signer, SSlibKey

__all__ = [
    "CryptoSigner",
    "DsseEnvelope",
    "Key",
    "SSlibKey",
    "Signature",
    "Signer",
    "UnverifiedSignatureError",
    "VerificationError",
]
