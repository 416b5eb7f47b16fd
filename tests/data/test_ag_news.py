import csv
import logging
import os
from pathlib import Path

import numpy as np
import pytest

from agnews_exp.core.errors import DataError
from agnews_exp.data.bundled import load_ag_news
from agnews_exp.data.splits import cross_split_duplicates, make_splits, stratified

REAL = os.environ.get("AGNEWS_DATA_DIR")


@pytest.fixture
def folder(tmp_path):
    rows = [(str(i % 4 + 1), f"title {i}", f"description {i}") for i in range(40)]
    for name in ("train.csv", "test.csv"):
        with (tmp_path / name).open("w", newline="") as handle:
            csv.writer(handle, quoting=csv.QUOTE_ALL).writerows(rows)
    return tmp_path


def test_title_and_description_are_joined_and_classes_count_from_zero(folder):
    corpus = load_ag_news(dir=folder)
    assert corpus.train.texts[5] == "title 5 description 5"
    assert corpus.train.labels[:5].tolist() == [0, 1, 2, 3, 0]
    assert corpus.class_names == ("World", "Sports", "Business", "Sci/Tech")
    assert (corpus.validation, corpus.source) == (None, "ag_news:csv")


def test_an_unofficial_file_is_named_with_its_row_count_and_checksum(folder, caplog):
    with caplog.at_level(logging.WARNING):
        corpus = load_ag_news(dir=folder)
    assert "train.csv is NOT the official train.csv: 40 rows instead of 120,000, SHA-256 " in caplog.text
    assert "train.csv: 40 rows, official 120000, sha256 " in corpus.location
    assert str(folder) in corpus.location


def test_classes_txt_names_the_classes(folder):
    (folder / "classes.txt").write_text("Welt\nSport\nWirtschaft\nTechnik\nKultur\n")
    assert load_ag_news(dir=folder).class_names == ("Welt", "Sport", "Wirtschaft", "Technik", "Kultur")
    (folder / "classes.txt").write_text("a\nb\nc\n")
    with pytest.raises(DataError, match="10 bad lines"):
        load_ag_news(dir=folder)
    (folder / "classes.txt").write_text("a\na\n")
    with pytest.raises(DataError, match="at least two classes, all different"):
        load_ag_news(dir=folder)


def test_a_folder_without_the_files_is_an_error_that_names_them(folder):
    (folder / "test.csv").unlink()
    with pytest.raises(DataError) as caught:
        load_ag_news(dir=folder)
    assert f"{folder} lacks test.csv" in str(caught.value)
    assert "AGNEWS_DATA_DIR" in str(caught.value)


def test_a_folder_that_does_not_exist_is_an_error_even_where_the_hub_could_answer(tmp_path):
    with pytest.raises(DataError, match="does not exist"):
        load_ag_news(dir=tmp_path / "nowhere", download=True)


def test_without_folder_and_download_nothing_is_tried():
    with pytest.raises(DataError, match=r"data\.download=false"):
        load_ag_news(dir="", download=False)


@pytest.mark.ag_news
@pytest.mark.skipif(not REAL, reason="AGNEWS_DATA_DIR is not set")
def test_the_real_corpus_has_its_rows_and_its_split():
    corpus = load_ag_news(dir=REAL)
    official = len(corpus.train) == 120_000
    assert len(corpus.train) in (62_525, 120_000)
    assert np.bincount(corpus.test.labels).tolist() == [1900] * 4
    assert "test.csv: official" in corpus.location
    splits = make_splits(
        corpus, split_seed=42, validation_size=0.15, test_size=0.15, data_fraction=1.0, subset=stratified
    )
    assert (len(splits.train), len(splits.validation)) == ((102_000, 18_000) if official else (53_146, 9_379))
    assert cross_split_duplicates(splits)["train_test"] == 0


@pytest.mark.ag_news
@pytest.mark.skipif(not REAL, reason="AGNEWS_DATA_DIR is not set")
def test_the_shipped_sample_holds_no_text_of_the_real_corpus():
    from agnews_exp.data.bundled import load_sample

    corpus, sample = load_ag_news(dir=Path(REAL)), load_sample()
    real = {*corpus.train.texts, *corpus.test.texts}
    assert not real.intersection([*sample.train.texts, *sample.test.texts])
