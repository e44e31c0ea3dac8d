"""One end's whole cloud, the network between the app and its services, and what a case asks of them."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, ClassVar, Self

import requests
from azure.core.exceptions import ResourceNotFoundError
from azure.storage.blob import BlobServiceClient

from airgap.journal import Journal, parse_entry_name
from airgap.policy import TrustPolicy
from airgap.states import Kind
from local_cloud.cloud import PROJECT, Cloud
from local_cloud.pki import CertificateAuthority
from tests.contract.loop import running_loop
from tests.faults.proxy import Proxy

TRANSFER, JOURNAL, LEDGER, WORK = "transfer", "journal", "ledger", "work"
END_S = 500.0
_POLL_S = 0.1
_RECONCILE_AFTER_S = 2.0
"""Without anything new, at which the reconciler would come round."""


@dataclass(kw_only=True)
class Site(ABC):
    """The deployed cloud of one end; its host is started again whenever it was killed."""

    reconciler: ClassVar[str]
    """The function that comes round."""
    kind: ClassVar[Kind]
    """Of the journals that tell how far a case is."""

    folder: Path
    ca: CertificateAuthority
    cloud: Cloud
    network: Proxy
    service: BlobServiceClient
    policy: TrustPolicy
    kills: int = 0
    """How often the host was killed, by itself or by a fault."""
    kill_every: int = 0
    deliver_twice: bool = False
    _zygote: subprocess.Popen[str] | None = None
    _keeper: threading.Thread = field(init=False)
    _pid: int = 0
    _is_ending: bool = False

    @classmethod
    @contextmanager
    def deployed(
        cls, cloud: Cloud, policy_of: Callable[[Cloud], dict[str, Any]], **parameters: Any
    ) -> Iterator[Self]:
        """All of it, for as long as the block lasts."""
        ca = cloud.ca
        with ExitStack() as stack:
            loop = stack.enter_context(running_loop())
            loop.run(cloud.connect(), END_S)
            stack.callback(lambda: loop.run(cloud.close()))
            policy = policy_of(cloud)
            loop.run(cloud.deploy(trustPolicy=policy, **parameters), END_S)
            network = stack.enter_context(Proxy.between(_services(cloud), ca))
            service = stack.enter_context(
                BlobServiceClient.from_connection_string(
                    cloud.azurite.connection_string, connection_verify=str(ca.ca_file)
                )
            )
            site = cls(
                folder=cloud.folder.parent / "host",
                ca=ca,
                cloud=cloud,
                network=network,
                service=service,
                policy=TrustPolicy.from_bytes(json.dumps(policy).encode()),
            )
            site.folder.mkdir()
            stack.callback(site._end_host)
            site._start_host()
            yield site

    # --- a case ---

    @abstractmethod
    def carry_next(self) -> str:
        """The next case, from its order to its end; returns what it is called."""

    @abstractmethod
    def wrongs(self, case: str, runs: int = 1) -> list[str]:
        """What is not as it must be after a case, judged by what lies in storage and registry.

        ``runs``: so many there may be for its blob; of them one has succeeded, in any case.
        """

    def await_end(self, about: str, has_ended: Callable[[], bool]) -> None:
        """Wait for the end of a case; the reconciler comes round if need be."""
        asked_at, seen = time.monotonic(), 0

        def is_over() -> bool:
            nonlocal asked_at, seen
            if time.monotonic() - asked_at > _RECONCILE_AFTER_S:
                self.reconcile()
                asked_at = time.monotonic()
            entries = len(self.names(JOURNAL, f"{self.kind}/{about}/"))
            if entries > seen:
                seen, asked_at = entries, time.monotonic()
            return entries > 0 and has_ended()

        until(is_over, f"the end of {about}", lambda: str(self.journal(about).state))

    @property
    def now(self) -> datetime:
        """The time by the host's clock, which skips pauses."""
        clock = self.folder / "clock"
        skipped_s = float(clock.read_text()) if clock.exists() else 0.0
        return datetime.now(UTC) + timedelta(seconds=skipped_s)

    def jump(self, by: timedelta) -> None:
        """Have the host killed, and started again so much later."""
        later = self.now + by - datetime.now(UTC)
        (self.folder / "clock").write_text(str(later.total_seconds()))
        self.kill_host()

    @property
    def url(self) -> str:
        """Where the host answers, or did before it was killed."""
        return (self.folder / "url").read_text()

    def reconcile(self) -> None:
        """Have the reconciler come round now; nothing, if the host is just being started."""
        with suppress(requests.ConnectionError):
            requests.post(f"{self.url}/admin/functions/{self.reconciler}", json={"input": ""}, timeout=10)

    # --- the host ---

    def _start_host(self) -> None:
        with (self.folder / "log").open("ab") as log:
            self._zygote = subprocess.Popen(
                [sys.executable, "-m", "tests.faults.ends.host"],
                cwd=PROJECT,
                env={**self._environment(), "HTTPS_PROXY": self.network.url},
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
            )
        assert self._zygote.stdout is not None
        assert self._zygote.stdout.readline() == "ready\n", (self.folder / "log").read_text()
        self._keeper = threading.Thread(target=self._keep_going)
        self._keeper.start()

    def _environment(self) -> dict[str, str]:
        """The app's; its host has no account of its own here, since what fails is what the app asks for."""
        given = self.cloud.app_environment()
        return {name: one for name, one in given.items() if not name.startswith("AzureWebJobsStorage")}

    def _keep_going(self) -> None:
        zygote = self._zygote
        assert zygote is not None
        assert zygote.stdin is not None
        assert zygote.stdout is not None
        while True:
            order = {
                "folder": str(self.folder),
                "owner": os.getpid(),
                "kill_every": self.kill_every,
                "deliver_twice": self.deliver_twice,
            }
            zygote.stdin.write(json.dumps(order) + "\n")
            zygote.stdin.flush()
            self._pid = json.loads(zygote.stdout.readline())["pid"]
            if self._is_ending:  # it was asked for before this child was known
                self.kill_host()
            zygote.stdout.readline()  # how it ended: it was killed
            self._pid = 0
            self.kills += 1
            if self._is_ending:
                return

    def kill_host(self) -> None:
        """As a power cut would; it starts again at once."""
        if self._pid:
            with suppress(ProcessLookupError):  # it has just been killed by itself
                os.kill(self._pid, signal.SIGKILL)

    def restart(self, *, kill_every: int = 0, deliver_twice: bool = False) -> None:
        """Go on with a host that is killed at every so many steps, or that delivers everything twice."""
        self.kill_every, self.deliver_twice = kill_every, deliver_twice
        until(lambda: self._pid, "the host")
        before = self.kills
        self.kill_host()
        until(lambda: self.kills > before, "the host's end")
        self.kills = 0

    def _end_host(self) -> None:
        self._is_ending = True
        self.kill_host()
        assert self._zygote is not None
        assert self._zygote.stdin is not None
        self._zygote.stdin.close()
        self._zygote.wait(10)
        self._keeper.join(10)
        assert self._zygote.stdout is not None
        self._zygote.stdout.close()

    # --- what is there ---

    def end_of_log(self) -> str:
        """What the host said last: the exception of a failed activity is nowhere else."""
        return (self.folder / "log").read_text(errors="replace")[-20_000:]

    def names(self, container: str, prefix: str = "") -> list[str]:
        """Names of blobs, asked past the network of the app."""
        client = self.service.get_container_client(container)
        return [str(name) for name in client.list_blob_names(name_starts_with=prefix or None)]

    def read(self, container: str, name: str) -> bytes:
        """A blob, likewise; nothing if it is gone."""
        try:
            return self.service.get_blob_client(container, name).download_blob().readall()
        except ResourceNotFoundError:
            return b""

    def journal(self, about: str) -> Journal:
        """The journal of a case, checked as a whole."""
        names = [
            name
            for name in self.names(JOURNAL, f"{self.kind}/{about}/")
            if parse_entry_name(name) is not None
        ]
        return Journal.read(self.kind, about, [self.read(JOURNAL, name) for name in names])

    def runs(self) -> list[Mapping[str, Any]]:
        """All pipeline runs, as ARM lists them."""
        cloud = self.cloud
        staging = cloud.machine.app_settings.get("STAGING_REGISTRY_RESOURCE_ID")
        token = cloud.tokens.mint(cloud.owner_principal, "https://management.azure.com/")
        answer = requests.get(
            f"{cloud.url('arm')}{staging or cloud.registry_id}/pipelineRuns",
            params={"api-version": "2025-06-01-preview"},
            headers={"Authorization": f"Bearer {token}"},
            verify=str(self.ca.ca_file),
            timeout=10,
        )
        return list(answer.json()["value"])


def has_succeeded(run: Mapping[str, Any]) -> bool:
    """Whether the properties of a pipeline run say so."""
    return run["response"]["status"] == "Succeeded" and not run["response"].get("pipelineRunErrorMessage")


def untrue(must_hold: Mapping[str, bool], told: str) -> list[str]:
    """Whatever of it does not hold, with what is known besides."""
    return [f"not so: {what} ({told})" for what, holds in must_hold.items() if not holds]


def until(holds: Callable[[], object], what: str, told: Callable[[], str] = lambda: "") -> None:
    """Wait, for a bounded time, until something holds."""
    deadline = time.monotonic() + END_S
    while not holds():
        assert time.monotonic() < deadline, f"{what} did not come: {told()}"
        time.sleep(_POLL_S)


def _services(cloud: Cloud) -> dict[int, str]:
    urls = {
        "storage": cloud.blob_url,
        "table": cloud.machine.storage_url("table", cloud._account),
        "arm": cloud.url("arm"),
        "vault": cloud.url("vault"),
        "registry": f"https://{cloud.registry.login_server}",
    }
    if cloud.staging_registry is not None:
        urls["staging registry"] = f"https://{cloud.staging_registry.login_server}"
    return {int(url.split("/")[2].rpartition(":")[2]): name for name, url in urls.items()}
