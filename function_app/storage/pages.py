"""Listings in rounds: each goes on where the last one stopped, so that every name is reached some time."""

from collections.abc import Callable

from function_app.ports import BlobStore
from function_app.storage.paths import WORK

_MAX_PAGES = 500
_MAX_POSITION_BYTES = 8 * 1024


def next_names(
    blobs: BlobStore,
    container: str,
    prefix: str,
    *,
    position: str,
    at_once: int,
    is_wanted: Callable[[str], bool] = lambda _: True,
) -> list[str]:
    """The next names that are wanted, about ``at_once``, from where the last round has stopped.

    A round that breaks off leaves no position, and the next begins anew.

    Args:
        blobs: the storage.
        container: the container that is listed, in pages of ``at_once`` names, 500 at most.
        prefix: the beginning of the names.
        position: the name of the blob in ``work`` that keeps where the next round goes on.
        at_once: how many names; 1 to 5000.
        is_wanted: tells whether a name is wanted.
    """
    marker = (blobs.read(WORK, position, max_bytes=_MAX_POSITION_BYTES) or b"").decode()
    blobs.delete(WORK, position)
    found: list[str] = []
    for _ in range(_MAX_PAGES):
        names, after = blobs.list_page(container, prefix, marker=marker or None, limit=at_once)
        found += [name for name in names if is_wanted(name)]
        marker = after or ""
        if not marker or len(found) >= at_once:
            break
    if marker:
        blobs.put(WORK, position, marker.encode())
    return found
