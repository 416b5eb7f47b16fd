"""Generate the corpus that ships with the package (``agnews_exp/data/sample``).

    python scripts/make_sample_corpus.py            writes train.csv.gz and test.csv.gz
    python scripts/make_sample_corpus.py --check    fails unless the shipped files hold just these rows

Every story is made from the grammar in ``sample_corpus/`` with a fixed seed; places, companies, clubs and people are
invented, and no piece of any real corpus is in it. The classes overlap on purpose, so that models do not all reach
100 %: a share of the stories stands between two classes, some borrow a sentence from another class, a few say nothing.
Only ``random.Random.random()`` is used, whose stream is the same in every Python version.
"""

from __future__ import annotations

import argparse
import csv
import gzip
import io
import random
import re
import sys
from pathlib import Path

sys.path[:0] = [str(Path(__file__).resolve().parent)]

from sample_corpus.grammar import CLASSES, CROSSOVERS, NEUTRAL, SLOTS, VAGUE_TITLES  # noqa: E402

FOLDER = Path(__file__).resolve().parents[1] / "agnews_exp" / "data" / "sample"
SEED = 20240601
ROWS_PER_CLASS = {"train": 1000, "test": 200}
CROSSOVER = 0.15  # share of stories that stand between two classes
BORROWED = 0.12  # share of the others that borrow their second sentence from another class
VAGUE = 0.02  # share that names no topic at all
KEPT = 0.8  # how often a sentence names the same place, firm or subject as the headline
_SLOT = re.compile(r"\{(\w+)\}")
Story = tuple[str, str]


class Writer:
    """Writes stories from the grammar."""

    def __init__(self, seed: int) -> None:
        self.rng = random.Random(seed)  # noqa: S311 - not for secrets

    def chance(self, share: float) -> bool:
        """Return True with this probability."""
        return self.rng.random() < share

    def pick(self, options: list[str]) -> str:
        """Return one of the options."""
        return options[int(self.rng.random() * len(options))]

    def fill(self, template: str, kept: dict[str, str] | None = None) -> str:
        """Replace the slots of a template until none is left, and begin with a capital.

        Args:
            template: Text with ``{slot}`` marks.
            kept: What the story has put into a slot first; extended.
        """
        kept = {} if kept is None else kept
        used: set[str] = set()

        def choose(match: re.Match[str]) -> str:
            slot = match.group(1)
            choice = kept.get(slot)
            if choice is None or choice in used or not self.chance(KEPT):
                choice = self.pick(SLOTS[slot])
                while choice in used:  # not the same country twice in one sentence
                    choice = self.pick(SLOTS[slot])
            used.add(choice)
            kept.setdefault(slot, choice)
            return choice

        while _SLOT.search(template):
            template = _SLOT.sub(choose, template)
        return template[0].upper() + template[1:]

    def story(self, label: int) -> Story:
        """Return (title, description) of a story of a class (0-based)."""
        kept: dict[str, str] = {}
        if self.chance(VAGUE):
            title = self.fill(self.pick(VAGUE_TITLES), kept)
            return title, f"{self.fill(NEUTRAL[4], kept)} {self.fill(self.pick(NEUTRAL), kept)}"
        if self.chance(CROSSOVER):
            pairs = [pair for pair in CROSSOVERS if label in pair[:2]]
            _, _, titles, leads = pairs[int(self.rng.random() * len(pairs))]
            title = self.fill(self.pick(titles), kept)
            sentences = [self.fill(self.pick(leads), kept)]
        else:
            title = self.fill(self.pick(CLASSES[label]["title"]), kept)
            sentences = [self.fill(self.pick(CLASSES[label]["lead"]), kept)]
            if self.chance(0.5):
                other = int(self.rng.random() * 4) if self.chance(BORROWED / 0.5) else label
                sentences.append(self.fill(self.pick(CLASSES[other]["more"]), kept))
        if self.chance(0.35):
            sentences.append(self.fill(self.pick(NEUTRAL), kept))
        if self.chance(0.3):
            title = f"{title} {self.pick(SLOTS['desk'])}"
        if self.chance(0.25):
            sentences[0] = f"{self.pick(SLOTS['city']).upper()} - {sentences[0]}"
        return title, " ".join(sentences)


def make_rows() -> dict[str, list[tuple[int, str, str]]]:
    """Return the rows (class 1-4, title, description) of both files; no text occurs twice."""
    writer = Writer(SEED)
    seen: set[Story] = set()
    files: dict[str, list[tuple[int, str, str]]] = {}
    for name, per_class in ROWS_PER_CLASS.items():
        rows: list[tuple[int, str, str]] = []
        for position in range(4 * per_class):
            label = position % 4
            story = writer.story(label)
            while story in seen:
                story = writer.story(label)
            seen.add(story)
            rows.append((label + 1, *story))
        keys = [writer.rng.random() for _ in rows]
        files[name] = [row for _, row in sorted(zip(keys, rows, strict=True))]
    return files


def to_csv(rows: list[tuple[int, str, str]]) -> bytes:
    """Return rows in the official format: no header, all fields quoted."""
    text = io.StringIO()
    csv.writer(text, quoting=csv.QUOTE_ALL, lineterminator="\n").writerows(rows)
    return text.getvalue().encode("utf-8")


def main() -> int:
    """Write or check the files; return the exit status."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--check", action="store_true", help="compare with the shipped files instead of writing")
    check = parser.parse_args().check
    for name, rows in make_rows().items():
        path = FOLDER / f"{name}.csv.gz"
        content = to_csv(rows)
        if check:
            # The decompressed bytes: compressors differ in theirs.
            if not path.is_file() or gzip.decompress(path.read_bytes()) != content:
                print(f"{path} differs from what this script makes")
                return 1
            continue
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(gzip.compress(content, compresslevel=9, mtime=0))
        print(f"{path}: {len(rows):,} rows, {path.stat().st_size / 1000:.0f} kB")
    return 0


if __name__ == "__main__":
    sys.exit(main())
