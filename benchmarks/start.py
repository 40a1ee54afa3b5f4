"""What it costs to start the command line: `python benchmarks/start.py`.

Prints the median wall time of each command over 20 processes, beside an interpreter that does
nothing and one that imports what the commands are made with, all measured in turn in one run. Byte
code is written first, as pip does where it installs.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import time

from machine import machine

TIMES = 20

COMMANDS: dict[str, tuple[str, ...]] = {
    "python -c pass": ("-c", "pass"),
    "import typer": ("-c", "import typer"),
    "import numpy": ("-c", "import numpy"),
    "lossaudit --version": ("-m", "lossaudit", "--version"),
    "lossaudit --help": ("-m", "lossaudit", "--help"),
    "lossaudit run --help": ("-m", "lossaudit", "run", "--help"),
    "lossaudit list": ("-m", "lossaudit", "list"),
}


def seconds(arguments: tuple[str, ...], environment: dict[str, str]) -> float:
    start = time.perf_counter()
    subprocess.run(
        [sys.executable, *arguments], env=environment, stdout=subprocess.DEVNULL, check=True
    )
    return time.perf_counter() - start


def main() -> None:
    environment = {n: v for n, v in os.environ.items() if n != "PYTHONDONTWRITEBYTECODE"}
    taken: dict[str, list[float]] = {name: [] for name in COMMANDS}
    for arguments in COMMANDS.values():
        seconds(arguments, environment)  # writes the byte code, and fills the cache of files
    for _ in range(TIMES):
        for name, arguments in COMMANDS.items():
            taken[name].append(seconds(arguments, environment))
    middle = {name: statistics.median(times) for name, times in taken.items()}
    bare = middle["python -c pass"]
    print(f"{machine()}, median of {TIMES}")
    for name, found in middle.items():
        print(f"{name:22} {found:6.3f} s  {found / bare:6.1f} times python -c pass")


if __name__ == "__main__":
    main()
