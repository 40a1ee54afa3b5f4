"""The suite tried on itself: wrong implementations that must be found, right ones that must not.

`kernels.py` holds right implementations, computed in steps; `mutants.py` changes one step of one of
them at a time, each change a mistake that was made in the wild or is easily made; `trial.py` asks
every law about each. Imports what the rest of `conformance/` does, and no framework.
"""
