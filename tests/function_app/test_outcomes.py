import pytest

from airgap.errors import Code, OperatorError, PolicyRefusal, ServiceError, UntrustedInputError
from function_app.durable.outcomes import Ended, end_of, ending, run_step
from function_app.messages import Item, dump
from function_app.source.scanning import split_reference

ORDER: dict[str, object] = {"schema": 1, "owner": "transfer01", "number": 1}


@pytest.mark.parametrize(
    ("code", "word"),
    [
        (Code.SIGNATURE_INVALID, "refused"),
        (Code.EXPIRED, "refused"),
        (Code.ARTIFACT_NOT_FOUND, "refused"),
        (Code.SERVICE_DENIED, "failed"),
        (Code.SETTING_INVALID, "failed"),
        (Code.EXPORT_INCONSISTENT, "failed"),
    ],
)
def test_refused_is_about_what_was_handed_in(code: Code, word: str) -> None:
    assert dump(ending(code))["outcome"] == word


@pytest.mark.parametrize(
    "error",
    [
        UntrustedInputError(Code.TOO_LARGE),
        PolicyRefusal(Code.EXPIRED),
        OperatorError(Code.SETTING_INVALID),
        ServiceError(Code.SERVICE_DENIED),
    ],
)
def test_what_no_retry_can_cure_comes_back_as_a_value(error: Exception) -> None:
    def step(_: None, __: Item) -> Item:
        raise error

    assert run_step(step, lambda: None, Item, ORDER)["code"] == getattr(error, "code").name  # noqa: B009 - typed wider


def test_what_a_retry_may_cure_is_raised() -> None:
    def step(_: None, __: Item) -> Item:
        raise ServiceError(Code.SERVICE_THROTTLED)

    with pytest.raises(ServiceError):
        run_step(step, lambda: None, Item, ORDER)


@pytest.mark.parametrize(
    "change",
    [{"schema": 2}, {"schema": None}, {"surprise": 1}, {"number": "1"}, {"number": True}],
    ids=["newer schema", "no schema", "unknown member", "other type", "boolean for a number"],
)
def test_order_of_another_version_is_refused_and_not_guessed_at(change: dict[str, object]) -> None:
    ran: list[Item] = []

    def step(_: None, order: Item) -> Item:
        ran.append(order)
        return order

    raw = {name: value for name, value in (ORDER | change).items() if value is not None}
    outcome = run_step(step, lambda: None, Item, raw)
    assert (outcome["outcome"], outcome["code"]) == ("failed", "NEWER_FORMAT")
    assert ran == []
    assert run_step(step, lambda: None, Item, ORDER) == ORDER


@pytest.mark.parametrize(
    ("text", "code", "detail"),
    [
        (
            "Activity function 'x' failed:  ServiceError: SERVICE_UNREACHABLE: blob a/b \n stack",
            "SERVICE_UNREACHABLE",
            "blob a/b",
        ),
        ("Result: Failure\nException: ServiceError: SIGNING_FAILED\nStack: …", "SIGNING_FAILED", ""),
        (
            "TypeError: NOT_A_CODE",
            "SERVICE_UNEXPECTED",
            "an activity failed; its exception is in the app's log",
        ),
    ],
)
def test_code_is_found_in_what_the_sdk_throws(text: str, code: str, detail: str) -> None:
    outcome = end_of(Exception(text))
    assert (outcome.code, outcome.detail) == (code, detail)


def test_fault_of_ours_is_not_dressed_up() -> None:
    with pytest.raises(KeyError):
        end_of(KeyError("blobs"))
    outcome = ending(Code.EXPIRED)
    assert end_of(Ended(outcome)) == outcome


@pytest.mark.parametrize(
    ("reference", "parts"),
    [
        ("a/b:v1", ("a/b", "v1", "")),
        (f"a/b@sha256:{'0' * 64}", ("a/b", "", f"sha256:{'0' * 64}")),
    ],
)
def test_reference_is_taken_apart(reference: str, parts: tuple[str, str, str]) -> None:
    assert split_reference(reference) == parts


def test_secret_in_words_of_a_service_gets_into_no_outcome() -> None:
    quoted = "403 at https%3A%2F%2Fa%2Fc%3Fsv%3D1%26sig%3Dc2VjcmV0"
    assert "c2VjcmV0" not in ending(Code.PIPELINE_RUN_FAILED, quoted, [quoted]).detail
    assert "c2VjcmV0" not in str(ending(Code.PIPELINE_RUN_FAILED, quoted, [quoted]).artifacts)
    told = end_of(Exception(f"Activity function 'x' failed:  ServiceError: PIPELINE_RUN_FAILED: {quoted}"))
    assert "c2VjcmV0" not in told.detail


def test_mistake_in_the_apps_settings_gets_into_its_log_and_into_no_outcome(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """An outcome is told to whoever ordered the transfer."""

    def refuse_setting() -> None:
        raise OperatorError(Code.SETTING_INVALID, "EXPORT_PIPELINE: 'x-y' is not of the form [A-Za-z]")

    outcome = run_step(
        lambda *_: Item(owner="x", number=0), refuse_setting, Item, dump(Item(owner="x", number=0))
    )
    assert (outcome["outcome"], outcome["code"]) == ("failed", "SETTING_INVALID")
    assert "EXPORT_PIPELINE" not in outcome["detail"]
    assert "EXPORT_PIPELINE: 'x-y'" in caplog.text
