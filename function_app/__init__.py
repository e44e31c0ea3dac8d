"""The Azure Functions app of both sides. The worker imports this package and looks for the one app object.

In reading order: :mod:`~function_app.source_orchestrators` and :mod:`~function_app.target_orchestrators` hold
the order of things; the modules named ``*_steps`` do them, on the ports of :mod:`~function_app.ports`; the
modules named ``azure_*`` are those ports in Azure, and nothing else knows an SDK.
"""

import os

from function_app.roles import build_app
from function_app.settings import read_role

app = build_app(read_role(os.environ))

__all__ = ["app"]
