"""Marker for the Azure Functions worker; never executed.

The worker looks for this file, then imports the name ``function_app``, which resolves to the package
``function_app/`` beside it (a package wins over a module of the same name). The app object is there.
"""
