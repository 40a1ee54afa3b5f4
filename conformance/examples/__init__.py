"""Worked examples that tutorials print, adjudicated by the reference and asked of the frameworks.

`worked_examples.toml` holds what was printed, `entries.py` reads it, `operations.py` is the
vocabulary of what can be computed, `mistakes.py` searches for the mistake that explains a wrong
figure, `adjudicate.py` gives the verdicts, `ask.py` asks real subjects.
"""
