"""The signature on what a webhook is sent, by a vector of those who wrote the standard."""

from datetime import UTC, datetime

import pytest

from airgap.errors import Code, ServiceError
from airgap.webhook import WebhookSecrets

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
AT = datetime.fromtimestamp(1614265330, UTC)
BODY = b'{"test": 2432232314}'
SIGNATURE = "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="
"""As ``libraries/javascript/src/webhook.test.ts`` of standard-webhooks has them, at 10d3e46d."""


def test_signature_is_that_of_the_standards_own_vector() -> None:
    assert WebhookSecrets.parse(SECRET).sign("msg_p5jXN8AQM9LWM0D4loKWxJek", BODY, at=AT) == {
        "webhook-id": "msg_p5jXN8AQM9LWM0D4loKWxJek",
        "webhook-timestamp": "1614265330",
        "webhook-signature": SIGNATURE,
    }


def test_old_and_new_secret_both_sign_while_one_is_replaced() -> None:
    other = "whsec_" + "A" * 32
    told = WebhookSecrets.parse(f" {other} {SECRET}\n").sign("msg_p5jXN8AQM9LWM0D4loKWxJek", BODY, at=AT)
    first, second = told["webhook-signature"].split(" ")
    assert (first != second, second) == (True, SIGNATURE)


@pytest.mark.parametrize(
    "text",
    [
        *("", "  ", "whsec_", SECRET.removeprefix("whsec_"), f"{SECRET} hidden", f"{SECRET}!", "whsec_äöü"),
        f"whsec_{'A' * 28}",  # 21 bytes
        f"whsec_{'A' * 88}",  # 66 bytes
        " ".join([SECRET] * 5),
    ],
)
def test_secret_that_is_weak_or_something_else_is_refused_and_not_shown(text: str) -> None:
    with pytest.raises(ServiceError) as refused:
        WebhookSecrets.parse(text)
    assert refused.value.code is Code.SIGNING_FAILED
    assert not any(word in str(refused.value) for word in text.split() if word != "whsec_")


def test_secrets_are_not_shown() -> None:
    assert repr(WebhookSecrets.parse(SECRET)) == "WebhookSecrets()"
