"""Every function of the source."""

from function_app.durable import lanes, waiting
from function_app.durable.blueprint import Blueprint
from function_app.http import preflight
from function_app.source import activities, http_api, orchestrators, receiving, reconciling

BLUEPRINTS: tuple[Blueprint, ...] = (
    http_api.bp,
    receiving.bp,
    reconciling.bp,
    orchestrators.bp,
    activities.bp,
    waiting.bp,
    lanes.bp,
    preflight.bp,
)
