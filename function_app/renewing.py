"""The timer that renews the SAS by which a side's pipeline comes to the storage."""

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime

import azure.functions as func

from function_app.durable.blueprint import Blueprint
from function_app.pipeline_sas import renew
from function_app.ports import Ports
from function_app.settings import Role


def blueprint(role: Role, side: Callable[[], Ports]) -> Blueprint:
    """The blueprint with the timer of a side; ``side`` gives its ports once they are needed."""
    bp = Blueprint()

    @bp.timer_trigger(arg_name="tick", schedule="0 23 * * * *")
    async def renew_pipeline_sas(tick: func.TimerRequest) -> None:
        """The timer of the renewal, every hour; days are left in which to try it again."""
        del tick
        await asyncio.to_thread(renew, role, side(), now=datetime.now(UTC))

    return bp
