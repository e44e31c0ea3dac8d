"""The app of one side: ``TRANSFER_ROLE`` decides which functions there are."""

import azure.durable_functions as df

from function_app.settings import BlobEvents, Role


def build_app(role: Role, events: BlobEvents = "poll") -> df.DFApp:
    """An app object with the functions of the side ``role``; those of the other are not even imported.

    Args:
        role: the side.
        events: the way in which its blob triggers learn of blobs.
    """
    app = df.DFApp()
    if role == "source":
        from function_app.source.blueprints import blueprints  # noqa: PLC0415 - by role
    else:
        from function_app.target.blueprints import blueprints  # noqa: PLC0415 - by role
    for blueprint in blueprints(events):
        app.register_functions(blueprint)
    return app
