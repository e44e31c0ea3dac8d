import http.client
import ssl
import time
import uuid
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any
from urllib.parse import urlsplit

import jwt
import pytest
from azure.core import MatchConditions
from azure.core.exceptions import HttpResponseError, ResourceExistsError
from azure.storage.blob import BlobBlock, BlobServiceClient, ContainerClient
from cryptography.hazmat.primitives.asymmetric import ec

from local_cloud.storage_front import RoleDefinition
from local_cloud.tokens import KEY_VAULT_AUDIENCE, STORAGE_AUDIENCE, TokenAuthority
from tests.local_cloud.acr_transfer_harness import needs_azurite
from tests.local_cloud.front_harness import DAYS, EVIDENCE, Fronted, fronted

pytestmark = [pytest.mark.e2e, needs_azurite]
READER = "Storage Blob Data Reader"
CONTRIBUTOR = "Storage Blob Data Contributor"
OWNER = "Storage Blob Data Owner"
FORBIDDEN, UNAUTHORIZED = 403, 401


@pytest.fixture(scope="module")
def account(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fronted]:
    with fronted(tmp_path_factory.mktemp("front")) as made:
        yield made


@pytest.fixture
def somebody() -> str:
    return str(uuid.uuid4())


def refusal(error: HttpResponseError) -> tuple[int | None, str]:
    answer: Any = error.response
    return error.status_code, answer.headers["x-ms-error-code"]


def assert_refused(expected: tuple[int, str], *attempts: Callable[[], object]) -> None:
    for attempt in attempts:
        with pytest.raises(HttpResponseError) as raised:
            attempt()
        assert refusal(raised.value) == expected


MISMATCH = (FORBIDDEN, "AuthorizationPermissionMismatch")
INVALID = (UNAUTHORIZED, "InvalidAuthenticationInfo")


# -- tokens


def forged(tokens: TokenAuthority) -> str:
    """All as it should be, but signed by somebody else."""
    claims = jwt.decode(tokens.mint("p", STORAGE_AUDIENCE), options={"verify_signature": False})
    return jwt.encode(claims, ec.generate_private_key(ec.SECP256R1()), algorithm="ES256")


def of_another_tenant(tokens: TokenAuthority) -> str:
    """Entra's keys sign for all tenants: only the claims say which."""
    claims = {"aud": STORAGE_AUDIENCE, "oid": "p", "sub": "p"}
    other = TokenAuthority()
    return tokens._key.sign({**claims, "iss": other.issuer, "tid": other.tenant_id}, lifetime_s=60)


def not_yet(tokens: TokenAuthority) -> str:
    """From the same key, by a clock that is ahead."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tokens._key, "_clock", lambda: time.time() + 3600)
        return tokens.mint("p", STORAGE_AUDIENCE)


WRONG_TOKENS: dict[str, Callable[[TokenAuthority], str]] = {
    "forged": forged,
    "of another tenant": of_another_tenant,
    "of a tenant with other keys": lambda _: TokenAuthority().mint("p", STORAGE_AUDIENCE),
    "for another service": lambda tokens: tokens.mint("p", KEY_VAULT_AUDIENCE),
    "expired": lambda tokens: tokens.mint("p", STORAGE_AUDIENCE, lifetime_s=0),
    "not in force yet": not_yet,
    "unsigned": lambda tokens: jwt.encode(
        jwt.decode(tokens.mint("p", STORAGE_AUDIENCE), options={"verify_signature": False}),
        "",
        algorithm="none",
    ),
    "no token": lambda _: "abc",
}


@pytest.mark.parametrize("wrong", WRONG_TOKENS)
def test_wrong_token_neither_lists_nor_reads_nor_writes(account: Fronted, wrong: str) -> None:
    name = account.container()
    account.assign("p", OWNER)
    with account.blobs_by(WRONG_TOKENS[wrong](account.tokens)) as blobs:
        container = blobs.get_container_client(name)
        assert_refused(
            INVALID,
            lambda: list(container.list_blobs()),
            lambda: container.upload_blob("a", b"a"),
            lambda: container.download_blob("a"),
        )


def test_refused_token_is_told_where_to_get_one(account: Fronted) -> None:
    answer = account.send("GET", "/x/y", None, {"Authorization": f"Bearer {forged(account.tokens)}"})
    assert answer.status_code == UNAUTHORIZED
    assert answer.headers["WWW-Authenticate"] == (
        f"Bearer authorization_uri=https://login.microsoftonline.com/{account.tokens.tenant_id}/oauth2/authorize"
        " resource_id=https://storage.azure.com"
    )
    assert answer.headers["x-ms-error-code"] == "InvalidAuthenticationInfo"
    assert answer.headers["x-ms-request-id"] in answer.text
    assert "<AuthenticationErrorDetail>Signature validation failed" in answer.text


def test_audience_with_slash_is_the_same(account: Fronted, somebody: str) -> None:
    name = account.container()
    account.assign_on(somebody, READER, name)
    with account.blobs_by(account.tokens.mint(somebody, f"{STORAGE_AUDIENCE}/")) as blobs:
        assert list(blobs.get_container_client(name).list_blobs()) == []


@pytest.mark.parametrize(
    ("headers", "status", "code"),
    [
        ({}, 401, "NoAuthenticationInformation"),
        ({"x-ms-version": "2018-11-09"}, 409, "PublicAccessNotPermitted"),
        ({"Authorization": "Basic eDp5"}, 401, "InvalidAuthenticationInfo"),
        ({"Authorization": "Bearer\tabc"}, 401, "InvalidAuthenticationInfo"),
    ],
)
def test_nobody_comes_in_without_credentials(
    account: Fronted, headers: dict[str, str], status: int, code: str
) -> None:
    answer = account.send("GET", "/container1?restype=container&comp=list", None, headers)
    assert (answer.status_code, answer.headers["x-ms-error-code"]) == (status, code)


# -- roles


def test_reader_lists_and_reads_and_changes_nothing(account: Fronted, somebody: str) -> None:
    name = account.container()
    with account.azurite.service_client() as service:
        service.get_blob_client(name, "a").upload_blob(b"content")
    account.assign_on(somebody, READER, name)
    with account.blobs(somebody) as blobs:
        container = blobs.get_container_client(name)
        assert [blob.name for blob in container.list_blobs()] == ["a"]
        blob = container.get_blob_client("a")
        assert blob.download_blob(offset=2, length=3).readall() == b"nte"
        assert blob.get_blob_properties().size == len(b"content")
        assert_refused(
            MISMATCH,
            lambda: blob.upload_blob(b"b", overwrite=True),
            lambda: container.upload_blob("b", b"b"),
            lambda: blob.stage_block("MDAw", b"b"),
            lambda: blob.set_blob_metadata({"a": "b"}),
            blob.acquire_lease,
            blob.create_snapshot,
            lambda: blob.set_standard_blob_tier("Cool"),
            blob.delete_blob,
            container.delete_container,
            lambda: blobs.create_container("another"),
        )
        assert blob.download_blob().readall() == b"content"


def test_contributor_of_one_container_may_nothing_in_another(account: Fronted, somebody: str) -> None:
    own, other = account.container(), account.container()
    account.assign_on(somebody, CONTRIBUTOR, own)
    with account.blobs(somebody) as blobs:
        blobs.get_blob_client(own, "a").upload_blob(b"a")
        blobs.get_blob_client(own, "a").delete_blob()
        assert_refused(
            MISMATCH,
            lambda: blobs.get_blob_client(other, "a").upload_blob(b"a"),
            lambda: blobs.get_blob_client(other, "a").download_blob(),
            lambda: list(blobs.get_container_client(other).list_blobs()),
            lambda: list(blobs.list_containers()),
        )


def test_containers_whose_name_begins_alike_are_others(account: Fronted, somebody: str) -> None:
    name = account.container()
    account.azurite.ensure_containers(f"{name}-more")
    account.assign_on(somebody, READER, name)
    with account.blobs(somebody) as blobs, pytest.raises(HttpResponseError) as raised:
        list(blobs.get_container_client(f"{name}-more").list_blobs())
    assert refusal(raised.value) == MISMATCH


def test_role_that_is_taken_away_is_gone_at_once(account: Fronted, somebody: str) -> None:
    name = account.container()
    given = account.assign_on(somebody, READER, name)
    with account.blobs(somebody) as blobs:
        container = blobs.get_container_client(name)
        list(container.list_blobs())
        account.front.assignments.remove(given)
        with pytest.raises(HttpResponseError) as raised:
            list(container.list_blobs())
    assert refusal(raised.value) == MISMATCH


def test_role_on_the_account_holds_for_all_of_it(account: Fronted, somebody: str) -> None:
    name = account.container()
    account.assign(
        somebody, "/subscriptions/s/providers/x/roleDefinitions/2a2b9908-6ea1-4ae2-8e65-a410df84e7d1"
    )
    with account.blobs(somebody) as blobs:
        assert name in {container.name for container in blobs.list_containers()}
        assert list(blobs.get_container_client(name).list_blobs()) == []


def test_unknown_role_is_not_assigned(account: Fronted) -> None:
    with pytest.raises(ValueError, match="not a role"):
        account.assign("p", "Storage Blob Data Reade")


def adder(account: Fronted, principal: str, container: str) -> None:
    """Give the right to add blobs, and no other."""
    role = RoleDefinition(
        name="Adder",
        guid="00000000-0000-0000-0000-00000000add0",
        allows=("Microsoft.Storage/storageAccounts/blobServices/containers/blobs/add/action",),
    )
    account.front.assignments.define(role)
    account.assign_on(principal, "Adder", container)


def test_who_may_only_add_creates_and_replaces_nothing(account: Fronted, somebody: str) -> None:
    name = account.container()
    adder(account, somebody, name)
    with account.blobs(somebody) as blobs:
        blob = blobs.get_blob_client(name, "a")
        blob.upload_blob(b"first")  # If-None-Match: *
        account.send("PUT", f"/{name}/b", somebody, {"x-ms-blob-type": "BlockBlob"}, data=b"1")
        with pytest.raises(ResourceExistsError) as exists:
            blob.upload_blob(b"second")
        assert refusal(exists.value) == (409, "BlobAlreadyExists")
        assert_refused(
            MISMATCH,
            lambda: blob.upload_blob(b"second", overwrite=True),
            lambda: blob.stage_block("MDAw", b"b"),
            blob.download_blob,
            blob.delete_blob,
        )
    with account.azurite.service_client() as service:
        assert service.get_blob_client(name, "a").download_blob().readall() == b"first"
        assert service.get_blob_client(name, "b").download_blob().readall() == b"1"


def test_who_may_only_add_appends_to_a_log(account: Fronted, somebody: str) -> None:
    name = account.container()
    adder(account, somebody, name)
    with account.azurite.service_client() as service, account.blobs(somebody) as blobs:
        service.get_blob_client(name, "log").create_append_blob()
        blobs.get_blob_client(name, "log").append_block(b"line")
        assert_refused(MISMATCH, blobs.get_blob_client(name, "log").download_blob)
        assert service.get_blob_client(name, "log").download_blob().readall() == b"line"


# -- copies


def test_copy_needs_reading_there_and_writing_here(account: Fronted, somebody: str) -> None:
    source, target = account.container(), account.container()
    with account.azurite.service_client() as service:
        service.get_blob_client(source, "a").upload_blob(b"content")
    account.assign_on(somebody, CONTRIBUTOR, target)
    with account.blobs(somebody) as blobs:
        url = blobs.get_blob_client(source, "a").url
        copy = blobs.get_blob_client(target, "a")
        with pytest.raises(HttpResponseError) as raised:
            copy.start_copy_from_url(url)
        assert refusal(raised.value) == MISMATCH
        reads = account.assign_on(somebody, READER, source)
        assert copy.start_copy_from_url(url)["copy_status"] == "success"
        assert copy.download_blob().readall() == b"content"
        account.front.assignments.remove(reads)
        account.assign_on(somebody, CONTRIBUTOR, source)
        with pytest.raises(HttpResponseError) as raised:
            blobs.get_blob_client(account.container(), "a").start_copy_from_url(url)
        assert refusal(raised.value) == MISMATCH


def test_sas_for_the_copy_is_none_for_what_is_copied(account: Fronted) -> None:
    source, target = account.container(), account.container()
    with account.azurite.service_client() as service:
        service.get_blob_client(source, "a").upload_blob(b"content")
    with BlobServiceClient(
        account.blob_url,
        credential=account.sas(target, "rcw"),
        connection_verify=str(account.azurite.ca_file),
        retry_total=0,
    ) as blobs:
        copy, url = blobs.get_blob_client(target, "a"), f"{account.blob_url}/{source}/a"
        for unreadable in (url, f"{url}?{account.sas(target, 'r')}", f"{url}?{account.sas(source, 'w')}"):
            assert_refused((404, "CannotVerifyCopySource"), partial(copy.start_copy_from_url, unreadable))
        copy.start_copy_from_url(f"{url}?{account.sas(source, 'r')}")
        assert copy.download_blob().readall() == b"content"


# -- SAS


def test_sas_is_checked_by_azurite_as_ever(account: Fronted) -> None:
    name, other = account.container(), account.container()
    verify = str(account.azurite.ca_file)

    def client(container: str, sas: str) -> ContainerClient:
        return ContainerClient(
            account.blob_url, container, credential=sas, connection_verify=verify, retry_total=0
        )

    with client(name, account.sas(name, "rcwl")) as container:
        container.upload_blob("a", b"content")
        container.get_blob_client("b").stage_block("MDAw", b"block")
        container.get_blob_client("b").commit_block_list([BlobBlock("MDAw")])
        assert container.download_blob("a").readall() == b"content"
        assert [blob.name for blob in container.list_blobs()] == ["a", "b"]
        with pytest.raises(HttpResponseError) as raised:
            container.delete_blob("a")
        assert refusal(raised.value) == (FORBIDDEN, "AuthorizationPermissionMismatch")
    for container_name, sas in (
        (other, account.sas(name, "rl")),
        (name, account.sas(name, "rl", key="bm90IGl0cyBrZXk=")),
    ):
        with client(container_name, sas) as container, pytest.raises(HttpResponseError) as raised:
            list(container.list_blobs())
        assert refusal(raised.value) == (FORBIDDEN, "AuthenticationFailed")


def test_account_key_works_through_the_front(account: Fronted) -> None:
    name = account.container()
    with BlobServiceClient(
        account.blob_url,
        credential={"account_name": account.azurite.account, "account_key": account.azurite.key},
        connection_verify=str(account.azurite.ca_file),
    ) as service:
        service.get_blob_client(name, "ä b/c+d%25").upload_blob(b"a")
        assert [blob.name for blob in service.get_container_client(name).list_blobs()] == ["ä b/c+d%25"]
        assert service.get_blob_client(name, "ä b/c+d%25").download_blob().readall() == b"a"


def test_sas_of_a_delegation_key_allows_no_more_than_who_delegates_may(
    account: Fronted, somebody: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(account.account, "allows_keys", False)
    name = account.container()
    given = account.assign(somebody, CONTRIBUTOR)
    with account.blobs(somebody) as blobs:
        sas = account.delegated_sas(blobs, name, "rcwl")
    account.front.assignments.remove(given)
    account.assign_on(somebody, READER, name)
    with ContainerClient(
        account.blob_url,
        name,
        credential=sas,
        connection_verify=str(account.azurite.ca_file),
        retry_total=0,
    ) as container:
        assert list(container.list_blobs()) == []
        assert_refused(MISMATCH, partial(container.upload_blob, "a", b"a"))
        account.assign_on(somebody, CONTRIBUTOR, name)
        container.upload_blob("a", b"a")
        assert_refused(MISMATCH, partial(container.delete_blob, "a"))  # not in the SAS


def test_delegation_key_is_given_to_whoever_has_a_role_on_the_whole_account(
    account: Fronted, somebody: str
) -> None:
    name = account.container()
    account.assign_on(somebody, OWNER, name)
    with account.blobs(somebody) as blobs:
        assert_refused(MISMATCH, partial(account.delegated_sas, blobs, name, "r"))
        account.assign(somebody, READER)
        assert "skoid" in account.delegated_sas(blobs, name, "r")


# -- tables and queues


def test_table_roles(account: Fronted, somebody: str) -> None:
    account.azurite.ensure_table("journal")
    account.azurite.ensure_table("secret")
    reader = str(uuid.uuid4())
    account.assign(somebody, "Storage Table Data Contributor", "/tableServices/default/tables/journal")
    account.assign(reader, "Storage Table Data Reader", "/tableServices/default/tables/journal")
    entity = {"PartitionKey": "p", "RowKey": "a (b) c's", "x": 1}
    with account.tables(somebody) as tables, account.tables(reader) as readers:
        table = tables.get_table_client("journal")
        table.create_entity(entity)
        table.upsert_entity(entity | {"x": 2})
        found = table.get_entity("p", "a (b) c's")
        table.update_entity(
            entity | {"x": 3}, etag=found.metadata["etag"], match_condition=MatchConditions.IfNotModified
        )
        assert [row["x"] for row in readers.get_table_client("journal").query_entities("x eq 3")] == [3]
        assert_refused(
            MISMATCH,
            lambda: readers.get_table_client("journal").create_entity(entity | {"RowKey": "b"}),
            lambda: readers.get_table_client("journal").delete_entity(entity),
            lambda: list(tables.get_table_client("secret").list_entities()),
            lambda: tables.get_table_client("secret").create_entity(entity),
            lambda: tables.create_table("another"),
            lambda: list(tables.list_tables()),
        )
        table.delete_entity(entity)


def test_queue_roles(account: Fronted, somebody: str) -> None:
    account.assign(somebody, "Storage Queue Data Contributor", "/queueServices/default/queues/mine")
    sender, stranger = str(uuid.uuid4()), str(uuid.uuid4())
    account.assign(sender, "Storage Queue Data Message Sender", "/queueServices/default/queues/mine")

    def status(method: str, path: str, who: str, data: bytes | None = None) -> int:
        return account.send(method, path, who, service="queue", data=data).status_code

    message = b"<QueueMessage><MessageText>a</MessageText></QueueMessage>"
    assert status("PUT", "/mine", sender) == FORBIDDEN
    assert status("PUT", "/mine", somebody) == 201
    assert status("POST", "/mine/messages", stranger, message) == FORBIDDEN
    assert status("POST", "/mine/messages", sender, message) == 201
    assert status("GET", "/mine/messages?peekonly=true", sender) == FORBIDDEN
    assert status("GET", "/mine/messages", sender) == FORBIDDEN
    assert status("GET", "/mine/messages", somebody) == 200
    assert status("DELETE", "/mine/messages", sender) == FORBIDDEN
    assert status("DELETE", "/mine/messages", somebody) == 204
    assert status("PUT", "/other", somebody) == FORBIDDEN
    assert status("DELETE", "/mine", somebody) == 204


# -- ways around


@pytest.mark.parametrize(
    "path",
    [
        "/{own}/../{other}/a",
        "/{own}/%2e%2e/{other}/a",
        "/{own}/..%2f{other}/a",
        "/{own}%2f..%2f{other}/a",
        "/{own}/..\\{other}/a",
        "//{other}/a",
        "/{other}/a?comp=metadata&comp=list",
        "/{other}/a?restype=container",
        "-secondary/{other}/a",
    ],
)
def test_no_spelling_of_a_path_leads_into_another_container(
    account: Fronted, somebody: str, path: str
) -> None:
    own, other = account.container(), account.container()
    with account.azurite.service_client() as service:
        service.get_blob_client(other, "a").upload_blob(b"secret")
    account.assign_on(somebody, CONTRIBUTOR, own)
    url = urlsplit(account.blob_url)
    context = ssl.create_default_context(cafile=str(account.azurite.ca_file))
    connection = http.client.HTTPSConnection(url.netloc, timeout=10, context=context)
    token = account.tokens.mint(somebody, STORAGE_AUDIENCE)
    headers = {"Authorization": f"Bearer {token}", "x-ms-version": "2021-12-02"}
    connection.request("GET", url.path + path.format(own=own, other=other), headers=headers)
    answer = connection.getresponse()
    assert answer.status in {400, 403, 501}
    assert b"secret" not in answer.read()
    connection.close()


def test_another_host_name_does_not_make_another_account(account: Fronted, somebody: str) -> None:
    # Azurite takes "account.anything" for the account's own address, and the whole path for what is in it.
    name = account.container()
    answer = account.send(
        "GET", f"/{name}?restype=container&comp=list", somebody, {"Host": "fronted.blob.local"}
    )
    assert answer.status_code == 400


def test_reader_deletes_nothing_by_a_header_that_names_another_method(
    account: Fronted, somebody: str
) -> None:
    name = account.container()
    with account.azurite.service_client() as service:
        blob = service.get_blob_client(name, "a")
        blob.upload_blob(b"a")
        account.assign_on(somebody, READER, name)
        assert account.send("GET", f"/{name}/a", somebody, {"X-HTTP-Method": "DELETE"}).status_code == 501
        assert blob.exists()


def test_batch_is_refused_and_not_looked_into(account: Fronted, somebody: str) -> None:
    account.assign(somebody, OWNER)
    assert account.send("POST", "/?comp=batch", somebody, data=b"x").status_code == 501


# -- immutability


def test_evidence_is_created_and_neither_changed_nor_deleted(account: Fronted, somebody: str) -> None:
    account.assign_on(somebody, OWNER, EVIDENCE)
    name = str(uuid.uuid4())
    immutable = (409, "BlobImmutableDueToPolicy")
    with account.blobs(somebody) as blobs:
        blob = blobs.get_blob_client(EVIDENCE, name)
        blob.upload_blob(b"first")
        with pytest.raises(ResourceExistsError) as exists:
            blob.upload_blob(b"second")
        assert refusal(exists.value) == (409, "BlobAlreadyExists")
        assert_refused(
            immutable,
            lambda: blob.upload_blob(b"second", overwrite=True),
            lambda: blob.stage_block("MDAw", b"b"),
            lambda: blob.set_blob_metadata({"a": "b"}),
            lambda: blob.set_http_headers(None),
            blob.create_snapshot,
            lambda: blob.start_copy_from_url(blob.url),
            blob.delete_blob,
        )
        assert blob.download_blob().readall() == b"first"


def test_evidence_may_be_deleted_after_its_time_and_still_not_changed(
    account: Fronted, somebody: str
) -> None:
    account.assign_on(somebody, OWNER, EVIDENCE)
    with account.blobs(somebody) as blobs, account.later(days=DAYS):
        blob = blobs.get_blob_client(EVIDENCE, str(uuid.uuid4()))
        blob.upload_blob(b"first")
        with pytest.raises(HttpResponseError) as raised:
            blob.upload_blob(b"second", overwrite=True)
        assert refusal(raised.value) == (409, "BlobImmutableDueToPolicy")
        blob.delete_blob()
        blob.upload_blob(b"second")


def test_evidence_is_deleted_no_day_too_early(account: Fronted, somebody: str) -> None:
    account.assign_on(somebody, OWNER, EVIDENCE)
    with account.blobs(somebody) as blobs, account.later(days=DAYS - 1):
        blob = blobs.get_blob_client(EVIDENCE, str(uuid.uuid4()))
        blob.upload_blob(b"first")
        with pytest.raises(HttpResponseError) as raised:
            blob.delete_blob()
    assert refusal(raised.value) == (409, "BlobImmutableDueToPolicy")


def test_evidence_holds_against_sas_and_account_key(account: Fronted) -> None:
    verify = str(account.azurite.ca_file)
    key = {"account_name": account.azurite.account, "account_key": account.azurite.key}
    for credential in (account.sas(EVIDENCE, "rcwd"), key):
        with BlobServiceClient(
            account.blob_url, credential=credential, connection_verify=verify, retry_total=0
        ) as service:
            blob = service.get_blob_client(EVIDENCE, str(uuid.uuid4()))
            blob.upload_blob(b"first")
            replace = partial(blob.upload_blob, b"second", overwrite=True)
            assert_refused((409, "BlobImmutableDueToPolicy"), replace, blob.delete_blob)


# -- keys that are not taken


def test_account_that_takes_no_keys_refuses_them_and_their_sas(
    account: Fronted, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = account.container()
    monkeypatch.setattr(account.account, "allows_keys", False)
    key = {"account_name": account.azurite.account, "account_key": account.azurite.key}
    for credential in (account.sas(name, "rl"), key):
        with (
            BlobServiceClient(
                account.blob_url,
                credential=credential,
                connection_verify=str(account.azurite.ca_file),
                retry_total=0,
            ) as service,
            pytest.raises(HttpResponseError) as raised,
        ):
            list(service.get_container_client(name).list_blobs())
        assert refusal(raised.value) == (FORBIDDEN, "KeyBasedAuthenticationNotPermitted")
