"""A front before Azurite, in a storage account's place, that asks what Azurite does not: who may do what.

Tokens are verified, and what they may do is decided by role assignments in Azure's own terms; immutability
policies of containers hold for everybody. SAS and the account key go through as they are, for Azurite to
check, but for SAS that may create only. It looks into no batch of blobs and no transaction of tables: those
are refused.

============== =====================================================================
`roles`        role definitions, and who has which role where
`operations`   which operation a request is, and what it has to be allowed
`gate`         who is let through, and what everybody else is told
`create_only`  SAS that create and overwrite nothing, which Azurite knows of small blobs only
`front`        the server
`errors`       refusals as Azure words them
============== =====================================================================
"""

from local_cloud.storage_front.front import StorageFront
from local_cloud.storage_front.gate import ImmutabilityPolicy, StorageAccount
from local_cloud.storage_front.operations import Request
from local_cloud.storage_front.roles import BUILT_IN, RoleAssignment, RoleAssignments, RoleDefinition

__all__ = [
    "BUILT_IN",
    "ImmutabilityPolicy",
    "Request",
    "RoleAssignment",
    "RoleAssignments",
    "RoleDefinition",
    "StorageAccount",
    "StorageFront",
]
