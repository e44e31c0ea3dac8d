"""Do the tests hold what they claim? Each check of a module is taken out in turn; the tests must notice.

``./dev mutate`` does that with the modules whose checks are the point, ``./dev mutate airgap/parts.py`` with
another. :mod:`~tests.mutation.mutants` makes the changed modules, :mod:`~tests.mutation.__main__` runs the
concerned tests on each, :mod:`~tests.mutation.equivalent` lists what changes nothing, with reasons.
"""
