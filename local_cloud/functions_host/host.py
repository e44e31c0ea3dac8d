"""The host as a whole: one app, one SQLite file, one event loop, one loopback port."""

import asyncio
import logging
import os
import time
from collections.abc import Callable
from pathlib import Path

from aiohttp import web
from azure.durable_functions.models.utils import http_utils

from local_cloud.functions_host import azure_storage
from local_cloud.functions_host.admin_api import AdminApi
from local_cloud.functions_host.app import App
from local_cloud.functions_host.blobs import BlobStorage, BlobTriggers
from local_cloud.functions_host.durable_api import DurableApi
from local_cloud.functions_host.engine import Engine
from local_cloud.functions_host.host_account import HostAccount
from local_cloud.functions_host.http_triggers import MAX_BODY_BYTES, HttpTriggers
from local_cloud.functions_host.invoke import Invoker
from local_cloud.functions_host.store import Store
from local_cloud.functions_host.timers import TimerTriggers
from local_cloud.web import Server, serve

_LOG = logging.getLogger(__name__)


class Host:
    """The host, started once, on the loop on which it lives: the SDK's HTTP session is bound to that."""

    def __init__(
        self,
        app: App,
        *,
        db: Path,
        clock: Callable[[], float] = time.time,
        scan_interval_s: float = 0.5,
        deliver_twice: bool = False,
        connect: Callable[[str], BlobStorage] = azure_storage.connect,
    ) -> None:
        """Opens the file and reads the routes; nothing runs yet.

        Raises:
            AppError: A route, a path, a schedule or a connection that this host cannot serve.
            sqlite3.DatabaseError: The file is not ours, or in use.
        """
        self._app = app
        self._store = Store(db)
        try:
            self._account = account = HostAccount.connect(app.settings.task_hub, os.environ)
            self._invoker = Invoker(app, self._client_binding)
            self.engine = Engine(
                app,
                self._store,
                self._invoker,
                clock=clock,
                deliver_twice=deliver_twice,
                note=account.note if account else None,
            )
            self._api = DurableApi(self.engine, app.settings.task_hub)
            self._http = HttpTriggers(app, self._invoker)
            self.blobs = BlobTriggers(
                app,
                self._store,
                self._invoker,
                connect,
                scan_interval_s=scan_interval_s,
                deliver_twice=deliver_twice,
                queue=account,
            )
            self._timers = TimerTriggers(
                app, self._store, self._invoker, clock=clock, deliver_twice=deliver_twice
            )
            self._admin = AdminApi(app, self._timers)
        except BaseException:
            self._store.close()
            raise
        self._server: Server | None = None
        self._loops: list[asyncio.Task[None]] = []

    def _client_binding(self) -> str:
        return self._api.client_binding()

    async def start(self, port: int = 0) -> str:
        """Serve on 127.0.0.1 and work; returns the URL.

        Raises:
            AppError: The host's own account does not let it in.
            OSError: The port is taken.
        """
        if self._account is not None:
            await asyncio.to_thread(self._account.open)
        application = web.Application(client_max_size=MAX_BODY_BYTES)
        self._api.add_routes(application)
        self._admin.add_routes(application)
        self._http.add_routes(application)
        self._server = await serve(application, port=port)
        self._api.base_url = self._server.url
        working = (self.engine.run(), self.blobs.run(), self._timers.run())
        self._loops = [asyncio.create_task(work) for work in working]
        for function in self._app.functions:
            _LOG.info("%s: %s", function.name, function.trigger)
        return self._server.url

    def wake(self) -> None:
        """Look for work at once, since the clock was moved: orchestrations and timers may have fallen due."""
        self.engine.wake()
        self._timers.wake()

    async def until_broken(self) -> None:
        """Wait until one of the working loops ends, and raise what ended it."""
        await asyncio.gather(*self._loops)

    async def stop(self) -> None:
        """End everything; work that was running starts again with the next host on the same file."""
        for loop in self._loops:
            loop.cancel()
        await asyncio.gather(*self._loops, return_exceptions=True)
        self._invoker.close()
        self.blobs.close()
        if self._server is not None:
            await self._server.close()
        await http_utils._close_session()  # noqa: SLF001 - the SDK offers no public way
        self._store.close()
