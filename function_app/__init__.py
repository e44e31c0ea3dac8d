"""The Azure Functions app of both sides. The worker imports this package and looks for the one app object.

* :mod:`~function_app.source` and :mod:`~function_app.target`: one side each, registered by ``TRANSFER_ROLE``;
  their ``orchestrators`` hold the order of things, the other modules do them, on the ports
* :mod:`~function_app.ports`: what the app needs of a cloud; :mod:`~function_app.azure` is that in Azure, and
  nothing else knows an SDK of a service
* :mod:`~function_app.durable`: what orchestrations are written in
* :mod:`~function_app.storage`: how the app arranges its storage account
* :mod:`~function_app.journal`: what became of each transfer and import, kept there for good
"""

import os

from function_app.roles import build_app
from function_app.settings import read_blob_events, read_role

app = build_app(read_role(os.environ), read_blob_events(os.environ))

__all__ = ["app"]
