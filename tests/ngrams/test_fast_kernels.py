"""How the kernels are loaded: only when needed, from any folder, and not at all where numba is missing."""

import os
import subprocess
import sys

import pytest

FIT = """
import warnings
from agnews_exp.ngrams import CountVectorizer, FeatureUnion, TfidfVectorizer, shared_counts
rows = ["spam egg spam", "egg \u00e9gg", "spam"] * 3
def fit():
    with shared_counts(rows):
        union = FeatureUnion([("a", TfidfVectorizer()), ("b", TfidfVectorizer(analyzer="char", ngram_range=(1, 3)))])
        return union.fit_transform(rows), CountVectorizer().fit(rows[:4]).transform(rows)
"""


def run(code, **env):
    done = subprocess.run(
        [sys.executable, "-c", FIT + code], capture_output=True, text=True, env={**os.environ, **env}, timeout=300
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip().splitlines()


def test_importing_the_vectorisers_imports_neither_numba_nor_torch():
    assert run("import sys; print(sorted({'numba', 'torch', 'mlflow'} & set(sys.modules)))") == ["[]"]


@pytest.mark.slow
def test_without_numba_results_are_the_same_and_one_warning_says_why():
    shown = "x, y = fit(); print(x.sum(), x.nnz, y.toarray().tolist())"
    fast_result = run(shown)
    slow_result = run(
        "import sys; sys.modules['numba'] = None\n"
        "with warnings.catch_warnings(record=True) as caught:\n"
        "    warnings.simplefilter('always')\n"
        f"    {shown.replace('; ', chr(10) + '    ')}\n"
        "print(len([w for w in caught if 'numba' in str(w.message)]))"
    )
    assert slow_result[-1] == "1"
    assert float(slow_result[0].split()[0]) == pytest.approx(float(fast_result[0].split()[0]), abs=1e-9)
    assert slow_result[0].split()[1:] == fast_result[0].split()[1:]


@pytest.mark.slow
def test_machine_code_is_kept_where_numba_is_told(tmp_path):
    run("fit()", NUMBA_CACHE_DIR=str(tmp_path))
    assert list(tmp_path.rglob("*.nbi"))


@pytest.mark.slow
def test_kernels_compile_where_no_folder_can_keep_them():
    # As for a package installed read-only under a user without a home folder.
    code = "from numba.core import caching\ncaching.CacheImpl._locator_classes = []\nx, _ = fit(); print(x.shape[0])"
    assert run(code) == ["9"]
