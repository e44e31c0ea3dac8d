"""The port that counts what was put aside: on the double, and on the queue service of Azurite."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import pytest

from airgap.errors import Code, ServiceError
from airgap.readiness import POISON_QUEUE
from function_app.azure.queues import AzurePoisonQueue
from function_app.ports import PoisonQueue
from local_cloud.functions_host.storage_queue import StorageQueue
from local_cloud.tokens import TokenAuthority
from tests.contract.credential import Credential
from tests.function_app.memory import MemoryPoison


@dataclass(frozen=True, kw_only=True)
class Account:
    """An account, and what the host does in it."""

    poison: PoisonQueue
    make: Callable[[], object]
    put: Callable[[str], object]


@pytest.fixture(params=["memory", pytest.param("azurite", marks=pytest.mark.e2e)])
def account(request: pytest.FixtureRequest) -> Iterator[Account]:
    if request.param == "memory":
        double, messages = MemoryPoison(messages=None), list[str]()
        yield Account(poison=double, make=lambda: setattr(double, "messages", messages), put=messages.append)
        return
    server, _ = request.getfixturevalue("azurite")
    credential = Credential(TokenAuthority())
    queue = StorageQueue(server.queue_url, POISON_QUEUE, credential)
    poison = AzurePoisonQueue(f"{server.queue_url}/", credential, retries=0)
    yield Account(poison=poison, make=queue.make, put=queue.put)
    poison.close()


def test_count_is_of_the_messages_and_looking_takes_none_away(account: Account) -> None:
    with pytest.raises(ServiceError) as refused:
        account.poison.count()
    assert refused.value.code is Code.NOT_FOUND
    account.make()
    assert account.poison.count() == 0
    for text in ("one", "another", "a third"):
        account.put(text)
    assert [account.poison.count() for _ in range(2)] == [3, 3]
