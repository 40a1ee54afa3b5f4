"""Information theory on real ops: what a textbook says of a loss, asked of what computes it.

`asking.py` asks an op and says by how much its answers may be wrong, `identities.py` holds the
statements, `measure.py` asks them of frameworks. No statement of the audit's laws is repeated for
its own sake: these are about numbers that people make of losses.
"""
