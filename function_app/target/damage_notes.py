"""Damage in working documents: noted where it is found, read for the decision and the receipt."""

from collections.abc import Iterator

from airgap.damage import Damage, gravest
from airgap.errors import Code
from airgap.receipt import MAX_DAMAGES
from function_app.storage.work_folder import WorkFolder
from function_app.target.wire import DamageNote

_FOLDER = "damage/"


def note_damage(work: WorkFolder, where: str, damages: list[Damage]) -> None:
    """Note the damage that was found in one place, if any was."""
    worst = gravest(damages)
    if worst is not None:
        note = DamageNote(
            count=len(damages),
            damages=tuple(damage.to_json() for damage in damages[:MAX_DAMAGES]),
            gravest=worst.name,
        )
        work.put(f"{_FOLDER}{where}", note)


def gravest_noted(work: WorkFolder) -> Code | None:
    """The code of the gravest damage that was noted, for a refusal; ``None`` if there is none."""
    codes = [Code[note.gravest] for note in _notes(work)]
    return min(codes, key=lambda code: code.exit_code, default=None)


def damage_count(work: WorkFolder) -> int:
    """The number of findings of damage that were noted."""
    return sum(note.count for note in _notes(work))


def _notes(work: WorkFolder) -> Iterator[DamageNote]:
    return work.all(_FOLDER, DamageNote)


def listed_damages(work: WorkFolder) -> tuple[tuple[Damage, ...], int]:
    """The findings of damage, as many as a receipt holds, and how many there are in all."""
    found: list[Damage] = []
    count = 0
    for note in _notes(work):
        count += note.count
        room = MAX_DAMAGES - len(found)
        found += [Damage.from_json(damage, "damage") for damage in note.damages[:room]]
    return tuple(found), count
