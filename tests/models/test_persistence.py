"""Model folders: what is written loads to the same answers; what was not written by us is refused."""

from __future__ import annotations

import json
import os

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer

from agnews_exp.core.errors import StorageError
from agnews_exp.models.nbsvm import NBSVM
from agnews_exp.models.persistence import MODEL_FILE, import_skops, load_pipeline, named_types, save_pipeline
from agnews_exp.ngrams import FeatureUnion, TfidfVectorizer

TEXTS = ["goal in the final", "bank profit rises", "coach and goal", "profit of the bank falls"] * 5
LABELS = np.array([0, 1, 0, 1] * 5)


def fitted():
    blocks = FeatureUnion(
        [("word", TfidfVectorizer()), ("char", TfidfVectorizer(analyzer="char", ngram_range=[2, 3]))],
        transformer_weights={"word": 1.0, "char": 0.5},
    )
    return make_pipeline(blocks, LogisticRegression()).fit(TEXTS, LABELS)


def test_saved_hybrid_pipeline_gives_the_same_probabilities(tmp_path):
    pipeline = fitted()
    save_pipeline(pipeline, tmp_path / "model")
    again = load_pipeline(tmp_path / "model")
    new = ["the coach of the bank", "goal", ""]
    np.testing.assert_array_equal(again.predict_proba(new), pipeline.predict_proba(new))
    assert not list(tmp_path.rglob("*.pkl"))


def test_file_that_would_call_a_function_is_refused(tmp_path):
    harmful = make_pipeline(FunctionTransformer(func=os.system), LogisticRegression())
    save_pipeline(harmful, tmp_path / "model")
    with pytest.raises(StorageError, match="not trusted"):
        load_pipeline(tmp_path / "model")


@pytest.mark.parametrize("damage", ["flip", "truncate", "no manifest", "bad manifest", "no model"])
def test_damaged_folder_is_refused_with_what_to_do(tmp_path, damage):
    folder = tmp_path / "model"
    save_pipeline(fitted(), folder)
    model, manifest = folder / MODEL_FILE, folder / "manifest.json"
    content = model.read_bytes()
    if damage == "flip":
        model.write_bytes(content[:100] + bytes([content[100] ^ 1]) + content[101:])
    elif damage == "truncate":
        model.write_bytes(content[: len(content) // 2])
    elif damage == "no manifest":
        manifest.unlink()
    elif damage == "bad manifest":
        manifest.write_text(json.dumps({"sha256": []}))
    else:
        model.unlink()
    with pytest.raises(StorageError, match="force=true"):
        load_pipeline(folder)


def test_skops_still_knows_all_estimators_of_scikit_learn_and_none_of_ours(tmp_path):
    skops_io = import_skops()
    path = tmp_path / "model.skops"
    skops_io.dump(LogisticRegression().fit([[0.0], [1.0]], [0, 1]), path)
    assert skops_io.get_untrusted_types(file=path) == []
    assert skops_io.load(path).predict([[1.0]]).tolist() == [1]
    skops_io.dump(NBSVM(), path)
    assert skops_io.get_untrusted_types(file=path) == named_types(path) == ["agnews_exp.models.nbsvm.NBSVM"]
