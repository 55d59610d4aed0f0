"""Ten million short lines through `data`, and bombs: `python -m benchmarks.messy [--lines N]`. Writes
benchmarks/messy.md.

Each file is made in a temporary folder and read by a process of its own, whose time and largest resident memory count.
"""

from __future__ import annotations

import argparse
import gzip
import itertools
import json
import os
import random
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path

from qlora_demo.engine.models.device import choose_device

RESULT = Path(__file__).parent / "messy.md"
SECONDS, BYTES = 120.0, 2 << 30
WORDS = (
    "good",
    "bad",
    "fine",
    "poor",
    "nice",
    "great",
    "awful",
    "okay",
    "loved",
    "hated",
    "broke",
    "works",
    "cheap",
    "quick",
    "slow",
    "late",
    "soft",
    "hard",
    "loud",
    "small",
)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--lines", type=int, default=10_000_000)
    parser.add_argument(
        "--only", metavar="NAMES", help=f"Some of {', '.join(FILES)}, separated by commas; nothing is written then."
    )
    options = parser.parse_args()
    chosen = options.only.split(",") if options.only else list(FILES)
    rows, missed = [], 0
    with tempfile.TemporaryDirectory() as folder:
        for name in chosen:
            path = Path(folder) / name
            FILES[name](path, options.lines)
            on_disk = path.stat().st_size
            seconds, busy, peak, said = read(path)
            path.unlink()
            missed += seconds > SECONDS or peak > BYTES
            rows.append(
                f"| {name} | {on_disk / 2**20:,.0f} | {busy:.0f} | {seconds:.0f} | {peak / 2**20:,.0f} | {said} |"
            )
            print(rows[-1], flush=True)
            if not options.only:
                RESULT.write_text(heading(options.lines) + "\n".join(rows) + "\n")
    return int(missed > 0)


def heading(count: int) -> str:
    return (
        f"# {count:,} short lines, and bombs, through `data`\n\n`python -m benchmarks.messy --lines {count}`,"
        f" {datetime.now(UTC):%Y-%m-%d}, {choose_device().name}. Each file by a process of its own, with the whole"
        " report: labels, doubles, contradictions, damage; tokens and languages on samples. Limits: 120 s and 2,048"
        " MiB resident.\n\n| file | MiB on disk | seconds of one core | seconds passed | largest resident MiB | what"
        " it said |\n|---|---|---|---|---|---|\n"
    )


def read(path: Path) -> tuple[float, float, int, str]:
    """(seconds passed, seconds of one core, largest resident bytes, what the command said) of `data` on the file."""
    out, err = path.with_suffix(".out"), path.with_suffix(".err")
    began = time.monotonic()
    actions = [
        (os.POSIX_SPAWN_OPEN, number, str(file), os.O_CREAT | os.O_WRONLY, 0o600)
        for number, file in ((1, out), (2, err))
    ]
    command = [sys.executable, "-m", "qlora_demo", "data", str(path), "--json"]
    pid = os.posix_spawn(sys.executable, command, os.environ, file_actions=actions)
    _, status, usage = os.wait4(pid, 0)
    seconds, busy = time.monotonic() - began, usage.ru_utime + usage.ru_stime
    if os.waitstatus_to_exitcode(status):
        return (
            seconds,
            busy,
            usage.ru_maxrss * 1024,
            err.read_text().strip().splitlines()[-1].replace(str(path), path.name)[:200],
        )
    report = json.loads(out.read_text())
    skipped = sum(item["rows"] for item in report["skipped"])
    return (
        seconds,
        busy,
        usage.ru_maxrss * 1024,
        f"{report['used']:,} used, {skipped:,} left out, {report['duplicates']:,} repeat a text",
    )


def lines(count: int) -> Iterator[tuple[int, str, int]]:
    """(number, a short text, stars); the same ones each time."""
    draw = random.Random(0).random
    for number in range(count):
        yield number, WORDS[int(draw() * 20)], 1 + int(draw() * 5)


def write(path: Path, header: str, line: Callable[[int, str, int], str], count: int) -> None:
    with path.open("w", encoding="utf-8") as file:
        file.write(header)
        file.writelines(line(number, word, stars) for number, word, stars in lines(count))


def distinct(path: Path, count: int) -> None:
    write(path, "text,label\n", lambda number, word, stars: f"{word} {number},{stars}\n", count)


def few(path: Path, count: int) -> None:
    write(path, "text,label\n", lambda number, word, stars: f"{word},{stars}\n", count)


def quoted(path: Path, count: int) -> None:
    write(path, '"text";"label"\r\n', lambda number, word, stars: f'"{word}, {number}";"{stars}"\r\n', count)


def ragged(path: Path, count: int) -> None:
    """A cell too many on each tenth line, on each hundredth a quote that is not closed."""

    def line(number: int, word: str, stars: int) -> str:
        return (
            f'"{word} {number},{stars}\n'
            if number % 100 == 0
            else f"{word} {number},{stars}{',x' * (number % 10 == 0)}\n"
        )

    write(path, "text,label\n", line, count)


def accented(path: Path, count: int) -> None:
    write(path, "text\tlabel\n", lambda number, word, stars: f"{word} déjà {number}\t{stars}\n", count)


def one_column(path: Path, count: int) -> None:
    write(path, "", lambda number, word, stars: f"{word} {number}\n", count)


def json_lines(path: Path, count: int) -> None:
    write(path, "", lambda number, word, stars: f'{{"text": "{word} {number}", "stars": {stars}}}\n', count)


def array(path: Path, count: int) -> None:
    write(
        path,
        "[",
        lambda number, word, stars: f'{"," * (number > 0)}{{"text": "{word} {number}", "stars": {stars}}}',
        count,
    )
    with path.open("a") as file:
        file.write("]")


def zipped(path: Path, count: int) -> None:
    with gzip.open(path, "wt", encoding="utf-8", compresslevel=1) as file:
        file.write("text,label\n")
        file.writelines(f"{word} {number},{stars}\n" for number, word, stars in lines(count))


def one_line(path: Path, count: int) -> None:
    with path.open("w") as file:
        file.write("text,label\n")
        file.writelines("good " * 200_000 for _ in range(count // 10_000))


def zeros(path: Path, count: int) -> None:
    with gzip.open(path, "wb", compresslevel=9) as file:
        file.write(b"text,label\n")
        for _ in range(max(1, count // 2_500)):
            file.write(b"0" * (1 << 20))


def spread(path: Path, count: int) -> None:
    """Parquet, one row group; made piece by piece, because a child's largest memory is never told as less than its
    parent's.
    """
    import pyarrow
    from pyarrow import parquet

    rows, pieces = lines(count), []
    while piece := list(itertools.islice(rows, 100_000)):
        pieces.append(
            pyarrow.table(
                {"text": [f"{word} {number}" for number, word, _ in piece], "stars": [stars for *_, stars in piece]}
            )
        )
    parquet.write_table(pyarrow.concat_tables(pieces), path, row_group_size=count)


FILES: dict[str, Callable[[Path, int], None]] = {
    "distinct.csv": distinct,
    "few.csv": few,
    "quoted.csv": quoted,
    "ragged.csv": ragged,
    "accented.tsv": accented,
    "one_column.csv": one_column,
    "lines.jsonl": json_lines,
    "array.json": array,
    "packed.csv.gz": zipped,
    "one_group.parquet": spread,
    "one_line.csv": one_line,
    "zeros.csv.gz": zeros,
}


if __name__ == "__main__":
    sys.exit(main())
