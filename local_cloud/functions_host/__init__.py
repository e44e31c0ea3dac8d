"""A local Azure Functions host: loads the real app and drives its functions; see README.md.

Reading order: `app` (what the app declares) · `invoke` (calls one function as the worker would) · `history`
and `replay` (pure: what an orchestrator's answer means) · `store`, `steps` and `engine` (durable execution) ·
`durable_api`, `http_triggers`, `blobs` (the edges) · `host` (wiring).
"""
