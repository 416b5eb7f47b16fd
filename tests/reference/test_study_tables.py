"""The study's tables stand beside ours with the split of every number named."""

from __future__ import annotations

from agnews_exp.reference.ag_news_notebooks.study_tables import published, study_tables


def result(model, features, n_folds, pooling=""):
    return {
        "model": model, "features": features, "pooling": pooling, "seed": 42,
        "folds": {"macro_f1": [0.5] * n_folds},
        "metrics": {"cv/macro_f1": 0.91234, "cv/macro_f1_std": 0.00321, "val/macro_f1": 0.9, "test/macro_f1": 0.8},
        "timings": {"fit": 1.26},
        "data": {"source": "here", "rows": {"train": 100, "val": 20, "test": 30}},
    }  # fmt: skip


def test_all_published_configurations_are_there():
    assert len(published("models")) == 19
    assert len(published("pipelines")) == 7


def test_runs_are_set_beside_the_published_numbers_by_model_features_folds_and_pooling():
    models, pipelines = study_tables(
        [
            result("linear_svc", "hybrid_tfidf", 10),
            result("logreg", "hybrid_tfidf", 5),
            result("logreg", "word2vec_trained", 5, "concat"),
            result("knn", "hybrid_tfidf", 10),
        ]
    )
    by_model = {row[0]: row for row in models.rows}
    assert by_model["linear_svc"][1:] == ("0.9210 ±0.0034", "0.9123 ±0.0032", "0.9000", "0.8000", "1.3")
    assert by_model["logreg"][2:] == ("–",) * 4  # 5 folds belong to the other table
    assert len(models.rows) == 19
    filled = [row[0] for row in pipelines.rows if row[3] != "–"]
    assert filled == ["char_enhanced (hybrid_tfidf)", "embedding_concat (word2vec_trained, concat)"]
    for table in (models, pipelines):
        assert all(":" in column for column in table.header[1:])
        assert "100 train" in table.note
        assert table.markdown().count("\n| ") >= len(table.rows)


def test_runs_without_cross_validation_are_left_out():
    plain = result("linear_svc", "hybrid_tfidf", 10) | {"folds": {}}
    models, _ = study_tables([plain])
    assert all(row[2] == "–" for row in models.rows)
    assert "None of these has been run" in models.note
