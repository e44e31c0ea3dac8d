"""What the app logs only so that somebody is told by an alert: ``infra/modules/monitoring.bicep``."""

import logging
from datetime import datetime

from airgap.fields import format_time
from airgap.readiness import SAS_LEFT
from airgap.states import Kind
from function_app.settings import Settings

_LOG = logging.getLogger(__name__)


def tell_of_round(kind: Kind, settings: Settings, now: datetime) -> None:
    """Log at the end of a reconciler's round that it came, and what it knows to be running out."""
    expires_at = settings.pipeline_sas_expires_at
    if expires_at is not None and expires_at - now < SAS_LEFT:
        _LOG.warning("the SAS of the pipeline expires at %s", format_time(expires_at))
    _LOG.info("reconciled: %s", kind)
