"""An import that ended long ago, and what is left of it: for the role that removes the records of runs."""

import asyncio
from datetime import UTC, datetime

import requests
from azure.storage.blob import BlobServiceClient

from airgap.journal import Journal
from airgap.states import Kind, State
from local_cloud.cloud import Cloud
from local_cloud.demo.screen import until

OLD = "0123456789abcdef0123456789abcdef"
OLD_IMPORT = "import0123456789abcdef0123456789abcdef"


async def remove_old_import(target: Cloud) -> None:
    """Have one, and have it removed by the app."""
    await asyncio.to_thread(_plant, target)
    await asyncio.to_thread(
        requests.post, f"{target.api_url}/admin/functions/remove_ended_imports", json={}, timeout=30
    )
    await until("removing what was left of an old import", lambda: notes_of_runs(target))


def _plant(target: Cloud) -> None:
    """One that failed long ago while a run was at work; the note of what was promoted is still there."""
    journal = Journal(kind=Kind.IMPORTS, about=OLD_IMPORT)
    with target.azurite.service_client() as service:
        service.get_blob_client("work", f"plans/{OLD_IMPORT}/promoted/001.json").upload_blob(b"{}")
        service.get_blob_client("quarantine", f"{OLD}/{OLD_IMPORT}/001").upload_blob(b"x")
        for state in ("received", "failed", "quarantined"):
            entry = journal.next(
                State(state), {"incoming": OLD}, by="app", at=datetime(2025, 1, 1, tzinfo=UTC)
            )
            assert entry is not None
            journal = journal.extended(entry)
            service.get_blob_client("journal", entry.name).upload_blob(entry.to_bytes())


def notes_of_runs(target: Cloud) -> list[str] | None:
    """The imports whose runs are still on record, once the old one's removals are in the journal."""
    with target.azurite.service_client() as service:
        journal = service.get_container_client("journal")
        removals = list(journal.list_blob_names(name_starts_with=f"removals/{OLD_IMPORT}/"))
        if len(removals) != 2 or any(OLD in name for name in names_in(service, "quarantine")):
            return None
        return names_in(service, "work", "plans/")


def names_in(service: BlobServiceClient, container: str, prefix: str = "") -> list[str]:
    """The names of blobs that begin with ``prefix``."""
    return list(service.get_container_client(container).list_blob_names(name_starts_with=prefix))
