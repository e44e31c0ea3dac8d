"""Every function of the target."""

from function_app.durable import lanes, waiting
from function_app.durable.blueprint import Blueprint
from function_app.http import preflight
from function_app.target import activities, http_api, intake, orchestrators, reconciling

BLUEPRINTS: tuple[Blueprint, ...] = (
    http_api.bp,
    intake.bp,
    reconciling.bp,
    orchestrators.bp,
    activities.bp,
    waiting.bp,
    lanes.bp,
    preflight.bp,
)
