"""`python -m tests.fuzz [SECONDS]`: fuzz each target for its share of the time; exit 1 with the input that broke one.

libFuzzer ends its process when its time is over, so each target has a process of its own.
"""

from __future__ import annotations

import re
import subprocess
import sys
import tempfile
from pathlib import Path

_SECONDS_DEFAULT = 60
_INPUT_S_MAX = 5  # one input that takes longer is a fault too
_MIB_MAX = 1024


def fuzz(name: str, folder: Path, seconds: int) -> None:
    """Be the process of one target."""
    import atheris  # the one program that needs it

    with atheris.instrument_imports(include=["orchestra", "json"]):
        from .targets import TARGETS
    target = TARGETS[name]
    seeds = folder / "seeds"
    seeds.mkdir()
    for number, seed in enumerate(target.seeds):
        (seeds / str(number)).write_bytes(seed)
    options = [
        f"-max_total_time={seconds}",
        f"-timeout={_INPUT_S_MAX}",
        f"-rss_limit_mb={_MIB_MAX}",
        f"-max_len={target.length_max}",
        f"-artifact_prefix={folder}/",
        "-print_final_stats=1",
        str(seeds),
    ]
    atheris.Setup([sys.argv[0], *options], target.run)
    atheris.Fuzz()


def main() -> None:
    from .targets import TARGETS  # here, for in the other processes it is instrumented

    seconds = max(len(TARGETS), int(sys.argv[1]) if len(sys.argv) > 1 else _SECONDS_DEFAULT)
    for number, name in enumerate(TARGETS):
        share = seconds // len(TARGETS) + (number < seconds % len(TARGETS))
        with tempfile.TemporaryDirectory() as folder:
            ran = subprocess.run(
                [sys.executable, "-m", "tests.fuzz", "--target", name, folder, str(share)],
                capture_output=True,
                text=True,
                errors="replace",
                check=False,
            )
            broken = sorted(path for path in Path(folder).iterdir() if path.is_file())
            executed = re.search(r"number_of_executed_units: (\d+)", ran.stderr)
            reached = re.findall(r"cov: (\d+)", ran.stderr)
            if ran.returncode or broken or executed is None or not reached:
                print(ran.stdout + ran.stderr)
                for path in broken:
                    print(f"broken by {path.read_bytes()!r}")
                sys.exit(f"{name}: see above")
            print(f"{name}: {int(executed[1]):,} inputs in {share} s, {reached[-1]} edges reached, nothing broke")


if __name__ == "__main__":
    if sys.argv[1:2] == ["--target"]:
        fuzz(sys.argv[2], Path(sys.argv[3]), int(sys.argv[4]))
    else:
        main()
