"""The instance ids that Azure takes."""

_MAX_CHARACTERS = 256


class InstanceIdError(ValueError):
    """The instance id is one that Azure does not take."""


def check_instance_id(instance_id: str) -> None:
    """Refuse an instance id that Azure refuses.

    Raises:
        InstanceIdError: The id starts with @, holds a slash, #, ? or a control character, is empty or too
            long.
    """
    if complaint := id_complaint(instance_id):
        raise InstanceIdError(complaint)


def id_complaint(instance_id: str) -> str | None:
    """The fault of an instance id, in words; None if Azure takes it."""
    if not instance_id or len(instance_id) > _MAX_CHARACTERS:
        return f"Instance ids must have 1 to {_MAX_CHARACTERS} characters."
    if instance_id.startswith("@"):
        return "Instance ids must not start with @."
    if any(character in "/\\#?" or not character.isprintable() for character in instance_id):
        return "Instance ids must not hold / \\ # ? or control characters."
    return None
