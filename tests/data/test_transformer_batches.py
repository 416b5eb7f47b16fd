"""Token tables and batches: every row once, little padding, an order that the seed alone decides."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agnews_exp.data.batching import BatchPlan, framed_lengths, padded_ids, share_of_rank
from agnews_exp.data.tokens import Frame, TokenTable, frame_of, tokenize
from agnews_exp.models.encoders import build_tokenizer

TEXTS = ["Shares rise 3% in London", "The team wins the final again", "", "a", "naïve café \udce9 <b>"] * 3


@pytest.fixture(scope="module")
def tokenizer():
    return build_tokenizer(TEXTS, 300)


def plans(**options):
    return BatchPlan(
        **({"batch_size": 8, "token_budget": None, "group_by_length": True, "seed": 1, "epochs": 3} | options)
    )


lengths_strategy = st.lists(st.integers(2, 60), min_size=1, max_size=120).map(lambda x: np.array(x, dtype=np.int64))


@settings(max_examples=60, deadline=None)
@given(lengths_strategy, st.integers(1, 20), st.none() | st.integers(1, 400), st.booleans())
def test_every_epoch_has_every_row_once_and_equally_many_batches_within_limits(lengths, size, budget, grouped):
    plan = plans(batch_size=size, token_budget=budget, group_by_length=grouped)
    for epoch in range(3):
        batches = plan.batches(lengths, epoch)
        assert sorted(np.concatenate(batches)) == list(range(len(lengths)))
        assert len(batches) == plan.n_batches(lengths)
        for batch in batches:
            assert 1 <= len(batch) <= size
            assert budget is None or len(batch) == 1 or len(batch) * lengths[batch].max() <= budget


def test_order_depends_on_seed_and_epoch_alone():
    lengths = np.arange(100) % 37 + 3
    np.random.seed(7)  # noqa: NPY002 - the global generator must not matter
    first = [b.tolist() for b in plans().batches(lengths, 1)]
    np.random.seed(8)  # noqa: NPY002
    assert [b.tolist() for b in plans().batches(lengths, 1)] == first
    assert [b.tolist() for b in plans().batches(lengths, 2)] != first
    assert [b.tolist() for b in plans(seed=2).batches(lengths, 1)] != first


def test_grouping_by_length_removes_most_padding():
    lengths = np.random.default_rng(0).integers(10, 120, 4000)

    def padding(batches):
        return 1 - lengths.sum() / sum(len(b) * lengths[b].max() for b in batches)

    grouped = padding(plans(batch_size=32).batches(lengths, 0))
    assert grouped < 0.05
    assert padding(plans(batch_size=32, group_by_length=False).batches(lengths, 0)) > 5 * grouped


@settings(max_examples=40, deadline=None)
@given(lengths_strategy, st.integers(1, 9), st.integers(1, 5))
def test_evaluation_batches_of_all_ranks_hold_every_row_once_and_every_rank_has_one(lengths, size, world):
    from agnews_exp.data.datamodule import EncodedRows, EvaluationLoader

    offsets = np.concatenate([[0], np.cumsum(lengths)])
    rows = EncodedRows(TokenTable(np.zeros(offsets[-1]), offsets), lengths, Frame((1,), (2,), 0), 9)
    loaders = [
        EvaluationLoader(rows, batch_size=size, token_budget=None, rank=r, world_size=world) for r in range(world)
    ]
    answered = [row for loader in loaders for batch in loader for row in batch["rows"].tolist()]
    assert sorted(answered) == list(range(len(lengths)))
    assert all(len(list(loader)) == len(loader) >= 1 for loader in loaders)


@pytest.mark.parametrize("rows", [1, 2, 3, 7])
def test_ranks_share_a_training_batch_without_loss_or_repetition(rows):
    batch = np.arange(100, 100 + rows)
    shares = [share_of_rank(batch, rank, 3) for rank in range(3)]
    assert all(len(share) for share in shares)
    kept = [row for rank, share in enumerate(shares) if rank < rows for row in share]
    assert sorted(kept) == batch.tolist()


def test_padded_ids_equal_the_tokenizers_own(tokenizer):
    texts = [t for t in TEXTS if t.isascii()]
    table, frame = tokenize(texts, tokenizer, None), frame_of(tokenizer)
    for max_length in (3, 6, 40):
        ids, mask = padded_ids(table, np.arange(len(texts)), frame, max_length)
        own = tokenizer(texts, padding=True, truncation=True, max_length=max_length, return_tensors="np")
        np.testing.assert_array_equal(ids, own["input_ids"])
        np.testing.assert_array_equal(mask, own["attention_mask"])
        np.testing.assert_array_equal(framed_lengths(table, frame, max_length), own["attention_mask"].sum(1))


def test_tokens_are_computed_once_and_then_memory_mapped(tokenizer, tmp_path, monkeypatch):
    from agnews_exp.data import tokens

    first = tokenize(TEXTS, tokenizer, tmp_path)
    monkeypatch.setattr(tokens, "encode_plain", lambda *_, **__: pytest.fail("tokenised again"))
    again = tokenize(TEXTS, tokenizer, tmp_path)
    assert isinstance(again.ids, np.memmap)
    np.testing.assert_array_equal(again.ids, first.ids)
    np.testing.assert_array_equal(again.offsets, first.offsets)


def test_other_texts_or_another_tokenizer_get_their_own_entry(tokenizer, tmp_path):
    tokenize(TEXTS, tokenizer, tmp_path)
    other = tokenize([*TEXTS[:-1], "else"], tokenizer, tmp_path)
    assert len(other) == len(TEXTS)
    bigger = build_tokenizer(["team team wins final London shares"], 400)
    np.testing.assert_array_equal(tokenize(TEXTS, bigger, tmp_path).ids, tokenize(TEXTS, bigger, None).ids)
    assert len([p for p in (tmp_path / "tokens").iterdir() if p.is_dir()]) == 3


def test_truncation_and_padding_of_the_tokenizer_file_do_not_reach_the_table(tokenizer):
    tokenizer.backend_tokenizer.enable_truncation(4)
    tokenizer.backend_tokenizer.enable_padding(length=128)
    try:
        assert tokenize(["one two three four five six"], tokenizer, None).lengths.tolist() == [
            len(tokenizer.tokenize("one two three four five six"))
        ]
    finally:
        tokenizer.backend_tokenizer.no_truncation()
        tokenizer.backend_tokenizer.no_padding()


def test_vocabulary_is_the_same_whatever_the_order_of_equal_counts():
    one = build_tokenizer(["alpha beta gamma delta", "beta alpha"], 300).get_vocab()
    two = build_tokenizer(["beta alpha", "delta gamma beta alpha"], 300).get_vocab()
    assert one == two
    assert len(build_tokenizer([f"word{i}" for i in range(1000)], 300)) <= 300


def loader(tmp_rows=23, **options):
    from agnews_exp.data.datamodule import EncodedRows, TrainLoader

    offsets = np.concatenate([[0], np.cumsum(np.arange(tmp_rows) % 5 + 1)])
    table = TokenTable(np.arange(offsets[-1]), offsets)
    rows = EncodedRows(table, np.arange(tmp_rows) % 4, Frame((1,), (2,), 0), 6)
    return TrainLoader(rows, plans(batch_size=4), **options)


def rows_of(batches):
    return [batch["rows"].tolist() for batch in batches]


def test_loader_goes_on_behind_the_batches_handed_out():
    whole = loader()
    whole.set_epoch(1)
    expected = rows_of(whole)
    part = loader()
    part.set_epoch(1)
    iterator = iter(part)
    assert rows_of([next(iterator), next(iterator)]) == expected[:2]
    resumed = loader()
    resumed.load_state_dict(part.state_dict())
    resumed.set_epoch(1)
    assert rows_of(resumed) == expected[2:]
    resumed.set_epoch(2)
    assert len(rows_of(resumed)) == len(expected)


def test_loader_starts_each_epoch_anew_even_when_the_last_was_left_early():
    part = loader()
    iterator = iter(part)
    next(iterator)
    part.set_epoch(1)
    assert len(rows_of(part)) == len(part)
    assert rows_of(part) == rows_of(part)


def test_worker_processes_give_the_same_batches():
    assert rows_of(loader(num_workers=2)) == rows_of(loader())


def test_weights_of_all_ranks_make_the_mean_over_the_whole_batch():
    losses = np.random.default_rng(0).random(23)
    ranks = [list(loader(rank=rank, world_size=3)) for rank in range(3)]
    for parts in zip(*ranks, strict=True):
        values = [float(losses[p["rows"]].sum() * p["weight"]) for p in parts]
        whole = np.concatenate([p["rows"] for p in parts if p["weight"] > 0])
        assert np.mean(values) == pytest.approx(losses[whole].mean())


def test_parts_of_a_corpus_come_from_one_cache_entry(tokenizer, tmp_path, monkeypatch):
    from agnews_exp.data import tokens

    parts = [TEXTS[7:2:-1], [TEXTS[2]], [], TEXTS]
    expected = [tokenize(part, tokenizer, None) for part in parts]
    tokens.CorpusTokens(TEXTS, tokenizer, tmp_path)
    monkeypatch.setattr(tokens, "encode_plain", lambda *_, **__: pytest.fail("tokenised again"))
    corpus = tokens.CorpusTokens(TEXTS, tokenizer, tmp_path)
    for part, own in zip(parts, expected, strict=True):
        table = corpus.table(part)
        np.testing.assert_array_equal(table.ids, own.ids)
        np.testing.assert_array_equal(table.offsets, own.offsets)
    assert corpus.table([TEXTS[0], "a text from elsewhere"]) is None
    assert len([p for p in (tmp_path / "tokens").iterdir() if p.is_dir()]) == 1


def test_a_batch_weighs_the_mean_of_its_rows_and_pads_to_its_longest():
    from agnews_exp.data.datamodule import EncodedRows

    table = TokenTable(np.arange(6), np.array([0, 1, 3, 6]))
    batch = EncodedRows(table, np.array([2, 0, 1]), Frame((101,), (102,), 0), 16).batch(np.array([0, 1]))
    assert batch["weight"] == pytest.approx(0.5)
    assert batch["tokens"] == 3 + 4
    assert batch["labels"].tolist() == [2, 0]


def test_a_rank_without_rows_of_a_batch_has_no_weight():
    ranks = [next(iter(loader(tmp_rows=2, rank=rank, world_size=3))) for rank in range(3)]
    assert [batch["weight"] for batch in ranks] == [1.5, 1.5, 0.0]


def test_a_module_without_a_trainer_hands_out_every_row():
    from agnews_exp.data.datamodule import EncodedRows, TextDataModule

    table = TokenTable(np.arange(9), np.arange(10))
    rows = EncodedRows(table, np.zeros(9, dtype=np.int64), Frame((101,), (102,), 0), 16)
    module = TextDataModule(rows, rows, plans(batch_size=4), evaluation_batch_size=2, token_budget=None)
    for batches in (module.train_dataloader(), module.val_dataloader()):
        assert sorted(row for batch in rows_of(batches) for row in batch) == list(range(9))
    assert len(module.val_dataloader()) == 5
