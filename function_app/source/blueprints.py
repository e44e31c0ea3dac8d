"""Every function of the source."""

from function_app.source import activities, http_api, orchestrators

BLUEPRINTS = (http_api.bp, orchestrators.bp, activities.bp)
