"""Count the false alarms of `agnews check`: ten runs in which nothing is wrong, alone and all together.

    AGNEWS_DATA_DIR=... python scripts/clean_runs.py     # some three minutes; without the corpus seven runs

Runs of the sample, of a small part of AG News, and of two invented corpora: tickets (scripts/make_tickets.py) and diary
notes with authors and dates that have nothing to do with the topic. Exit code 1 when a check above a tip fires.
"""

from __future__ import annotations

import csv
import os
import random
import re
import subprocess
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).resolve().parent
QUICK = ("evaluation.latency_repeats=0", "tracking.enabled=false")
WORDS = {
    "garden": "soil seed rain bloom roots beds shade apple compost fence",
    "travel": "train coast ticket harbour map luggage border hostel bridge tram",
    "kitchen": "flour salt oven bread soup pan herbs butter spoon dough",
}
COMMON = "morning we slowly found another small good quiet evening friend later under bright old house"


def write_notes(path: Path) -> None:
    """Write 1,500 notes of three topics, each with an author, a language and a day drawn at random."""
    rng = random.Random(0)  # noqa: S311 - no secret
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["text", "topic", "author", "lang", "day"])
        for number in range(1500):
            topic = rng.choice(list(WORDS))
            told = (
                rng.choices(WORDS[topic].split(), k=4) + rng.choices(COMMON.split(), k=8) + [f"n{rng.randrange(400)}"]
            )
            told += rng.choices(" ".join(WORDS.values()).split(), k=2)
            rng.shuffle(told)
            day = f"2026-{rng.randrange(1, 13):02d}-{rng.randrange(1, 29):02d}"
            writer.writerow([" ".join(told), topic, f"author {number % 60}", rng.choice(["en", "de"]), day])


def clean_runs(folder: Path) -> list[tuple[str, ...]]:
    """Return the overrides of the runs; their files are written to the folder."""
    write_notes(folder / "notes.csv")
    make = [sys.executable, str(HERE / "make_tickets.py")]
    subprocess.run(make, cwd=folder, check=True, stdout=subprocess.PIPE)
    notes = ("data=csv", f"data.train_file={folder / 'notes.csv'}", "data.label_column=topic")
    tickets = ("data=csv", f"data.train_file={folder / 'tickets.csv'}", "data.text_columns=[subject,message]")
    news = "AGNEWS_DATA_DIR" in os.environ
    return [
        *(("data=sample", f"model={name}") for name in ("logreg", "multinomial_nb", "linear_svc")),
        *((f"data_fraction={share}", f"model={name}") for name, share in (
            ("logreg", 0.05), ("multinomial_nb", 0.1), ("linear_svc", 0.05)) if news),
        (*tickets, "data.label_column=team", "model=logreg"),
        (*tickets, "data.label_column=team", "model=complement_nb"),
        (*notes, "model=logreg", "split=group", "split.column=author", "evaluation.cluster_column=author"),
        (*notes, "model=multinomial_nb", "evaluation.slices=[lang]", "evaluation.costs={kitchen: 3}"),
    ]  # fmt: skip


def codes(text: str) -> list[str]:
    """Return the codes of the checks that fired, with their severity."""
    return [f"{code} {severity}" for code, severity in re.findall(r"^\s*([DTC]\d+)\s+(error|warning|tip)", text, re.M)]


def main() -> int:
    """Run and check, and print a table in Markdown."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        environment = os.environ | {"AGNEWS_ROOT": name, "COLUMNS": "400"}

        def agnews(*words: str) -> str:
            command = [str(Path(sys.executable).with_name("agnews")), *words]
            done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
            if done.returncode:
                sys.exit(f"agnews {' '.join(words)}\n{done.stdout}\n{done.stderr}")
            return done.stdout

        print("| run | errors and warnings | tips |\n|---|---|---|")
        grave = 0
        known: set[Path] = set()
        for overrides in [*clean_runs(folder), ()]:
            if overrides:
                agnews("run", *overrides, *QUICK)
                runs = set((folder / "outputs" / "runs").iterdir())
                (run,) = runs - known
                known = runs
            found = codes(agnews("check", *([run.name] if overrides else [])))
            tips = [code.removesuffix(" tip") for code in found if code.endswith("tip")]
            worse = [code for code in found if not code.endswith("tip")]
            grave += len(worse)
            said = " ".join(word.replace(f"{folder}/", "") for word in overrides) or "all of them together"
            print(f"| `{said}` | {', '.join(worse) or 'none'} | {', '.join(tips) or 'none'} |", flush=True)
    return 1 if grave else 0


if __name__ == "__main__":
    sys.exit(main())
