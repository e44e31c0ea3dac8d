"""Signs of life: log lines by which alerts tell somebody, in ``infra/modules/monitoring.bicep``."""

import logging
from datetime import datetime

from airgap.fields import format_time
from airgap.readiness import SAS_LEFT
from airgap.states import Kind
from function_app.settings import Settings

_LOG = logging.getLogger(__name__)


def tell_of_round(kind: Kind, settings: Settings, now: datetime) -> None:
    """Log that a reconciler's round has ended, and what is known to run out, such as a SAS.

    Of a SAS that the app renews :mod:`function_app.renewing` tells.
    """
    expires_at = None if settings.pipeline_sas_secret else settings.pipeline_sas_expires_at
    if expires_at is not None and expires_at - now < SAS_LEFT:
        _LOG.warning("the SAS of the pipeline expires at %s", format_time(expires_at))
    _LOG.info("reconciled: %s", kind)
