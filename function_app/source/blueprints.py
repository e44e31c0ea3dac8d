"""All functions of the source."""

from function_app import renewing
from function_app.azure.wiring import source_side
from function_app.durable import lanes, waiting
from function_app.durable.blueprint import Blueprint
from function_app.events import delivering
from function_app.http import health, openapi_api, preflight
from function_app.settings import BlobEvents
from function_app.source import (
    activities,
    holdings_api,
    http_api,
    orchestrators,
    orders_api,
    receiving,
    reconciling,
    removing,
    signature_api,
    standing,
    void_api,
)
from function_app.source.openapi import openapi


def blueprints(events: BlobEvents) -> tuple[Blueprint, ...]:
    """The blueprints with all functions of the source; its blob triggers learn of blobs by ``events``."""
    return (
        http_api.bp,
        signature_api.bp,
        void_api.bp,
        holdings_api.bp,
        orders_api.bp,
        receiving.blueprint(events),
        reconciling.bp,
        removing.bp,
        renewing.blueprint("source", source_side),
        standing.bp,
        orchestrators.bp,
        activities.bp,
        waiting.bp,
        lanes.bp,
        delivering.blueprint("source", source_side),
        health.bp,
        preflight.bp,
        openapi_api.blueprint(openapi),
    )
