"""The containers of the storage account, and the names of the blobs in them."""

import re

from airgap.manifest import ENVELOPE_NAME

STAGING = "staging"
"""At the target, of what was admitted: the app's own copies, to be hashed. Nobody else writes here."""

TRANSFER = "transfer"
LEDGER = "ledger"
WORK = "work"
INCOMING = "incoming"
QUARANTINE = "quarantine"
RECEIPTS = "receipts"
CUSTODY = "custody"
"""At the target, custody logs that came with pushes; also the folder of ``incoming`` that they come in."""

POLICY = "policy"
"""Versions of the trust policy that follow the pinned one. The app only reads it: each proves itself."""

JOURNAL = "journal"
"""Also the name of the table with the journal's projection."""


def is_import_instance(segment: str) -> bool:
    """Whether a name has the form of the id of an import's orchestration, which also names its folders.

    No folder of an upload has this form.
    """
    return re.fullmatch(r"import[0-9a-z]{4,74}", segment) is not None


def blob_path(folder: str, blob: str) -> str:
    """The name of a transfer blob: ``<transferId>/001``."""
    return f"{folder}/{blob}"


def manifest_path(folder: str) -> str:
    """The name of the bundle manifest's blob: ``<transferId>/bundle-manifest.dsse.json``."""
    return f"{folder}/{ENVELOPE_NAME}"


def bundle_folder(channel: str, manifest_sha256: str) -> str:
    """The folder of a bundle below ``staging`` and ``transfer``: ``<channel>/<manifestDigest>``.

    Nothing that another key signed can have this name, whatever transfer it claims to be.
    """
    return f"{channel}/{manifest_sha256}"


UPLOADS = "uploads/"
"""In ``work``: the imports that were admitted and whose uploads are not put away yet."""


def upload_path(folder: str, instance: str) -> str:
    """The name in ``work`` of the note that an import was admitted and its upload is not put away yet."""
    return f"{UPLOADS}{folder}/{instance}"


STAGING_RUNS = "staging-runs/"
"""In ``work``: names of the runs that import into the staging registry and have not been seen to end."""

EVENTS = "events/"
"""In ``work``: which entries of the journal are still to be told outside."""

CLOSING = "closing/"
"""In ``work``: the imports that were decided and are not closed yet."""


def closing_path(instance: str) -> str:
    """The name in ``work`` of the note that an orchestration's decision is still to be closed."""
    return f"{CLOSING}{instance}.json"


def is_safe_name(name: str) -> bool:
    """Whether a blob's name means the same in a URL, where dot segments are resolved (RFC 3986 §5.2.4).

    Names come from listings of what others uploaded; one with dot segments could reach into another
    container.
    """
    return not {"", ".", ".."} & set(name.split("/"))
