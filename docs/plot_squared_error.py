"""Asks torch, TensorFlow and JAX for the gradients of squared error, and draws them.

python docs/plot_squared_error.py docs/trajectories/squared-error.png
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import vl_convert

from lossaudit.conformance.trajectories import squared
from lossaudit.reports.squared import spec
from lossaudit.reports.trajectories import PIXELS


def main(picture: Path) -> None:
    drawn = {}
    for dtype in squared.DTYPES:
        for framework in squared.TRAINED:
            found = squared.asked(framework, dtype, sys.executable)
            allowed = squared.allowed(framework, dtype)
            wrong = list(squared.outside(found, allowed))
            print(
                f"{framework} {dtype}: {len(allowed)} gradients, outside of their bounds: {wrong}"
            )
            for name, near in allowed.items():
                share = np.max(np.abs(found[name] - near.value) / near.error)
                print(f"  {name:24} at most {share:.1%} of the bound")
            if dtype == "float32":
                drawn[framework] = found
    picture.parent.mkdir(parents=True, exist_ok=True)
    picture.write_bytes(vl_convert.vegalite_to_png(spec(drawn, "float32"), scale=PIXELS))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
