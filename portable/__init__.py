"""The packing of the offline mover, so that it runs from a medium with any Python 3.11 to 3.14.

Nothing has to be installed for it. The function app is packed, too, so that it runs where nothing is built or
downloaded: :mod:`portable.app_package`.

``python -m portable`` builds two shapes of one tree: a folder and a single file. In reading order:

* :mod:`portable.targets` — the platforms and Pythons that a packed mover runs on
* :mod:`portable.wheels` — what is taken from the locked wheels: pure Python once, compiled files per target
* :mod:`portable.tree` — the tree, as names and bytes
* :mod:`portable.shapes` — the tree as a folder and as a single file, the same bytes on every build
* :mod:`portable.windows_python` — an embeddable Python for Windows, laid into the folder on request
* ``portable/entry.py`` and :mod:`portable.native_loader` — all that travels of this package: where the
  packed mover starts, and how it loads a compiled file only after checking it
"""
