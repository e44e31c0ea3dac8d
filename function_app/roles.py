"""The app of one side: ``TRANSFER_ROLE`` decides which functions there are."""

import azure.durable_functions as df

from function_app.settings import Role


def build_app(role: Role) -> df.DFApp:
    """An app object with the functions of ``role``; those of the other side are not even imported."""
    app = df.DFApp()
    if role == "source":
        from function_app import http_api, source_activities, source_orchestrators  # noqa: PLC0415 - by role

        blueprints = (http_api.bp, source_orchestrators.bp, source_activities.bp)
    else:
        from function_app import intake, target_activities, target_orchestrators  # noqa: PLC0415 - by role

        blueprints = (intake.bp, target_orchestrators.bp, target_activities.bp)
    for blueprint in blueprints:
        app.register_functions(blueprint)
    return app
