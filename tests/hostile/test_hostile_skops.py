"""Files of scikit-learn models that are made up to run code, to expand or to confuse: refused; nothing runs."""

from __future__ import annotations

import functools
import io
import os
import pickle
import zipfile

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import FunctionTransformer

from agnews_exp.core.errors import StorageError
from agnews_exp.models.loading import load_model
from agnews_exp.models.persistence import MODEL_FILE, import_skops, load_pipeline


class Harmful:
    """Unpickling it makes a file."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (os.mkdir, (str(self.path),))


@pytest.fixture
def put_into(sign_again):
    """Replace one member of a skops file: ``put_into(folder, name, content)``."""

    def replace(folder, name, content):
        path = folder / MODEL_FILE
        with zipfile.ZipFile(path) as archive:
            members = {item.filename: archive.read(item) for item in archive.infolist()}
        members[name(members) if callable(name) else name] = content
        with zipfile.ZipFile(path, "w") as archive:
            for member, data in members.items():
                archive.writestr(member, data)
        sign_again(folder)

    return replace


def first_array(members):
    return next(name for name in members if name.endswith(".npy"))


@pytest.mark.parametrize("form", ["pickle as the file", "pickle as an array", "array of pickled objects"])
def test_a_pickle_inside_a_model_folder_is_never_unpickled(copy, tmp_path, form, sign_again, put_into):
    folder = copy("classical")
    mark = tmp_path / "ran"
    if form == "pickle as the file":
        (folder / MODEL_FILE).write_bytes(pickle.dumps(Harmful(mark)))
        sign_again(folder)
    elif form == "pickle as an array":
        put_into(folder, first_array, pickle.dumps(Harmful(mark)))
    else:
        buffer = io.BytesIO()
        np.save(buffer, np.array([Harmful(mark)], dtype=object), allow_pickle=True)
        put_into(folder, first_array, buffer.getvalue())
    with pytest.raises(StorageError):
        load_model(folder)
    assert not mark.exists()


@pytest.mark.parametrize(
    "function",
    [os.system, functools.partial(os.system, "true"), np.zeros(3).tofile, eval, LogisticRegression().set_params],
    ids=["os.system", "partial", "ndarray.tofile", "eval", "bound method"],
)
def test_a_skops_file_that_names_a_function_or_a_method_is_refused(tmp_path, function, sign_again, save_classical):
    save_classical(tmp_path / "model")
    harmful = Pipeline([("features", FunctionTransformer(func=function)), ("model", LogisticRegression())])
    import_skops().dump(harmful, tmp_path / "model" / MODEL_FILE)
    sign_again(tmp_path / "model")
    with pytest.raises(StorageError, match=r"not trusted|no pipeline"):
        load_model(tmp_path / "model")


@pytest.mark.parametrize("thing", [{"a": 1}, [1, 2], LogisticRegression()], ids=["dict", "list", "bare estimator"])
def test_a_skops_file_that_holds_no_pipeline_is_refused(tmp_path, thing, sign_again, save_classical):
    save_classical(tmp_path / "model")
    import_skops().dump(thing, tmp_path / "model" / MODEL_FILE)
    sign_again(tmp_path / "model")
    with pytest.raises(StorageError, match="no pipeline"):
        load_pipeline(tmp_path / "model")


@pytest.mark.parametrize("schema", [b"[" * 200_000, b"{}", b"null", b"\xff"])
def test_a_skops_file_with_a_schema_of_any_content_is_refused(copy, schema, put_into):
    folder = copy("classical")
    put_into(folder, "schema.json", schema)
    with pytest.raises(StorageError):
        load_model(folder)


def test_a_skops_file_that_expands_is_refused_before_it_is_read(copy, sign_again):
    folder = copy("classical")
    with zipfile.ZipFile(folder / MODEL_FILE, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("schema.json", b" " * (64 << 20))
    sign_again(folder)
    with pytest.raises(StorageError, match="expands to 67,108,864 bytes"):
        load_model(folder)


def test_an_array_header_that_asks_for_terabytes_is_refused(copy, put_into):
    folder = copy("classical")
    header = b"{'descr': '<f8', 'fortran_order': False, 'shape': (1000000000000,), }"
    header += b" " * (117 - len(header)) + b"\n"
    put_into(folder, first_array, b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header)
    with pytest.raises(StorageError):
        load_model(folder)


def test_a_stray_file_beside_a_classical_model_changes_nothing(copy, texts):
    folder = copy("classical")
    before = load_model(folder).predict(texts).labels
    (folder / "model.pkl").write_bytes(pickle.dumps(Harmful(folder / "ran")))
    np.testing.assert_array_equal(load_model(folder).predict(texts).labels, before)
    assert not (folder / "ran").exists()


def test_a_pickle_in_the_place_of_a_model_or_of_word_vectors_is_refused_and_does_not_run(tmp_path):
    import joblib

    from agnews_exp.core.errors import AgnewsError
    from agnews_exp.features.embeddings import read_word_vectors
    from agnews_exp.models.recipes import PretrainedEncoder, locate

    harmful = Harmful(tmp_path / "ran")
    (tmp_path / "model.pkl").write_bytes(pickle.dumps(harmful))
    joblib.dump(harmful, tmp_path / "model.joblib")
    joblib.dump(harmful, tmp_path / "model.joblib.gz")
    np.save(tmp_path / "vectors.npy", np.array([harmful], dtype=object), allow_pickle=True)
    for place in sorted(tmp_path.iterdir()):
        with pytest.raises(AgnewsError):
            load_model(place)
        with pytest.raises(AgnewsError):
            read_word_vectors(place)
        with pytest.raises(AgnewsError):
            locate(PretrainedEncoder(pretrained_path=str(place)))
    assert not (tmp_path / "ran").exists()
