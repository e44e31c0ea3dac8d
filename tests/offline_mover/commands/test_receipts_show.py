"""``receipts show``: each receipt in words, which of several counts, and which are not to be believed."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest

from airgap.errors import Code, MediaError, UntrustedInputError
from airgap.receipt import Receipt, ReceiptVerdict
from offline_mover.commands import receipts_show as module
from offline_mover.commands.receipts_show import receipts_show
from offline_mover.outcome import Outcome
from tests.bundles import SigningKey, new_key
from tests.offline_mover.commands.test_receipts import LEDGER, NOW, imported, prod, refused, signed


def show(*paths: Path) -> Outcome:
    return receipts_show(paths, policy=prod().policy, now=NOW + timedelta(days=1))


def put(folder: Path, name: str, receipt: Receipt, key: SigningKey | None = None) -> Path:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(signed(receipt, key))
    return path


def test_receipt_in_a_file_of_any_name_is_told_in_words(tmp_path: Path) -> None:
    outcome = show(put(tmp_path, "from-the-mail.bin", imported(prod())))
    assert outcome.code is None
    (line,) = outcome.lines
    assert line.startswith(f"{prod().transfer_id}: imported by target.azurecr.io at 2026-01-31T08:00:00Z")
    assert outcome.facts["receiptList"][0]["verdict"] == "imported"


def test_import_is_never_hidden_by_a_later_replay(tmp_path: Path) -> None:
    folder = tmp_path / "receipts" / prod().transfer_id
    put(folder, f"{prod().manifest_sha256}.dsse.json", imported(prod(), ledger=LEDGER))
    replay = refused(prod(), code=Code.REPLAYED, decided_at=NOW + timedelta(hours=5))
    put(folder, "import000000000000.dsse.json", replay)
    (tmp_path / "receipts" / "README.txt").write_text("not asked for")
    outcome = show(tmp_path)
    assert outcome.code is None
    counting = [line for line in outcome.lines if line.endswith("this one counts")]
    assert len(counting) == 1
    assert ": imported by" in counting[0]
    assert [line.endswith("another one counts") for line in outcome.lines].count(True) == 1
    assert [one["verdict"] for one in outcome.facts["receiptList"] if one["counts"]] == ["imported"]


def test_one_receipt_under_fifty_names_is_told_once(tmp_path: Path) -> None:
    for number in range(50):
        put(tmp_path, f"import{number:012d}.dsse.json", imported(prod()))
    outcome = show(tmp_path)
    assert len(outcome.lines) == len(outcome.facts["receiptList"]) == 1
    assert outcome.verdict == "receipts: 1 genuine, 49 the same under another name"


def test_forged_receipt_is_a_finding_and_hides_no_genuine_one(tmp_path: Path) -> None:
    put(tmp_path, "a.dsse.json", imported(prod()), new_key())
    put(tmp_path, "b.dsse.json", imported(prod()))
    outcome = show(tmp_path)
    assert outcome.code is Code.SIGNER_UNKNOWN
    (finding,) = outcome.findings
    assert finding.damage.name == str(tmp_path / "a.dsse.json")
    assert len(outcome.lines) == 1


def test_other_receipt_under_the_name_of_a_decision_is_not_believed(tmp_path: Path) -> None:
    path = put(tmp_path, f"{prod().manifest_sha256}.dsse.json", refused(prod(), code=Code.REPLAYED))
    outcome = show(path)
    assert (outcome.code, outcome.lines) == (Code.RECEIPT_MALFORMED, ())


@pytest.mark.parametrize("content", [b"", b"{}", b"\xff" * 100])
def test_what_is_no_receipt_says_so(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "x.dsse.json").write_bytes(content)
    outcome = show(tmp_path / "x.dsse.json")
    assert outcome.code is not None
    assert outcome.next_step.startswith("Fetch the receipt again")  # no bundle manifest is spoken of
    assert outcome.lines == ()


def test_link_is_not_followed(tmp_path: Path) -> None:
    genuine = put(tmp_path / "elsewhere", "a.dsse.json", imported(prod()))
    (tmp_path / "link.dsse.json").symlink_to(genuine)
    assert show(tmp_path / "link.dsse.json").code is Code.UNSAFE_NAME


def test_folder_without_receipts_and_one_with_too_many_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(MediaError) as empty:
        show(tmp_path)
    assert empty.value.code is Code.VOLUME_EMPTY
    monkeypatch.setattr(module, "MAX_RECEIPTS", 2)
    for number in range(3):
        put(tmp_path, f"{number}.dsse.json", imported(prod()))
    with pytest.raises(UntrustedInputError) as many:
        show(tmp_path)
    assert many.value.code is Code.TOO_LARGE


def test_partial_import_says_what_is_there(tmp_path: Path) -> None:
    receipt = imported(prod(), verdict=ReceiptVerdict.PARTIAL, code=Code.SERVICE_UNEXPECTED, ledger=LEDGER)
    (line,) = show(put(tmp_path, "p.dsse.json", receipt)).lines
    assert "partial by target.azurecr.io" in line
    assert "SERVICE_UNEXPECTED" in line
