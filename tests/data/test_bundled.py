import inspect
import logging
import runpy
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import yaml
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.metrics import f1_score
from sklearn.svm import LinearSVC

from agnews_exp.core.errors import DataError
from agnews_exp.data.bundled import load_ag_news, load_auto, load_sample
from agnews_exp.data.csv_files import load_csv

ROOT = Path(__file__).parents[2]
SCRIPT = ROOT / "scripts" / "make_sample_corpus.py"


def test_the_sample_has_four_equal_classes_and_no_text_twice():
    corpus = load_sample()
    assert np.bincount(corpus.train.labels).tolist() == [1000] * 4
    assert np.bincount(corpus.test.labels).tolist() == [200] * 4
    texts = corpus.train.texts + corpus.test.texts
    assert len(set(texts)) == len(texts)
    assert not any("{" in text or "}" in text for text in texts)


def test_a_linear_model_is_good_but_not_perfect_on_the_sample():
    corpus = load_sample()
    vectorizer = TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True)
    model = LinearSVC(random_state=0).fit(vectorizer.fit_transform(corpus.train.texts), corpus.train.labels)
    predicted = model.predict(vectorizer.transform(corpus.test.texts))
    assert 0.85 <= f1_score(corpus.test.labels, predicted, average="macro") <= 0.97


def test_the_shipped_sample_is_what_the_script_makes():
    subprocess.run([sys.executable, str(SCRIPT), "--check"], check=True, timeout=120)


def test_the_script_notices_a_changed_sample(tmp_path, capsys, monkeypatch):
    module = runpy.run_path(str(SCRIPT))
    main = module["main"]
    monkeypatch.setitem(main.__globals__, "FOLDER", tmp_path)
    monkeypatch.setattr(sys, "argv", ["make_sample_corpus.py"])
    assert main() == 0
    assert sum(path.stat().st_size for path in tmp_path.iterdir()) < 500_000
    monkeypatch.setattr(sys, "argv", ["make_sample_corpus.py", "--check"])
    assert main() == 0
    (tmp_path / "test.csv.gz").write_bytes((tmp_path / "train.csv.gz").read_bytes())
    assert main() == 1
    assert "differs" in capsys.readouterr().out


@pytest.fixture
def official(tmp_path):
    for name in ("train.csv", "test.csv"):
        (tmp_path / name).write_text('"1","a","b"\n"2","c","d"\n')
    return tmp_path


def test_auto_takes_the_folder_and_says_so(official, caplog):
    with caplog.at_level(logging.WARNING):
        corpus = load_auto(dir=official, download=False)
    assert corpus.source == "ag_news:csv"
    assert f"data=auto took AG_NEWS:CSV: {official}" in caplog.text


def test_auto_falls_back_to_the_sample_and_says_why(tmp_path, caplog):
    with caplog.at_level(logging.WARNING):
        corpus = load_auto(dir=tmp_path, download=False)
    assert corpus.source == "sample"
    assert "data=auto took SAMPLE" in caplog.text
    assert f"{tmp_path} lacks train.csv and test.csv" in caplog.text
    assert "data.download=false" in caplog.text


def test_auto_does_not_hide_damaged_files(official):
    (official / "test.csv").write_text('"1","a"\n')
    with pytest.raises(DataError, match="2 fields instead of 3"):
        load_auto(dir=official, download=False)


def test_auto_names_an_unreachable_hub_and_takes_the_sample(tmp_path, caplog, monkeypatch):
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    with caplog.at_level(logging.WARNING):
        corpus = load_auto(cache_dir=tmp_path)
    assert corpus.source == "sample"
    assert "AGNEWS_DATA_DIR and data.dir are empty; The Hugging Face hub could not be reached" in caplog.text


@pytest.mark.parametrize(
    ("name", "loader"), [("ag_news", load_ag_news), ("auto", load_auto), ("csv", load_csv), ("sample", load_sample)]
)
def test_every_argument_of_a_source_is_a_key_of_its_yaml(name, loader):
    config = yaml.safe_load((ROOT / "conf" / "data" / f"{name}.yaml").read_text())
    assert config["_target_"] == f"{loader.__module__}.{loader.__name__}"
    assert name in config["name"]
    assert config["validation_size"] == 0.15
    parameters = inspect.signature(loader).parameters
    assert set(config) - {"name", "_target_", "validation_size", "test_size"} == set(parameters)
    for key, parameter in parameters.items():
        if not str(config[key]).startswith("${"):
            same = config[key] == parameter.default or config[key] == [parameter.default]
            assert same, f"{key}: {config[key]} in the YAML, {parameter.default} in the code"
