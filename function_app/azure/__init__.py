"""The ports in Azure. Nothing else of the app imports an SDK of a service."""
