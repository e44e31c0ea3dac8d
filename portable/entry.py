"""The start of the packed mover; packed as ``__main__.py``, beside the folder ``app``.

Written so that an older Python, down to 2.7, can still read it and say what is wrong.
"""

import os
import sys

OLDEST = (3, 11)


def not_packed(root):  # type: ignore[no-untyped-def]  # as below
    """The name of a file below ``app`` that SHA256SUMS does not list; ``None`` if there is none.

    Python may run such a file, and `sha256sum -c` says nothing about it. Names that begin with a dot are left
    out: desktops leave such files, and no module has such a name.
    """
    try:
        with open(os.path.join(root, "SHA256SUMS"), "rb") as file:
            packed = {line[66:] for line in file.read().decode("ascii").splitlines()}
    except OSError:
        return None  # a single file, or a copy that was broken off
    folders = ["app"]
    while folders:
        folder = folders.pop()
        with os.scandir(os.path.join(root, *folder.split("/"))) as entries:
            for entry in entries:
                name = folder + "/" + entry.name
                if entry.is_dir(follow_symlinks=False):
                    folders.append(name)
                elif name not in packed and not entry.name.startswith("."):
                    return name
    return None


def main():  # type: ignore[no-untyped-def]  # Python 2 cannot read annotations
    """Check the Python, put the packed code first, run the command; returns its exit code."""
    sys.dont_write_bytecode = True  # the medium may be read-only, and shall hold only what was packed
    if sys.version_info < OLDEST:
        sys.stderr.write(
            "offline-mover needs Python %d.%d or later; this is Python %d.%d.\n"
            % (OLDEST + tuple(sys.version_info[:2]))
        )
        return 2
    root = os.path.dirname(os.path.abspath(__file__))
    # Nothing that this machine has installed may stand in for, or add to, what was packed.
    foreign = ("site-packages", "dist-packages")
    sys.path[:] = [os.path.join(root, "app")] + [
        path for path in sys.path if os.path.abspath(path) != root and not path.endswith(foreign)
    ]
    try:
        added = not_packed(root)  # type: ignore[no-untyped-call]
        if added is not None:
            said = "offline-mover: %s was not packed, nothing was run; use another copy.\n"
            sys.stderr.write(said % ascii(added)[1:-1])
            return 79  # as below
        from portable import bytecode_loader

        bytecode_loader.install(root)
        from portable import native_loader

        native_loader.install()
        from offline_mover.cli import main as run
    except Exception as error:
        # Most often a copy that was broken off.
        sys.stderr.write("offline-mover: this copy is incomplete or damaged (%s); use another.\n" % (error,))
        return 79  # TOOL_DAMAGED of airgap/errors.py, which may be what is missing
    return run()


if __name__ == "__main__":
    sys.exit(main())  # type: ignore[no-untyped-call]  # as above
