from pathlib import Path

import pytest
import requests

from local_cloud.registry.access import TOKEN_USERNAME
from local_cloud.tokens import STORAGE_AUDIENCE, TokenAuthority
from tests.local_cloud.registry_harness import BACKENDS, Backend, Harness, digest_of

ARM = "https://management.azure.com/"


@pytest.fixture
def registry(tmp_path: Path) -> Harness:
    return Harness(tmp_path, "builtin")


@pytest.fixture(params=BACKENDS)
def either(tmp_path: Path, request: pytest.FixtureRequest) -> Harness:
    backend: Backend = request.param
    return Harness(tmp_path, backend)


def _code(answer: requests.Response) -> str:
    return str(answer.json()["errors"][0]["code"])


@pytest.mark.parametrize(
    ("method", "address", "scope"),
    [
        ("GET", "/v2/", None),
        ("GET", "/v2/_catalog", "registry:catalog:*"),
        ("GET", "/v2/a/b/manifests/1", "repository:a/b:pull"),
        ("HEAD", "/v2/a/blobs/sha256:" + "0" * 64, "repository:a:pull"),
        ("PUT", "/v2/a/manifests/1", "repository:a:pull,push"),
        ("POST", "/v2/a/blobs/uploads/", "repository:a:pull,push"),
        ("DELETE", "/v2/a/manifests/1", "repository:a:delete"),
        ("GET", "/acr/v1/a/b/_tags/1", "repository:a/b:metadata_read"),
        ("GET", "/acr/v1/a/b/_tags", "repository:a/b:metadata_read"),
    ],
)
def test_anonymous_requests_are_sent_for_a_token(
    either: Harness, method: str, address: str, scope: str | None
) -> None:
    answer = either.run(lambda: either.call(method, address, token=None))
    login = either.registry.login_server
    challenge = f'Bearer realm="https://{login}/oauth2/token",service="{login}"'
    assert answer.status_code == 401
    assert answer.headers["WWW-Authenticate"] == challenge + (f',scope="{scope}"' if scope else "")
    if method != "HEAD":
        (error,) = answer.json()["errors"]
        kind, name, actions = scope.split(":") if scope else ("", "", "")
        detail = [{"Type": kind, "Name": name, "Action": action} for action in actions.split(",")]
        assert error["detail"] == (detail if scope else None)


def test_acr_pull_may_pull_and_not_push(either: Harness) -> None:
    def use() -> None:
        either.registry.grant("reader", "AcrPull")
        either.push_image("app", "1")
        token = either.token_of("reader", "repository:app:pull,push")
        assert either.call("GET", "/v2/app/manifests/1", token=token).status_code == 200
        refused = either.push_blob("app", b"more", token=token)
        assert (refused.status_code, _code(refused)) == (401, "UNAUTHORIZED")
        assert 'error="insufficient_scope"' in refused.headers["WWW-Authenticate"]

    either.run(use)


def test_acr_pull_may_read_the_attributes_of_a_tag_and_not_write_them(either: Harness) -> None:
    def use() -> None:
        either.registry.grant("reader", "AcrPull")
        digest = either.push_image("app", "1")
        token = either.token_of("reader", "repository:app:pull,metadata_read")
        told = either.call("GET", "/acr/v1/app/_tags/1", token=token).json()
        assert (told["imageName"], told["tag"]["name"], told["tag"]["digest"]) == ("app", "1", digest)
        assert either.call("GET", "/acr/v1/app/_tags/2", token=token).status_code == 404
        assert either.call("PATCH", "/acr/v1/app/_tags/1", token=token).status_code == 405
        puller = either.token_of("reader", "repository:app:pull")
        assert either.call("GET", "/acr/v1/app/_tags/1", token=puller).status_code == 401

    either.run(use)


def test_acr_push_may_push_and_not_delete(either: Harness) -> None:
    def use() -> None:
        either.registry.grant("writer", "AcrPush")
        digest = either.push_image("app", "1")
        token = either.token_of("writer", "repository:app:pull,push,delete")
        assert either.push_blob("app", b"more", token=token).status_code == 201
        assert either.call("DELETE", f"/v2/app/manifests/{digest}", token=token).status_code == 401

    either.run(use)


def test_a_token_for_one_repository_does_not_open_another(either: Harness) -> None:
    def use() -> None:
        either.registry.grant("reader", "AcrPull")
        either.push_image("secret", "1")
        either.push_image("open", "1")
        token = either.token_of("reader", "repository:open:pull")
        assert either.call("GET", "/v2/open/manifests/1", token=token).status_code == 200
        for address in (
            "/v2/secret/manifests/1",
            "/v2/secret/tags/list",
            "/v2/_catalog",
            "/v2/open/../secret/manifests/1",
        ):
            assert either.call("GET", address, token=token).status_code == 401

    either.run(use)


def test_a_mount_from_a_repository_that_may_not_be_read_is_an_ordinary_upload(either: Harness) -> None:
    def use() -> None:
        either.registry.grant("writer", "AcrPush")
        either.push_image("secret", "1", layer=b"secret layer")
        token = either.token_of("writer", "repository:mine:pull,push")
        address = f"/v2/mine/blobs/uploads/?mount={digest_of(b'secret layer')}&from=secret"
        assert either.call("POST", address, token=token).status_code == 202
        both = either.token_of("writer", "repository:mine:pull,push repository:secret:pull")
        assert either.call("POST", address, token=both).status_code == 201

    either.run(use)


def test_the_catalog_opens_with_its_own_scope(either: Harness) -> None:
    def use() -> list[str]:
        either.registry.grant("reader", "AcrPull")
        either.push_image("app", "1")
        token = either.token_of("reader", "registry:catalog:*")
        return list(either.call("GET", "/v2/_catalog", token=token).json()["repositories"])

    assert either.run(use) == ["app"]


@pytest.mark.parametrize(
    "audience",
    [ARM, ARM.rstrip("/"), "https://management.core.windows.net/", "https://containerregistry.azure.net"],
)
def test_the_exchange_takes_tokens_for_arm_or_for_registries(registry: Harness, audience: str) -> None:
    def use() -> int:
        registry.registry.grant("reader", "AcrPull")
        return registry.exchange(registry.tokens.mint("reader", audience)).status_code

    assert registry.run(use) == 200


@pytest.mark.parametrize(
    ("principal", "audience", "form"),
    [
        ("stranger", ARM, {}),
        ("reader", STORAGE_AUDIENCE, {}),
        ("reader", ARM, {"tenant": "another"}),
        ("reader", ARM, {"service": "other.azurecr.io"}),
        ("reader", ARM, {"grant_type": "password"}),
        ("reader", ARM, {"access_token": "junk"}),
    ],
    ids=["no role", "token for storage", "other tenant", "other registry", "other grant", "junk"],
)
def test_the_exchange_refuses(registry: Harness, principal: str, audience: str, form: dict[str, str]) -> None:
    def use() -> requests.Response:
        registry.registry.grant("reader", "AcrPull")
        return registry.exchange(registry.tokens.mint(principal, audience), **form)

    answer = registry.run(use)
    assert (answer.status_code, _code(answer)) == (401, "UNAUTHORIZED")
    assert "refresh_token" not in answer.json()


def test_another_tenants_token_is_refused(registry: Harness) -> None:
    def use() -> int:
        registry.registry.grant("reader", "AcrPull")
        return registry.exchange(TokenAuthority(clock=registry.clock).mint("reader", ARM)).status_code

    assert registry.run(use) == 401


def test_an_expired_access_token_is_named_invalid(registry: Harness) -> None:
    def use() -> requests.Response:
        registry.registry.grant("reader", "AcrPull")
        token = registry.token_of("reader", "repository:app:pull")
        registry.clock.now += 2 * 3600
        return registry.call("GET", "/v2/app/manifests/1", token=token)

    answer = registry.run(use)
    assert answer.status_code == 401
    assert answer.headers["WWW-Authenticate"].endswith('scope="repository:app:pull",error="invalid_token"')


def test_one_kind_of_token_does_not_pass_for_another(registry: Harness) -> None:
    def use() -> list[int]:
        registry.registry.grant("reader", "AcrPull")
        entra = registry.tokens.mint("reader", ARM)
        refresh = registry.exchange(entra).json()["refresh_token"]
        access = registry.access_token(refresh, "repository:app:pull")
        form = {
            "grant_type": "refresh_token",
            "service": registry.registry.login_server,
            "refresh_token": access,
        }
        return [
            registry.call("GET", "/v2/", token=entra).status_code,
            registry.call("GET", "/v2/", token=refresh).status_code,
            registry.call("POST", "/oauth2/token", data=form, token=None).status_code,
            registry.call("GET", "/v2/", token=access).status_code,
        ]

    assert registry.run(use) == [401, 401, 401, 200]


def test_a_token_of_another_registry_is_refused(tmp_path: Path) -> None:
    one, other = Harness(tmp_path / "one", "builtin"), Harness(tmp_path / "other", "builtin")

    def take() -> str:
        one.registry.grant("reader", "AcrPull")
        return one.token_of("reader", "repository:app:pull")

    token = one.run(take)
    assert other.run(lambda: other.call("GET", "/v2/app/manifests/1", token=token)).status_code == 401


def test_docker_login_gets_a_token_with_the_admin_password_or_a_refresh_token(registry: Harness) -> None:
    def use() -> list[int]:
        registry.registry.grant("reader", "AcrPull")
        refresh = registry.exchange(registry.tokens.mint("reader", ARM)).json()["refresh_token"]
        address = f"/oauth2/token?service={registry.registry.login_server}&scope=repository:app:pull"
        return [
            registry.call("GET", address).status_code,
            registry.call("GET", address, auth=(TOKEN_USERNAME, refresh)).status_code,
            registry.call("GET", address, auth=(TOKEN_USERNAME, "guess")).status_code,
            registry.call("GET", address, auth=("srcreg", "guess")).status_code,
            registry.call("GET", address, auth=("", "")).status_code,
            registry.call("GET", address, token=None).status_code,
            registry.call("GET", "/oauth2/token?service=other").status_code,
        ]

    assert registry.run(use) == [200, 200, 401, 401, 401, 401, 401]


@pytest.mark.parametrize(
    "header", ["Basic", "Basic !", "Basic w6k6w6k=", "Bearer", "Bearer é", "Digest x", "basic Og=="]
)
def test_malformed_credentials_are_refused(registry: Harness, header: str) -> None:
    def use() -> requests.Response:
        return registry.call("GET", "/v2/", token=None, headers={"Authorization": header.encode()})

    answer = registry.run(use)
    assert (answer.status_code, _code(answer)) == (401, "UNAUTHORIZED")


@pytest.mark.parametrize(
    ("body", "status"),
    [(b"\xff\xfe", 401), (b"&" * 1000, 401), (b"a=" + b"x" * 100_000, 413), (b"grant_type=%ff%fe", 401)],
    ids=["not text", "no fields", "huge", "not utf-8"],
)
def test_malformed_forms_are_refused(registry: Harness, body: bytes, status: int) -> None:
    def use() -> set[int]:
        headers = {"Content-Type": "application/x-www-form-urlencoded"}
        return {
            registry.call("POST", address, data=body, headers=headers, token=None).status_code
            for address in ("/oauth2/exchange", "/oauth2/token")
        }

    assert registry.run(use) == {status}


def test_an_unknown_role_cannot_be_granted(registry: Harness) -> None:
    def use() -> None:
        registry.registry.grant("reader", "Owner")  # type: ignore[arg-type]  # the point of the test

    with pytest.raises(ValueError, match="not a registry role"):
        registry.run(use)
