"""Texts longer than a network: what of them is read, the same at training, prediction, serving and export."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
import torch

from agnews_exp.core.errors import AgnewsError
from agnews_exp.data.batching import cut_texts, pool_pieces
from agnews_exp.data.datamodule import EncodedRows
from agnews_exp.data.tokens import Frame, TokenTable
from agnews_exp.models.loading import load_model

FRAME = Frame((1,), (2,), 0)
RNG = np.random.default_rng(0)


def table_of(lengths):
    """Texts whose tokens are 10, 11, 12, ..."""
    ids = np.concatenate([np.arange(10, 10 + n) for n in lengths]).astype(np.int32)
    return TokenTable(ids, np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64))


def texts_of(table):
    return [table.ids[a:b].tolist() for a, b in zip(table.offsets[:-1], table.offsets[1:], strict=True)]


def test_windows_cover_every_token_and_share_an_eighth_of_their_room():
    for room in (8, 9, 17, 64):
        lengths = [0, 1, room - 1, room, room + 1, 2 * room, 2000]
        table = table_of(lengths)
        pieces, starts = cut_texts(table, FRAME, room + 2, "windows")
        assert len(pieces) == starts[-1]
        read = texts_of(pieces)
        for i, n in enumerate(lengths):
            windows = read[starts[i] : starts[i + 1]]
            assert all(len(window) == min(n, room) for window in windows)
            assert all(window == list(range(window[0], window[0] + len(window))) for window in windows if window)
            assert {token for window in windows for token in window} == set(range(10, 10 + n))
            shared = [a[-1] - b[0] + 1 for a, b in pairwise(windows)]
            assert all(n_shared >= room // 8 for n_shared in shared)
        bounded, few = cut_texts(table, FRAME, room + 2, "windows", most=3)
        assert np.diff(few).max() == 3
        last = texts_of(bounded)[few[-2] : few[-1]]
        assert (last[0][0], last[-1][-1]) == (10, 2009), "few windows reach from end to end"


def test_head_and_tail_fill_the_room_and_short_texts_stay():
    table = table_of([3, 8, 9, 100])
    pieces, starts = cut_texts(table, FRAME, 10, "head_tail")
    assert starts.tolist() == [0, 1, 2, 3, 4]
    assert texts_of(pieces) == [
        [10, 11, 12], list(range(10, 18)), [10, 11, *range(13, 19)], [10, 11, *range(104, 110)],
    ]  # fmt: skip
    for way in ("truncate", "head_tail", "windows"):
        short = table_of([3, 8])
        assert cut_texts(short, FRAME, 10, way)[0] is short


def test_pooling_is_the_same_while_training_and_while_answering():
    starts = np.array([0, 1, 4, 6])
    logits = RNG.normal(size=(6, 3)).astype(np.float32)
    for pooling in ("mean", "max"):
        torchs = torch.segment_reduce(torch.from_numpy(logits), pooling, lengths=torch.tensor([1, 3, 2]), axis=0)
        np.testing.assert_allclose(pool_pieces(logits, starts, pooling), torchs.numpy(), rtol=1e-6)
    logits[2] = np.nan
    assert np.isnan(pool_pieces(logits, starts, "max")).all(axis=1).tolist() == [False, True, False]


def test_a_batch_holds_all_windows_of_its_rows_and_its_length_is_theirs_together():
    table = table_of([4, 30, 3, 17])
    rows = EncodedRows(table, np.array([0, 1, 0, 1]), FRAME, 10, long_texts="windows")
    batch = rows.batch(np.array([1, 2, 3]))
    assert batch["windows"].tolist() == [5, 1, 3]
    assert batch["input_ids"].shape == (9, 10)
    assert batch["labels"].tolist() == [1, 0, 1]
    assert batch["tokens"] == rows.lengths[[1, 2, 3]].sum() == 5 * 10 + 5 + 3 * 10
    assert "windows" not in rows.batch(np.array([0, 2]))
    apart = rows.apart()
    assert (len(apart), apart.labels.tolist()) == (10, [0, 1, 1, 1, 1, 1, 0, 1, 1, 1])


def long_corpus(n, seed):
    """Texts of 2,000 words whose class is told by some words in the middle, and by no others."""
    rng = np.random.default_rng(seed)
    noise, words = [f"w{i}" for i in range(50)], {"left": "port red", "right": "starboard green"}
    lines = ["label,text"]
    for i in range(n):
        label = list(words)[i % 2]
        text = rng.choice(noise, 2000).tolist()
        text[300:1500:3] = rng.choice(words[label].split(), 400).tolist()
        lines.append(f"{label},{' '.join(text)}")
    return "\n".join(lines)


@pytest.mark.slow
def test_windows_read_the_middle_of_texts_of_2000_tokens_which_truncation_and_head_and_tail_never_see(
    start_project, tmp_path
):
    for part, seed, n in (("train", 0, 96), ("test", 1, 40)):
        (tmp_path / f"{part}.csv").write_text(long_corpus(n, seed))
    run, _ = start_project(
        "data=csv", f"data.train_file={tmp_path}/train.csv", f"data.test_file={tmp_path}/test.csv", "trainer=cpu",
        "tracking=none", "evaluation.latency_repeats=0", "model=tiny", "model.dim=16", "model.hidden_dim=32",
        "model.vocabulary=400", "model.max_length=128", "model.n_layers=1", "model.dropout=0", "model.pooling=mean",
        "trainer.max_epochs=2",
        "trainer.batch_size=4", "model.learning_rate=0.01", "trainer.n_jobs=1",
    )  # fmt: skip
    scores = {}
    for words in ("truncate", "head_tail", "windows", "windows model.window_pooling=max"):
        done = run(*f"model.long_texts={words}".split())
        scores[words] = done.result["metrics"]["test/macro_f1"]
    assert max(scores["truncate"], scores["head_tail"]) < 0.7
    assert min(scores["windows"], scores["windows model.window_pooling=max"]) > 0.95
    model = load_model(done.folder / "model")
    assert (model.long_texts, model.window_pooling) == ("windows", "max")
    from agnews_exp.analyses.explanation.networks import gradient_x_input

    with pytest.raises(AgnewsError, match="windows"):
        gradient_x_input(model, ["port"], np.array([0]))


def test_an_exported_network_reads_long_texts_as_the_saved_one(tmp_path):
    pytest.importorskip("onnxruntime")
    from agnews_exp.models.encoders import build_network, load_tokenizer
    from agnews_exp.models.inference import TextPredictor, save_predictor
    from agnews_exp.models.onnx_model import GRAPH, load_onnx, save_check, save_onnx, write_graph
    from agnews_exp.models.recipes import ScratchEncoder

    sizes = {"dim": 16, "n_layers": 1, "n_heads": 2, "hidden_dim": 32, "vocabulary": 300, "max_length": 32}
    recipe = ScratchEncoder(**sizes, long_texts="windows", window_pooling="max")
    texts = ["the bank raised its rates again " * 20, "goal", "a new chip doubles the speed of phones " * 9]
    tokenizer = load_tokenizer(recipe, texts)
    torch.manual_seed(0)
    network = build_network(recipe, tokenizer, ("a", "b", "c"))
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.mul_(30 if parameter.ndim > 1 else 1)
    device = torch.device("cpu")
    kept = TextPredictor(network, tokenizer, ("a", "b", "c"), 32, device, long_texts="windows", window_pooling="max")
    save_predictor(kept, recipe, tmp_path / "model")
    expected = kept.predict(texts).probabilities
    np.testing.assert_allclose(load_model(tmp_path / "model").predict(texts).probabilities, expected, atol=1e-6)
    first = TextPredictor(network, tokenizer, ("a", "b", "c"), 32, device).predict(texts).probabilities
    assert np.abs(first - expected).max() > 1e-4
    folder = tmp_path / "onnx"
    folder.mkdir()
    write_graph(load_model(tmp_path / "model"), folder / GRAPH)
    save_onnx(folder, tmp_path / "model", tokenizer, ("a", "b", "c"), max_length=32, precision="float32")
    save_check(folder, texts)
    np.testing.assert_allclose(load_onnx(folder).predict(texts).probabilities, expected, atol=1e-4)
