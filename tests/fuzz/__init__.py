"""Inputs that nobody would write, over every format that is read from outside.

``AIRGAP_FUZZ_INPUTS`` says how many inputs in all; without it a few thousand, the same ones each time.
"""
