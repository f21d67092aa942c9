"""Search for inputs that are taken wrongly, until the time is up.

    fuzz.py SECONDS [FIRST-SEED]

Rounds of three: rows and options (the property tests of tests/unit, with far
more examples than `make unit` has), then requests (tests/functional's lottery,
to real haproxies and servers). Each round has a seed, which a failure names.
Run it in a sandbox, from the repository's root.
"""

from __future__ import annotations

import itertools
import os
import subprocess
import sys
import time

EXAMPLES = 500
REQUESTS = 9000
# What pytest runs.
TARGETS = {
    "rows": (
        *("tests/unit/agent/test_hostile_rows.py", "tests/unit/agent/core"),
        "tests/unit/agent/haproxy",
    ),
    "options": ("tests/unit/agent/config", "tests/unit/privsep"),
    "requests": ("tests/functional/test_lottery.py",),
}


def main() -> int:
    """Search; return 1 with the first failure."""
    seconds, *first = (int(each) for each in sys.argv[1:])
    end = time.monotonic() + seconds
    for seed in itertools.count(*first or (1,)):
        for name, tests in TARGETS.items():
            left = end - time.monotonic()
            if left <= 0:
                return 0
            print(f"==> {name}, seed {seed}, {left:.0f} s left", flush=True)
            if not _holds(tests, seed, left):
                print(f"{name} failed with seed {seed}", file=sys.stderr)
                return 1
    raise AssertionError("the seeds end")


def _holds(tests: tuple[str, ...], seed: int, seconds: float) -> bool:
    """Run TESTS with SEED for SECONDS; return whether none failed."""
    is_pure = tests[0].startswith("tests/unit/")
    only = ("-m", "hypothesis", f"--hypothesis-seed={seed}") if is_pure else ()
    environment = {
        **os.environ,
        "FUZZ_EXAMPLES": str(EXAMPLES),
        "LOTTERY_SEED": str(seed),
        "LOTTERY_REQUESTS": str(REQUESTS),
    }
    command = (
        sys.executable,
        "-Im",
        "pytest",
        "-q",
        "-x",
        "--tb=short",
        *only,
    )
    try:
        done = subprocess.run(
            (*command, *tests), env=environment, check=False, timeout=seconds
        )
    except subprocess.TimeoutExpired:
        return True
    return done.returncode == 0


if __name__ == "__main__":
    sys.exit(main())
