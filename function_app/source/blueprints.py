"""Every function of the source."""

from function_app.durable import lanes, waiting
from function_app.source import activities, http_api, orchestrators

BLUEPRINTS = (http_api.bp, orchestrators.bp, activities.bp, waiting.bp, lanes.bp)
