"""Does an environment answer with the same bits again? `benchmarks/repeatability.py --times 20`.

Audits its losses and gradients again and again, each time in new processes, and compares every run
with the first, row by row. Says for each framework how many rows were the same in all of them, and
which op in which dtype and region was not. What was found: docs/upgrades/repeatability.md.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

from lossaudit.adapters.registry import FRAMEWORKS
from lossaudit.conformance.answers import ASKING
from lossaudit.conformance.compare import compare
from lossaudit.conformance.comparison import Comparison
from lossaudit.conformance.run import Run, read_run


def audit(framework: str, depth: str, out: Path) -> Run:
    """One audit by the command line, of the laws whose answers are kept."""
    laws = [argument for name in ASKING for argument in ("--law", name)]
    command = [sys.executable, "-c", "from lossaudit.cli import main; main()", "run"]
    asked = ["-b", framework, "--depth", depth, "--known", str(out.with_suffix(".toml"))]
    out.with_suffix(".toml").write_text("", encoding="utf-8")
    done = subprocess.run(
        [*command, *asked, *laws, "--out", str(out)], capture_output=True, check=False
    )
    if done.returncode not in (0, 1):  # 1: deviations, which are not what is asked here
        raise SystemExit(done.stderr.decode(errors="replace"))
    return read_run(out)


def repeat(framework: str, depth: str, times: int) -> list[Comparison]:
    """The first run against each of the others."""
    with tempfile.TemporaryDirectory() as folder:
        first, found = audit(framework, depth, Path(folder) / "first.json"), []
        for number in range(2, times + 1):
            found.append(compare(first, audit(framework, depth, Path(folder) / "again.json")))
            print(f"{framework} {number}: {found[-1].verdict}", file=sys.stderr, flush=True)
        return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--backend", "-b", action="append", choices=list(FRAMEWORKS))
    parser.add_argument("--depth", default="quick")
    parser.add_argument("--times", type=int, default=20)
    arguments = parser.parse_args()
    for framework in arguments.backend or list(FRAMEWORKS):
        began = time.monotonic()
        found = repeat(framework, arguments.depth, arguments.times)
        verdicts = Counter(comparison.verdict for comparison in found)
        said = ", ".join(f"{count} x {verdict}" for verdict, count in verdicts.items())
        seconds = time.monotonic() - began
        versions = ", ".join(f"{n} {v}" for n, v in found[0].new.versions.items())
        print(
            f"{framework} ({versions}): {found[0].rows:,} rows, {said}, {seconds:.0f} s", flush=True
        )
        moved = Counter(
            (c.kind, c.subject, c.dtype, c.region, c.output, c.largest)
            for comparison in found
            for c in comparison.changes
        )
        for (kind, *where, largest), count in moved.most_common(20):
            print(
                f"  {kind} in {count}: {' '.join(map(str, where))}, by {largest} ulps", flush=True
            )


if __name__ == "__main__":
    main()
