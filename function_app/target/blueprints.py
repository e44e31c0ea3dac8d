"""Every function of the target."""

from function_app.durable import lanes, waiting
from function_app.target import activities, intake, orchestrators

BLUEPRINTS = (intake.bp, orchestrators.bp, activities.bp, waiting.bp, lanes.bp)
