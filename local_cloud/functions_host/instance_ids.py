"""Which instance ids Azure takes."""

_MAX_CHARACTERS = 256


class InstanceIdError(ValueError):
    """Azure does not take this instance id."""


def check_instance_id(instance_id: str) -> None:
    """Refuses ids that Azure refuses.

    Raises:
        InstanceIdError: It starts with @, holds a slash, #, ? or a control character, is empty or too long.
    """
    if complaint := id_complaint(instance_id):
        raise InstanceIdError(complaint)


def id_complaint(instance_id: str) -> str | None:
    """What is wrong with an instance id, if anything."""
    if not instance_id or len(instance_id) > _MAX_CHARACTERS:
        return f"Instance ids must have 1 to {_MAX_CHARACTERS} characters."
    if instance_id.startswith("@"):
        return "Instance ids must not start with @."
    if any(character in "/\\#?" or not character.isprintable() for character in instance_id):
        return "Instance ids must not hold / \\ # ? or control characters."
    return None
