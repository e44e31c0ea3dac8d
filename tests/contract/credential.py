"""Who calls the storage in the contract suites."""

import time
from typing import Any

from azure.core.credentials import AccessToken

from local_cloud.tokens import STORAGE_AUDIENCE, TokenAuthority


class Credential:
    """An Entra identity that Azurite accepts."""

    def __init__(self, tokens: TokenAuthority) -> None:
        self._tokens = tokens

    def get_token(self, *scopes: str, **_: Any) -> AccessToken:
        assert scopes == (f"{STORAGE_AUDIENCE}/.default",)
        return AccessToken(self._tokens.mint("app", STORAGE_AUDIENCE), int(time.time()) + 3000)
