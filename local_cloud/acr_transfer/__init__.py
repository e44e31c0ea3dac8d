"""ACR Transfer as an emulator: ARM's pipelines and runs of one registry, and transfers really carried out.

Map, in reading order: ``behaviour`` (what is unknown of the service, as switches), ``resources`` (bodies,
parsed once), ``records`` (pipelines and runs, and how ARM shows them), ``arm`` (paths, callers, answers) on
top of ``service`` (state, triggers), ``runs`` (an export, an import), and below them ``content``, ``layout``,
``registry_client``, ``storage``. ``image_imports`` is the other way between registries, without pipelines.
"""

from local_cloud.acr_transfer.arm import TransferApi, arm_app, arm_app_of
from local_cloud.acr_transfer.behaviour import Behaviour
from local_cloud.acr_transfer.image_imports import ImageImports
from local_cloud.acr_transfer.registry_client import RegistryAccess
from local_cloud.acr_transfer.service import AcrTransfer

__all__ = [
    "AcrTransfer",
    "Behaviour",
    "ImageImports",
    "RegistryAccess",
    "TransferApi",
    "arm_app",
    "arm_app_of",
]
