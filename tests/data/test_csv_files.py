import pytest

from agnews_exp.core.errors import ConfigError, DataError
from agnews_exp.data.csv_files import load_csv

ROWS = [("stone", "geology", "x"), ("cell", "biology", "y"), ("lava", "geology", "z")]


@pytest.fixture
def train(tmp_path):
    path = tmp_path / "mine.csv"
    path.write_text("text,topic,id\n" + "".join(f"{a},{b},{c}\n" for a, b, c in ROWS))
    return path


def test_named_columns_are_read_and_class_names_sorted(train):
    corpus = load_csv(train_file=train, text_columns=["id", "text"], label_column="topic")
    assert corpus.train.texts == ["x stone", "y cell", "z lava"]
    assert corpus.class_names == ("biology", "geology")
    assert corpus.train.labels.tolist() == [1, 0, 1]
    assert (corpus.validation, corpus.test, corpus.source) == (None, None, "csv")
    assert str(train) in corpus.location


def test_the_numbering_of_classes_does_not_depend_on_the_row_order(train):
    one = load_csv(train_file=train, label_column="topic")
    lines = train.read_text().splitlines()
    train.write_text("\n".join([lines[0], *reversed(lines[1:])]))
    other = load_csv(train_file=train, label_column="topic")
    assert dict(zip(one.train.texts, one.train.labels, strict=True)) == dict(
        zip(other.train.texts, other.train.labels, strict=True)
    )


def test_own_validation_and_test_files_use_the_training_classes(train, tmp_path):
    (tmp_path / "v.csv").write_text("text,topic,id\nrock,geology,1\n")
    (tmp_path / "t.jsonl").write_text('{"text": "gene", "topic": "biology"}\n')
    corpus = load_csv(
        train_file=train,
        validation_file=tmp_path / "v.csv",
        test_file=tmp_path / "t.jsonl",
        label_column="topic",
    )
    assert (corpus.validation.texts, corpus.validation.labels.tolist()) == (["rock"], [1])
    assert (corpus.test.texts, corpus.test.labels.tolist()) == (["gene"], [0])


def test_a_class_unknown_in_training_is_refused_in_the_test_file(train, tmp_path):
    (tmp_path / "t.csv").write_text("text,topic,id\nrock,geology,1\nrock,geolgy,1\n")
    with pytest.raises(DataError, match=r"line 3: unknown class 'geolgy' .*did you mean 'geology'\?"):
        load_csv(train_file=train, test_file=tmp_path / "t.csv", label_column="topic")


def test_relative_paths_start_at_the_current_folder(train, monkeypatch):
    monkeypatch.chdir(train.parent)
    assert len(load_csv(train_file="mine.csv", label_column="topic").train) == 3


def test_many_classes_with_any_names(tmp_path):
    path = tmp_path / "many.csv"
    path.write_text("text,label\n" + "".join(f"text {i},{'é ' * (i % 7)}class {i % 150}\n" for i in range(2100)))
    corpus = load_csv(train_file=path)
    assert len(corpus.class_names) == 1050
    assert corpus.class_names[corpus.train.labels[8]] == "é class 8"


def test_an_unknown_column_is_named_with_the_nearest(train):
    with pytest.raises(ConfigError) as caught:
        load_csv(train_file=train, label_column="topics")
    assert "data.label_column=topics" in str(caught.value)
    assert "its columns: text, topic, id" in str(caught.value)
    assert caught.value.fix == "data.label_column=topic"
    with pytest.raises(ConfigError, match=r"data\.text_columns=body"):
        load_csv(train_file=train, text_columns="body", label_column="topic")


def test_a_position_outside_a_headless_file_is_refused(train):
    with pytest.raises(ConfigError, match="numbered 0 to 2"):
        load_csv(train_file=train, has_header=False, text_columns=[0], label_column=7)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "has no rows"),
        ("text,label\n", "has no rows"),
        ("text,label\na,x\nb,x\n", "all 2 rows have the class 'x'; there must be at least two"),
        ("text,label\na,x\nb\n,y\nc,\n", "3 bad lines"),
    ],
)
def test_unusable_files_are_explained(tmp_path, content, message):
    path = tmp_path / "bad.csv"
    path.write_text(content)
    with pytest.raises(DataError, match=message) as caught:
        load_csv(train_file=path)
    assert str(path) in caught.value.message


def test_a_missing_file_or_none_at_all_is_explained(tmp_path):
    with pytest.raises(DataError, match=r"There is no file .*gone\.csv"):
        load_csv(train_file=tmp_path / "gone.csv")
    with pytest.raises(ConfigError, match="needs a training file"):
        load_csv()
