"""The n-gram counter is compiled once for a processor, before anything is timed, and says so."""

import os
import subprocess
import sys

import pytest

CODE = """
import gc, logging, sys
logging.basicConfig(level=logging.INFO, stream=sys.stdout, format="%(message)s")
from agnews_exp import ngrams
from agnews_exp.config.compose import compose_config
from agnews_exp.config.validation import check_config
from agnews_exp.data.bundled import load_sample
from agnews_exp.models.nearest import CosineNeighbors
from agnews_exp.models.ngram_linear import NgramLinear
from agnews_exp.runners.choose import start_preparing
from numba.core.dispatcher import Dispatcher

def misses():
    found = [kernel for kernel in gc.get_objects() if isinstance(kernel, Dispatcher)]
    ours = [kernel for kernel in found if kernel.py_func.__module__.startswith("agnews_exp.")]
    return sum(sum(kernel.stats.cache_misses.values()) for kernel in ours)

start_preparing(check_config(compose_config(["data=sample", "model=linear_neighbors"])))()
before = misses()
rows = load_sample().train.texts[:500]
words = dict(ngram_range=(1, 2), min_df=3, max_df=0.95, max_features=50, sublinear_tf=True, n_jobs=2)
letters = words | dict(analyzer="char", ngram_range=(3, 5))
union = ngrams.FeatureUnion([("word", ngrams.TfidfVectorizer(**words)), ("char", ngrams.TfidfVectorizer(**letters))])
matrix, labels = union.fit_transform(rows), load_sample().train.labels[:500]
NgramLinear(dropout=0.5).fit(matrix, labels)
CosineNeighbors().fit(matrix, labels).predict(matrix)
with ngrams.shared_counts(rows):
    union.fit_transform(rows)
    union.transform(rows[:5])
union.transform(["none of them"])
print(before, misses())
"""


@pytest.mark.slow
def test_a_default_run_compiles_nothing_after_the_first_use_was_announced(tmp_path):
    def run() -> list[str]:
        environment = os.environ | {"NUMBA_CACHE_DIR": str(tmp_path)}
        done = subprocess.run([sys.executable, "-c", CODE], env=environment, capture_output=True, text=True, check=True)
        return done.stdout.splitlines()

    announced, counted = run()
    assert announced.startswith("compiling kernels for this processor, once: ")
    assert announced.endswith(" s")
    before, after = counted.split()
    assert before == after != "0"
    assert run() == ["0 0"]
