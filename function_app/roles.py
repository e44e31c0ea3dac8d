"""The app of one side: ``TRANSFER_ROLE`` decides which functions there are."""

import azure.durable_functions as df

from function_app.settings import Role


def build_app(role: Role) -> df.DFApp:
    """An app object with the functions of ``role``; those of the other side are not even imported."""
    app = df.DFApp()
    if role == "source":
        from function_app.source.blueprints import BLUEPRINTS  # noqa: PLC0415 - by role
    else:
        from function_app.target.blueprints import BLUEPRINTS  # noqa: PLC0415 - by role
    for blueprint in BLUEPRINTS:
        app.register_functions(blueprint)
    return app
