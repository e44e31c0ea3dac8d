"""Two Azure clouds on one machine, for trying out and for tests. Never deployed; nothing imports it.

It stands in for Azure at the network, so that the product never knows: real servers, HTTPS with a CA of its
own, tokens, on loopback only. `cloud.Cloud` is one side with all of it, `demo` carries artifacts across.

A side is deployed from its template of `infra/`. What only this machine adds is the certificate authority,
the port in `ARM_ENDPOINT`, and what `infra/parameters/local.json` says: a key in software, and pipeline
runs that are asked after every second. The Functions host keeps its state in a file, not in the host account.

================== ========================================================================
`resource_manager` ARM: deployments of templates, resources, role assignments
`machine`          what the resources of a template are here, on `roles` (Azure's role definitions)
`azurite`          storage accounts: Microsoft's Azurite
`storage_front`    stands before it: verifies tokens, asks for roles, holds immutable what is
`acr_transfer`     its export pipelines, import pipelines, pipeline runs
`registry`         the registry's data plane, and the storage that it sends to for blobs
`key_vault`        secrets, and keys that sign
`identity`         the managed-identity endpoint of App Service, on `tokens` (Microsoft Entra)
`sign_in`          the token endpoint at which tools sign in: `az`, the SDKs
`app_service`      the app's host name with TLS and keys, and the site that takes its package
`functions_host`   Functions host and Durable Functions, for the real app on the real SDK
================== ========================================================================
"""
