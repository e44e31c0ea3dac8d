"""Calling work off: many activities stop by a note, since nothing else ends an orchestration's children.

Terminating an orchestration leaves its sub-orchestrations running; so does a failed sibling.
https://learn.microsoft.com/azure/azure-functions/durable/durable-functions-instance-management#terminate-instances
"""

from airgap.errors import Code, PolicyRefusal
from function_app.durable.blueprint import Activity
from function_app.messages import Message, Result
from function_app.ports import BlobStore, Ports
from function_app.storage.work_folder import WorkFolder

_NOTE = "stopped"


class Stop(Message, frozen=True):
    """The order to call off the work of ``owner``, the id of an orchestration."""

    owner: str


class Stopped(Result, frozen=True):
    """The result of calling work off: the note is written."""


STOP_WORK = Activity("stop_work", Stop, Stopped)


def stop_work(side: Ports, order: Stop) -> Stopped:
    """The activity that calls work off: no further item of this owner begins.

    Items that are under way end by themselves.
    """
    stop(side.blobs, order.owner)
    return Stopped()


def stop(blobs: BlobStore, owner: str) -> None:
    """Call the work of ``owner`` off by a note in its work folder; a repeat changes nothing."""
    WorkFolder(blobs, owner).create(_NOTE, Stop(owner=owner))


def require_going(blobs: BlobStore, owner: str) -> None:
    """Refuse to go on with the work of ``owner`` once it was called off.

    Raises:
        PolicyRefusal: ``TRANSITION_REFUSED``: it was called off.
    """
    if WorkFolder(blobs, owner).find(_NOTE, Stop) is not None:
        raise PolicyRefusal(Code.TRANSITION_REFUSED, f"the work of {owner} was called off")
