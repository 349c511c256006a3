"""Run the benchmarks and print their table: each row a ratio to a plain baseline, measured in the same run.

Every `bench_NAME.py` beside this file has `rows(media, work)`, which yields its rows. Timings of one run are noisy;
the ratios are what to compare.
"""

import argparse
import importlib.util
import json
import os
import sys
import tempfile
import traceback
from collections.abc import Iterator
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.append(str(HERE.parent))  # where what the tests share is
SHARED_MEDIA = HERE.parents[2] / "shared" / "media"


def main() -> int:
    """Run the chosen benchmarks; 1 where one could not be run."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    names = sorted(path.stem.removeprefix("bench_") for path in HERE.glob("bench_*.py"))
    parser.add_argument("names", nargs="*", help=f"which; all of {', '.join(names)} if none is named")
    parser.add_argument(
        "--media", type=Path, default=SHARED_MEDIA, help="a labelled folder of real media (%(default)s)"
    )
    parser.add_argument("--output", type=Path, default=Path("runs/bench.json"), help="the rows as JSON (%(default)s)")
    options = parser.parse_args()
    if unknown := set(options.names) - set(names):
        parser.error(f"no benchmark is named {', '.join(sorted(unknown))}; there are {', '.join(names)}")
    media = options.media.resolve() if options.media.is_dir() else None
    if media is None:
        print(f"{options.media} is not there: rows that need real media are left out", file=sys.stderr)
    rows, failed = [], []
    for name in options.names or names:
        try:
            for row in measured(name, media):
                rows.append({"bench": name, **row})
                print(line(row), flush=True)
                write(rows, options.output)
        except Exception:
            traceback.print_exc()
            failed.append(name)
    print(f"\n{len(rows)} rows, {sum(bool(row['met']) for row in rows)} of their goals met; {options.output}")
    if failed:
        print(f"could not be run: {', '.join(failed)}", file=sys.stderr)
    return 1 if failed else 0


def measured(name: str, media: Path | None) -> Iterator[dict]:
    """Yield the rows of one benchmark, run in a directory and a run home of its own."""
    spec = importlib.util.spec_from_file_location(f"bench_{name}", HERE / f"bench_{name}.py")
    bench = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(bench)
    print(f"\n{name}: {bench.__doc__.splitlines()[0]}", flush=True)
    with tempfile.TemporaryDirectory(prefix=f"bench-{name}-") as work:
        os.environ["AI_VS_REAL_HOME"] = str(Path(work) / "home")
        yield from bench.rows(media, Path(work))


def line(row: dict) -> str:
    """Return one row of the table as text."""
    mark = "met" if row["met"] else "NOT MET"
    return f"  {row['name']:<58} {row['ratio']:>9.3f}  {row['goal']:<12} {mark:<8} {row['ours']} | {row['baseline']}"


def write(rows: list[dict], path: Path) -> None:
    """Write the rows so far; the file is whole at any time."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}")
    part.write_text(json.dumps(rows, indent=1))
    os.replace(part, path)


if __name__ == "__main__":
    sys.exit(main())
