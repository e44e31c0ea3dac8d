"""The stand-in for an Azure Container Registry's data plane: an OCI registry behind ACR's tokens.

In reading order: `addresses` (what a path means), `access` (who may do what), `front` (the `Registry`
itself), `own_api` (ACR's own API, below ``/acr/v1/``), and behind them one of two stores: `builtin` (with
`manifests`, `storage` and `content_host`), or, where a test asks for it, `debian`, which runs Debian's
docker-registry.
"""

from local_cloud.registry.front import Registry

__all__ = ["Registry"]
