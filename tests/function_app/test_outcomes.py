import pytest

from airgap.errors import Code, OperatorError, PolicyRefusal, ServiceError, UntrustedInputError
from function_app.durable.flow import hash_groups
from function_app.durable.outcomes import Ended, end_of, ending, run_step
from function_app.source.planning import split_reference


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
    assert ending(code)["outcome"] == word


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
    def step(_: None, __: object) -> dict[str, object]:
        raise error

    assert run_step(step, lambda: None, {})["code"] == getattr(error, "code").name  # noqa: B009 - typed wider


def test_what_a_retry_may_cure_is_raised() -> None:
    def step(_: None, __: object) -> dict[str, object]:
        raise ServiceError(Code.SERVICE_THROTTLED)

    with pytest.raises(ServiceError):
        run_step(step, lambda: None, {})


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
    assert (outcome["code"], outcome["detail"]) == (code, detail)


def test_fault_of_ours_is_not_dressed_up() -> None:
    with pytest.raises(KeyError):
        end_of(KeyError("blobs"))
    outcome = {"outcome": "refused", "code": "EXPIRED", "detail": ""}
    assert end_of(Ended(outcome)) == outcome


@pytest.mark.parametrize("count", [0, 1, 16, 17, 8192, 8193, 50_000])
def test_hash_groups_cover_each_part_once_in_a_bounded_number(count: int) -> None:
    groups = hash_groups(count, 64 * 1024**2)
    numbers = [number for first, size in groups for number in range(first, first + size)]
    assert numbers == list(range(1, count + 1))
    assert len(groups) <= 512


@pytest.mark.parametrize(
    ("reference", "parts"),
    [
        ("a/b:v1", ("a/b", "v1", "")),
        (f"a/b@sha256:{'0' * 64}", ("a/b", "", f"sha256:{'0' * 64}")),
    ],
)
def test_reference_is_taken_apart(reference: str, parts: tuple[str, str, str]) -> None:
    assert split_reference(reference) == parts
