"""Azure Resource Manager: deployments of templates, and the resources that they make.

=============== ====================================================================================
`resources`     every resource by its id, and who makes one of each type
`deployments`   templates expanded and deployed, checked before anything is made
`authorization` role assignments and role definitions
`templates`     the JSON in which templates come
`api`           what is asked over HTTPS; pipelines and runs are answered by ``acr_transfer``
=============== ====================================================================================
"""

from local_cloud.resource_manager.api import Tenancy, resource_manager_app
from local_cloud.resource_manager.authorization import check_unique
from local_cloud.resource_manager.deployments import Deployments
from local_cloud.resource_manager.resources import Maker, Resources

__all__ = ["Deployments", "Maker", "Resources", "Tenancy", "check_unique", "resource_manager_app"]
