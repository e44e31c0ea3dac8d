"""The infrastructure of each side in Azure: templates, their compiler, and the checks that need no Azure.

``bicep/`` is the compiler for the part of Bicep that the templates are written in, ``expansion/`` tells of
what it writes each resource with its values. Nothing of this package is part of the app or of the mover.
"""
