"""One file a law. A law is a statement that must hold for every subject that it fits.

A law imports `..law` (what a law is), `..judge`, `..bench` and the reference; never a framework,
never the known findings. `registry.py` lists them.
"""
