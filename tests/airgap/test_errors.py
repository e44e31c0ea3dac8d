"""Errors are interface."""

import pickle

import pytest

from airgap.errors import (
    AirgapError,
    Code,
    MediaError,
    OperatorError,
    PolicyRefusal,
    ServiceError,
    UntrustedInputError,
    error_for,
)

RANGES = {
    OperatorError: range(2, 3),
    UntrustedInputError: range(10, 40),
    PolicyRefusal: (*range(40, 70), *range(110, 126)),
    MediaError: range(70, 90),
    ServiceError: range(90, 110),
}


@pytest.mark.parametrize("code", Code)
def test_every_code_has_its_class_exit_code_and_remedy(code: Code) -> None:
    error = error_for(code, "detail")
    assert code.exit_code in RANGES[type(error)]
    assert code.remedy.endswith(".")
    assert "\n" not in code.remedy
    assert pickle.loads(pickle.dumps(error)).code is code  # noqa: S301 - our own bytes


def test_every_class_is_a_range_of_its_own() -> None:
    assert {kind: kind.exit_codes for kind in AirgapError.__subclasses__()} == RANGES


def test_exit_codes_are_distinct_but_for_usage() -> None:
    exit_codes = [code.exit_code for code in Code if not isinstance(error_for(code), OperatorError)]
    assert len(set(exit_codes)) == len(exit_codes)


def test_forged_and_uncheckable_are_two_codes_of_one_class() -> None:
    assert Code.SIGNATURE_INVALID.exit_code != Code.SIGNATURE_UNCHECKABLE.exit_code
    assert isinstance(error_for(Code.SIGNATURE_UNCHECKABLE), UntrustedInputError)


def test_code_of_another_class_is_a_bug() -> None:
    with pytest.raises(TypeError):
        PolicyRefusal(Code.PART_CORRUPT)


def test_detail_quoted_from_input_is_cut() -> None:
    assert len(PolicyRefusal(Code.EXPIRED, "x" * 10_000).detail) == 500


@pytest.mark.parametrize(
    "secret", ["sig=c2VjcmV0%2B", "sig%3Dc2VjcmV0", "SIG%253Dc2VjcmV0", "Bearer c2VjcmV0"]
)
def test_secret_in_words_that_are_quoted_gets_into_no_error(secret: str) -> None:
    error = ServiceError(Code.PIPELINE_RUN_FAILED, f"403 at https://a/c?sv=1&{secret} of run 7")
    for told in (error.detail, str(error), repr(error), str(pickle.loads(pickle.dumps(error)))):  # noqa: S301
        assert "c2VjcmV0" not in told
        assert "403 at" in told
    long = ServiceError(Code.PIPELINE_RUN_FAILED, "x" * 495 + secret)
    assert "c2" not in long.detail
