"""The SAS that creates and overwrites nothing: what Azure lets it do and Azurite does not know yet.

From version 2026-04-06 on, the permission to create (``c``) is enough for Put Block and Put Block List where
there is no blob; before, it was for Put Blob only.
<https://learn.microsoft.com/rest/api/storageservices/version-2026-04-06>. Not known of Azure: whether Put
Block is refused where there is a blob. Here it is, which is the narrower.
"""

from local_cloud.storage_front.operations import Operation, Request

_OF_BLOCKS = frozenset({"block", "blocklist"})
_BLOCKS_FROM = "2026-04-06"


def only_creates(request: Request, wanted: Operation) -> bool:
    """Whether a request writes a blob, or a block of one, by a SAS that may only create it.

    Such a request is refused where the blob is there already. Not checked: whether the SAS itself is good.
    """
    query = request.query()
    permissions, comp = query.get("sp", ""), query.get("comp")
    if request.method != "PUT" or not wanted.blob or "sig" not in query or "authorization" in request.headers:
        return False
    if "c" not in permissions or "w" in permissions or wanted.source is not None:
        return False
    if "x-ms-copy-source" in request.headers:  # from another account, which Azurite does not do
        return False
    return comp is None or (comp in _OF_BLOCKS and query.get("sv", "") >= _BLOCKS_FROM)
