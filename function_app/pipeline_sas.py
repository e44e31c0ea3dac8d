"""The SAS by which a side's pipeline comes to the storage: when it ends, and its renewal.

Where the pipeline comes by its identity there is nothing to do. When and for how long a SAS is renewed says
:mod:`airgap.pipeline_sas`; two rounds at once make two SAS, and both are good.
"""

import logging
from contextlib import suppress
from datetime import datetime

from airgap.errors import AirgapError
from airgap.fields import format_time
from airgap.pipeline_sas import PERMISSIONS, SasVersion, Step, ends_at, is_overdue, next_step, period
from function_app.ports import PipelineSas, Ports
from function_app.settings import Role

_LOG = logging.getLogger(__name__)


def renew(role: Role, side: Ports, *, now: datetime) -> Step | None:
    """Renew the SAS of this side's pipeline if it is time, and log what came of it.

    A round that fails is only logged: the next one tries again. Once a SAS should have been renewed for a
    while, or nothing may be renewed, the line is one that an alert looks for (``monitoring.bicep``).

    Returns:
        What was to be done; ``None`` where that is not known, or nothing is renewed here.
    """
    port = side.pipeline_sas
    if port is None:
        return None
    try:
        newest = port.newest()
    except AirgapError as error:
        # When it ends is not known: to be told at once is better than too late.
        _LOG.warning("the SAS of the pipeline was not renewed: %s: %s", error.code.name, error.detail)
        return None
    step = next_step(newest, now=now)
    match step:
        case Step.LEAVE:
            why = "there is no secret" if newest is None else "its secret is disabled"
            _LOG.warning("the SAS of the pipeline was not renewed: %s", why)
        case Step.RENEW:
            _renew(port, PERMISSIONS[role], newest, now=now)
        case Step.KEEP:
            pass
    return step


def sas_ends_at(side: Ports) -> datetime | None:
    """The end of the SAS of this side's pipeline: by the vault where the app renews it, else by the setting.

    ``None`` where nobody knows, or the pipeline comes by its identity. Where the vault does not answer, the
    setting counts: it says until when the SAS of the deployment was good.
    """
    newest = None
    if side.pipeline_sas is not None:
        with suppress(AirgapError):
            newest = side.pipeline_sas.newest()
    return ends_at(newest, deployed=side.settings.pipeline_sas_expires_at)


def _renew(port: PipelineSas, permissions: str, newest: SasVersion | None, *, now: datetime) -> None:
    valid_from, expires_at = period(now)
    try:
        port.renew(permissions, valid_from=valid_from, expires_at=expires_at)
    except AirgapError as error:
        told = "was not renewed" if is_overdue(newest, now=now) else "will be renewed an hour later"
        _LOG.warning("the SAS of the pipeline %s: %s: %s", told, error.code.name, error.detail)
    else:
        _LOG.info("the SAS of the pipeline is renewed until %s", format_time(expires_at))
