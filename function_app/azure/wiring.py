"""The ports of this process, built from the environment when first needed, and once.

The adapters are imported then, too, and not with this module, which every function imports: they bring the
SDKs of the services, a fifth of what the app takes to start (``bench/README.md``). So the worker can tell the
host sooner which functions there are.
"""

import os
from collections.abc import Mapping
from functools import cache

from function_app.ports import Ports, SourceSide, TargetSide
from function_app.settings import SourceSettings, TargetSettings, read_role


@cache
def source_settings() -> SourceSettings:
    """The settings of the source, read from the environment once.

    Raises:
        OperatorError: ``SETTING_INVALID``, naming the setting at fault.
    """
    return SourceSettings.from_environment(os.environ)


@cache
def source_side() -> SourceSide:
    """The source's settings and ports, made once from the environment; raises as :func:`source_settings`."""
    from function_app.azure.adapters import ports_of  # noqa: PLC0415 - see above

    settings = source_settings()
    return SourceSide(settings=settings, **ports_of(settings))


@cache
def target_side() -> TargetSide:
    """The target's settings and ports, made once from the environment.

    Raises:
        OperatorError: ``SETTING_INVALID``, naming the setting at fault.
    """
    from function_app.azure.adapters import target_side_of  # noqa: PLC0415 - see above

    return target_side_of(TargetSettings.from_environment(os.environ))


@cache
def surveyed_side() -> tuple[Ports | None, Mapping[str, str]]:
    """The ports of this side, and what is wrong with each faulty setting, for whoever puts them right.

    The ports are ``None`` if anything is wrong but the trust policy, which no port needs.
    """
    kind = SourceSettings if read_role(os.environ) == "source" else TargetSettings
    settings, faults = kind.survey(os.environ)
    is_enough = not faults.keys() - {"TRUST_POLICY"}
    if not is_enough:
        return None, faults
    from function_app.azure.adapters import ports_of, target_side_of  # noqa: PLC0415 - see above

    if isinstance(settings, TargetSettings):
        return target_side_of(settings), faults
    return Ports(settings=settings, **ports_of(settings)), faults
