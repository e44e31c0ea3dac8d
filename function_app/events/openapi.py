"""The webhook in the OpenAPI documents of both sides: what a receiver of events is sent."""

from airgap.webhook import CLOUD_EVENT
from function_app.events.cloud_event import CloudEvent
from function_app.http.openapi import Told

STATE_CHANGED = Told(
    name="stateChanged",
    summary="A transfer, import, ticket, removal or standing order has come to another state",
    description="Sent to the setting `EVENTS_WEBHOOK_URL`, at least once. Signed by Standard Webhooks 1.0 "
    "(https://www.standardwebhooks.com): check that before anything else, and drop doubles by `id`.",
    body=CloudEvent,
    content_type=CLOUD_EVENT,
    headers={
        "webhook-id": "The event's `id`.",
        "webhook-timestamp": "When this try was made, in seconds since 1970.",
        "webhook-signature": "`v1,` and the base64 of HMAC-SHA256 over id, timestamp and body with dots "
        "between; several while a secret is replaced, blanks between.",
    },
)
