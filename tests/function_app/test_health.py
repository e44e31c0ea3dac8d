"""``GET /api/health``: the real function, with no service to ask and hardly a setting."""

import asyncio
import json

import azure.functions as func
import pytest

import airgap
from function_app.http import health


def call(name: str = "get_health", method: str = "GET", **params: str) -> func.HttpResponse:
    request = func.HttpRequest(method=method, url="https://app/api/health", params=params, body=b"")
    function = getattr(health, name)._function.get_user_function()
    response: func.HttpResponse = asyncio.run(function(req=request))
    return response


@pytest.mark.parametrize("role", ["source", "target"])
def test_app_that_can_do_no_work_yet_says_that_it_is_there_and_nothing_else(
    monkeypatch: pytest.MonkeyPatch, role: str
) -> None:
    monkeypatch.setenv("TRANSFER_ROLE", role)
    monkeypatch.setenv("SIGNING_KEYS", "c2VjcmV0")
    response = call()
    assert (response.status_code, response.headers["Cache-Control"]) == (200, "no-store")
    assert json.loads(response.get_body()) == {"role": role, "version": airgap.__version__}


def test_other_methods_and_parameters_are_refused() -> None:
    assert call("refuse_health_method", method="POST").status_code == 405
    assert call(deep="1").status_code == 400
