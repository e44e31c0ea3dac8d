"""The expansion of ARM templates: JSON with parameters in, every resource with every value out.

In reading order: ``language`` reads and evaluates what stands in brackets, ``functions`` are those that it
may call, ``template`` deploys a template and those of its modules, each resource after what it depends on,
``imagined`` answers for Azure where there is none.

What is known only of a deployed resource (the principal of an identity, the endpoints of an account) comes
from a `Provider`. One that deploys what it is given deploys the template; one that makes values up tells what
would be deployed. What is not known here is refused, with its place: nothing is guessed. The language:
https://learn.microsoft.com/azure/azure-resource-manager/templates/template-functions
"""

from infra.expansion.errors import ExpansionError
from infra.expansion.imagined import ImaginedCloud
from infra.expansion.template import Expansion, Group, Memory, Provider, Resource, expand

__all__ = [
    "Expansion",
    "ExpansionError",
    "Group",
    "ImaginedCloud",
    "Memory",
    "Provider",
    "Resource",
    "expand",
]
