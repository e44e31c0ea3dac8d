"""Blob triggers of both sides: the host hands them a name, so a blob of any size costs the worker nothing."""

import asyncio
import json
from datetime import datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from azurefunctions.extensions.bindings.blob import BlobClient

from airgap.errors import OperatorError
from airgap.manifest import ENVELOPE_NAME
from function_app import roles
from function_app.settings import BlobEvents, Role, read_blob_events
from function_app.source import receiving
from function_app.target import intake
from local_cloud.functions_host.app import HostSettings, index
from local_cloud.functions_host.blobs import Blob, BlobTriggers, ListedBlob, Page
from local_cloud.functions_host.invoke import Invoker
from local_cloud.functions_host.store import Store


class HugeBlob:
    """A storage that holds one blob of 8 TiB, and whose content nobody may ask for."""

    def __init__(self, container: str, name: str) -> None:
        self.container, self.name = container, name

    def list_page(self, container: str, prefix: str, _marker: str | None) -> Page:
        found = container == self.container and self.name.startswith(prefix)
        return Page(blobs=(ListedBlob(name=self.name, etag="1"),) if found else ())

    def stat(self, container: str, name: str) -> Blob | None:
        return Blob(etag="1", uri=f"https://account/{container}/{name}", properties={}, metadata={})

    def read(self, container: str, name: str) -> bytes | None:
        raise AssertionError(f"the content of {container}/{name} was read for the trigger")

    def put_aside(self, message: str) -> None:
        raise AssertionError(f"{message} is poison")


def client_binding() -> str:
    names = ("taskHubName", "rpcBaseUrl", "baseUrl", "requiredQueryStringParameters")
    return json.dumps(dict.fromkeys(names, "") | {"managementUrls": {}, "creationUrls": {}})


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What the two functions behind the triggers were told."""
    names: list[str] = []

    async def start_import(_client: object, _side: object, *, folder: str, now: datetime) -> None:
        assert now.tzinfo is not None
        names.append(folder)

    def receive(_side: object, name: str, **_: Any) -> None:
        names.append(name)

    monkeypatch.setattr(intake, "start_import", start_import)
    monkeypatch.setattr(intake, "target_side", object)
    monkeypatch.setattr(receiving, "receive", receive)
    monkeypatch.setattr(receiving, "source_side", object)
    monkeypatch.setenv("TransferStorage__blobServiceUri", "https://account.blob.invalid")
    return names


def events_of(path: str) -> BlobEvents:
    """Of blobs in a folder ``told`` the app is told by Event Grid."""
    return "eventGrid" if "/told/" in path else "poll"


@pytest.mark.parametrize(
    ("role", "path", "expected"),
    [
        ("target", f"incoming/t1/{ENVELOPE_NAME}", "t1"),
        ("target", f"incoming/a/b/{ENVELOPE_NAME}", "a/b"),
        ("target", f"incoming/told/{ENVELOPE_NAME}", "told"),
        ("source", "receipts/told/x.dsse.json", "told/x.dsse.json"),
        ("source", "receipts/t1/x.dsse.json", "t1/x.dsse.json"),
    ],
)
def test_blob_of_any_size_under_a_watched_name_never_reaches_the_worker(
    tmp_path: Path, told: list[str], role: Role, path: str, expected: str
) -> None:
    app = index(roles.build_app(role, events_of(path)), HostSettings())
    (trigger,) = app.of("blobTrigger")
    store, invoker = Store(tmp_path / "state.db"), Invoker(app, client_binding)
    triggers = BlobTriggers(app, store, invoker, lambda _: HugeBlob(*path.split("/", 1)))

    async def deliver() -> None:
        await triggers.scan(trigger.name)
        await triggers.deliver_all()

    try:
        asyncio.run(deliver())
    finally:
        triggers.close()
        invoker.close()
        store.close()
    assert told == [expected]


@pytest.mark.parametrize("role", ["source", "target"])
def test_every_blob_trigger_takes_a_reference(role: Role) -> None:
    found = index(roles.build_app(role), HostSettings()).of("blobTrigger")
    assert found
    assert [function.name for function in found if function.reference_type is None] == []


@pytest.mark.parametrize(("events", "source"), [("poll", "LogsAndContainerScan"), ("eventGrid", "EventGrid")])
@pytest.mark.parametrize("role", ["source", "target"])
def test_blob_triggers_learn_of_blobs_as_the_setting_says(
    role: Role, events: BlobEvents, source: str
) -> None:
    assert read_blob_events({"BLOB_EVENTS": events}) == events
    functions = roles.build_app(role, events).get_functions()
    triggers = [trigger for one in functions if (trigger := one.get_trigger()) is not None]
    found = [one.get_dict_repr() for one in triggers if one.type == "blobTrigger"]
    assert [one["source"] for one in found] == [source]


def test_other_ways_to_learn_of_blobs_are_refused() -> None:
    assert read_blob_events({}) == read_blob_events({"BLOB_EVENTS": ""}) == "poll"
    with pytest.raises(OperatorError, match="BLOB_EVENTS"):
        read_blob_events({"BLOB_EVENTS": "EventGrid"})


@pytest.mark.parametrize(
    ("container", "name"),
    [
        ("incoming", "t1/other.json"),
        ("incoming", "bundle-manifest.dsse.json.part/001"),
        ("staging", f"t1/{ENVELOPE_NAME}"),
    ],
)
def test_event_for_another_blob_starts_no_import(told: list[str], container: str, name: str) -> None:
    """Whoever has the webhook's key can name any blob of the account."""
    blob = SimpleNamespace(container_name=container, blob_name=name)
    asyncio.run(intake.bundle_arrived(cast("BlobClient", blob), cast("Any", None)))
    assert told == []


def test_event_for_a_blob_elsewhere_is_no_receipt(told: list[str]) -> None:
    blob = SimpleNamespace(container_name="work", blob_name="t1/x.dsse.json")
    asyncio.run(receiving.receipt_arrived(cast("BlobClient", blob)))
    assert told == []
