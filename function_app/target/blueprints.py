"""All functions of the target."""

from function_app import renewing
from function_app.azure.wiring import target_side
from function_app.durable import lanes, waiting
from function_app.durable.blueprint import Blueprint
from function_app.events import delivering
from function_app.http import health, openapi_api, preflight
from function_app.settings import BlobEvents
from function_app.target import activities, http_api, intake, orchestrators, reconciling, removing, ticket_api
from function_app.target.openapi import openapi


def blueprints(events: BlobEvents) -> tuple[Blueprint, ...]:
    """The blueprints with all functions of the target; its blob triggers learn of blobs by ``events``."""
    return (
        http_api.bp,
        ticket_api.bp,
        intake.blueprint(events),
        reconciling.bp,
        removing.bp,
        renewing.blueprint("target", target_side),
        orchestrators.bp,
        activities.bp,
        waiting.bp,
        lanes.bp,
        delivering.blueprint("target", target_side),
        health.bp,
        preflight.bp,
        openapi_api.blueprint(openapi),
    )
