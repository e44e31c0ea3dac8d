"""The gate to an account: who is let through, and who is told what instead, decided without a network."""

from dataclasses import dataclass, field

from local_cloud.storage_front.errors import StorageRefusal
from local_cloud.storage_front.operations import Operation, Request
from local_cloud.storage_front.roles import RoleAssignments
from local_cloud.tokens import STORAGE_AUDIENCE, TokenAuthority, TokenRefused

_BEARER_CHALLENGE_FROM = "2019-12-12"
"""The version of the service from which on it tells the anonymous where to get a token."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ImmutabilityPolicy:
    """The time-based retention of a container: blobs are neither changed nor deleted for some days."""

    days: int
    allows_appends: bool = False


@dataclass(kw_only=True)
class StorageAccount:
    """A storage account as it was deployed; it may be changed while it is served.

    Attributes:
        resource_id: its ARM id, which the scopes of role assignments begin with; the name is its last part.
        allows_keys: whether the account key, and a SAS that it signed, are taken (`allowSharedKeyAccess`).
        immutability: policies by container.
    """

    resource_id: str
    allows_keys: bool = True
    immutability: dict[str, ImmutabilityPolicy] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """The account's name."""
        return self.resource_id.rpartition("/")[2]


@dataclass(frozen=True, slots=True, kw_only=True)
class Gate:
    """A gate that lets callers through by what they bring: a token by its roles, a SAS or key if taken."""

    tokens: TokenAuthority
    assignments: RoleAssignments

    def admit(self, request: Request, account: StorageAccount, wanted: Operation) -> bool:
        """Let a request through; returns whether it may create what is not there, and replace nothing.

        Raises:
            StorageRefusal: the request is not let through.
        """
        authorization = request.headers.get("authorization")
        if authorization is None:
            return self._admit_signed(request, account, wanted)
        scheme, _, credentials = authorization.partition(" ")
        match scheme.lower():
            case "bearer":
                try:
                    claims = self.tokens.verify(credentials, STORAGE_AUDIENCE)
                except TokenRefused as refusal:
                    raise StorageRefusal.of_token(refusal.code) from None
                return self._only_creates(claims.principal_id, account, wanted)
            case "sharedkey" | "sharedkeylite":
                if not account.allows_keys:
                    raise StorageRefusal("KeyBasedAuthenticationNotPermitted")
                return False
        raise StorageRefusal("InvalidAuthenticationInfo")

    def _admit_signed(self, request: Request, account: StorageAccount, wanted: Operation) -> bool:
        """Ask for the roles of who delegates, where a delegation key has signed; the rest is Azurite's."""
        query = request.query()
        if "sig" not in query:
            is_told = request.headers.get("x-ms-version", "") >= _BEARER_CHALLENGE_FROM
            raise StorageRefusal("NoAuthenticationInformation" if is_told else "PublicAccessNotPermitted")
        delegates = query.get("skoid")
        if delegates is None and not account.allows_keys:
            raise StorageRefusal("KeyBasedAuthenticationNotPermitted")
        return delegates is not None and self._only_creates(delegates, account, wanted)

    def _only_creates(self, principal_id: str, account: StorageAccount, wanted: Operation) -> bool:
        only_creates = False
        for need in wanted.needs:
            resource = f"{account.resource_id}{need.resource}"
            if any(
                all(self.assignments.allow(principal_id, action, resource) for action in actions)
                for actions in need.any_of
            ):
                continue
            if need.to_create is None or not self.assignments.allow(principal_id, need.to_create, resource):
                raise StorageRefusal("AuthorizationPermissionMismatch")
            only_creates = True
        return only_creates
