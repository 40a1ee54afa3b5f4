"""Laws, regions, judge, probe, search and the engine that joins them into a Run.

Imports `reference` and `adapters`, Hypothesis and msgspec; never a framework, never `reports`.
`suite/` holds the pytest modules, `plugin.py` the pytest plugin.
"""
