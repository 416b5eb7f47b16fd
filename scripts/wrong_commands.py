"""Types 42 wrong commands and prints what each is told: `python scripts/wrong_commands.py`.

It ends with how many were told the right key, choice, name or command, and with 1 where that is less than 36, or where
something was suggested to a command that resembles nothing.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

RUN = "run data=sample tracking=none evaluation.latency_repeats=0"
WRONG: tuple[tuple[str, str], ...] = (
    (f"{RUN} batch_size=16", "trainer.batch_size=16"),
    (f"{RUN} epochs=3", "trainer.max_epochs=3"),
    (f"{RUN} num_train_epochs=3", "trainer.max_epochs=3"),
    (f"{RUN} max_epochs=3", "trainer.max_epochs=3"),
    (f"{RUN} bs=8", "trainer.batch_size=8"),
    (f"{RUN} per_device_train_batch_size=8", "trainer.batch_size=8"),
    (f"{RUN} lr=1e-4", "model.learning_rate=1e-4"),
    (f"{RUN} model=logreg C=10", "model.C=10"),
    (f"{RUN} n_trials=20", "hydra.sweeper.n_trials=20"),
    (f"{RUN} train_file=my.csv", "data.train_file=my.csv"),
    (f"{RUN} text_column=body", "data.text_columns=body"),
    (f"{RUN} random_state=1", "seed=1"),
    (f"{RUN} cv=5", "evaluation.folds=5"),
    (f"{RUN} features.ngram_range=[1,2]", "features.blocks.word.ngram_range=[1,2]"),
    (f"{RUN} model=naive_bayes", "model=multinomial_nb"),
    (f"{RUN} model=svm", "model=linear_svc"),
    (f"{RUN} model=xgb", "model=xgboost"),
    (f"{RUN} model=logrek", "model=logreg"),
    (f"{RUN} features=tfidf", "features=word_tfidf"),
    (f"{RUN} modle=logreg", "model=logreg"),
    (f"{RUN} model.C=much", "model.C"),
    (f"{RUN} data_fraction=1.5", "data_fraction"),
    (f"{RUN} seed=0,1,2", "-m data=sample"),
    (f"{RUN} -m model=[logreg,ridge]", "model=logreg,ridge"),
    (f"{RUN} +experiment=quickstart", "experiment=quickstart"),
    (f"{RUN} name=2024", "name="),
    (f"{RUN} logreg", "model=logreg"),
    (f"{RUN} evaluation.primary=val/macro_f2", "'macro_f1'"),
    (f"{RUN} evaluation.primary=test/macro_f1", "val"),
    (f"{RUN} data=csv data.train_file=nothing.csv", "nothing.csv"),
    (f"{RUN} --config-dir=nowhere", "nowhere"),
    ("compare mine other", "agnews top"),
    ("predict mime texts.csv", "'mine'"),
    ("predict mine nothing.csv", "nothing.csv"),
    ("errors nobody", "agnews top"),
    ("evaluate nothing.csv", "nothing.csv"),
    ("evaluate", "--questions"),
    ("sweeps show grit", "grid"),
    ("sweeps best grid --job 9", "agnews sweeps show grid"),
    ("list modle", "model"),
    ("top --filter model", "--filter model=linear_svc"),
    ("top --metric val/macro_f2", "val/macro_f1"),
)
"""A wrong command, and what its message must name."""

NOTHING = (f"{RUN} zzqx=1", f"{RUN} model=zzqx")
"""Commands that resemble nothing: a suggestion would mislead."""


def try_commands(agnews: Callable[..., tuple[int, str]]) -> tuple[int, list[str]]:
    """Type all wrong commands in a project that has a run ``mine`` and a sweep ``grid``.

    Args:
        agnews: Runs the command with these words; returns its exit code and what it printed on standard error.

    Returns:
        How many messages name what was meant, and what is wrong with the others.
    """
    mine = f"{RUN} model=multinomial_nb features=word_tfidf"
    for words in (f"{mine} name=mine", f"{mine.replace('run', 'run -m', 1)} model.alpha=1 sweep.name=grid"):
        code, said = agnews(*words.split())
        if code:
            raise RuntimeError(said)
    right, wrong = 0, []
    for line, meant in WRONG:
        code, said = agnews(*line.split())
        print(f"$ agnews {line}\n{said.strip()}\n")
        if code == 2 and meant in said and "Traceback" not in said:
            right += 1
        else:
            wrong.append(f"agnews {line} (exit code {code}): {meant} is not named")
    for line in NOTHING:
        code, said = agnews(*line.split())
        if code != 2 or "Did you mean" in said:
            wrong.append(f"agnews {line} (exit code {code}): {said}")
    return right, wrong


def _agnews(*words: str) -> tuple[int, str]:
    done = subprocess.run([sys.executable, "-m", "agnews_exp.cli", *words], capture_output=True, text=True, check=False)
    return done.returncode, done.stderr


def main() -> None:
    """Try all in an empty project."""
    with tempfile.TemporaryDirectory() as root:
        os.environ["AGNEWS_ROOT"] = root
        Path(root, "texts.csv").write_text("text\na text\n", encoding="utf-8")
        os.chdir(root)
        right, wrong = try_commands(_agnews)
    print(f"{right} of {len(WRONG)} name what was meant", *wrong, sep="\n")
    sys.exit(right < 36 or any(line in said for line in NOTHING for said in wrong))


if __name__ == "__main__":
    main()
