"""Signing in to Azure without a SAS, as the identity that is signed in on this machine already."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from azure.core.credentials import TokenCredential


def signed_in_identity() -> TokenCredential:
    """The identity that is signed in: by the environment, on the machine, or by a tool such as ``az login``.

    Caches of other programs (Visual Studio Code, the Windows broker) are left out: looking into them leaves a
    folder behind in the operator's home. What azure-identity logs of each attempt stays unprinted, since one
    line of ours says the same.
    """
    from azure.identity import DefaultAzureCredential  # noqa: PLC0415 - 200 ms that a SAS does not need

    # Without any handler Python prints warnings to stderr; whoever configures logging still gets them.
    logging.getLogger("azure").addHandler(logging.NullHandler())
    credential: TokenCredential = DefaultAzureCredential(
        exclude_shared_token_cache_credential=True,
        exclude_visual_studio_code_credential=True,
        exclude_broker_credential=True,
    )
    return credential
