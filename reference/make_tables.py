"""Writes `_tables.py`: the constants of the double-double functions, from stdlib `decimal`.

`python -m lossaudit.reference.make_tables` prints the file; a test compares it with the one here.
"""

from __future__ import annotations

import sys
from decimal import Context, Decimal
from fractions import Fraction

_DIGITS = 80
_STEPS = 512
_LEAST_STEP = -256
_STEP_BITS = 30

_HEAD = '''"""Constants of `doubledouble`, written by `make_tables.py`; do not edit.

STEP_HIGH + STEP_MIDDLE + STEP_LOW = ln2 / 512, the first two of 30 bits.
HALF, THIRD, FOURTH: 1/2!, 1/3!, 1/4! as pairs.
POWERS_LESS_ONE: 2**(n/512) - 1 for n = LEAST_STEP .. 511, as pairs of hexadecimal floats.
"""

from __future__ import annotations
'''


def render() -> str:
    """The text of `_tables.py`."""
    high, middle, low = _step()
    lines = [
        _HEAD,
        f"LEAST_STEP = {_LEAST_STEP}",
        f'STEP_HIGH = float.fromhex("{high.hex()}")',
        f'STEP_MIDDLE = float.fromhex("{middle.hex()}")',
        f'STEP_LOW = float.fromhex("{low.hex()}")',
    ]
    for name, value in (("HALF", 2), ("THIRD", 6), ("FOURTH", 24)):
        first, second = _pair(Fraction(1, value))
        lines.append(f'{name} = (float.fromhex("{first.hex()}"), float.fromhex("{second.hex()}"))')
    lines.append("POWERS_LESS_ONE = (")
    for first, second in _powers():
        lines.append(f'    ("{first.hex()}", "{second.hex()}"),')
    return "\n".join([*lines, ")", ""])


def _context() -> Context:
    return Context(prec=_DIGITS)


def _pair(value: Fraction) -> tuple[float, float]:
    """The nearest float64, and the nearest to what is left."""
    high = float(value)
    return high, float(value - Fraction(high))


def _step() -> tuple[float, float, float]:
    """ln2 / 512 as two truncated words of 30 bits and a rounded rest."""
    rest = Fraction(_context().ln(Decimal(2))) / _STEPS
    words = []
    for last_bit in (_STEP_BITS + 9, 2 * _STEP_BITS + 9):
        word = Fraction(int(rest * 2**last_bit), 2**last_bit)
        words.append(float(word))
        rest -= word
    return words[0], words[1], float(rest)


def _powers() -> list[tuple[float, float]]:
    context = _context()
    ln2 = context.ln(Decimal(2))
    return [
        _pair(Fraction(context.exp(context.multiply(ln2, Decimal(n) / _STEPS))) - 1)
        for n in range(_LEAST_STEP, _STEPS)
    ]


if __name__ == "__main__":
    sys.stdout.write(render())
