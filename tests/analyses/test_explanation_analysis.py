import json
from dataclasses import replace
from html.parser import HTMLParser

import numpy as np
import pytest

from agnews_exp.analyses.explanation.analysis import Article, analyse
from agnews_exp.analyses.explanation.words import Explanation
from agnews_exp.analyses.findings import Table, html_page, to_html, to_markdown, write_table
from agnews_exp.core.errors import ConfigError, MissingDependencyError
from agnews_exp.drawing import Chart

HOSTILE = '<script>alert(1)</script> Oil & gas: <img src=x onerror="alert(2)"> &lt;b&gt; $5 up'
QUICK = {"n_faithfulness": 8, "random_orders": 2, "permutation_repeats": 1, "methods": ("contributions", "occlusion")}


class Page(HTMLParser):
    """Collects the elements of a page and the texts of its divs of class text."""

    def __init__(self, source):
        super().__init__()
        self.tags, self.texts, self._depth = set(), [], 0
        self.feed(source)

    def handle_starttag(self, tag, attrs):
        self.tags.add(tag)
        if tag == "div" and ("class", "text") in attrs:
            self._depth, _ = 1, self.texts.append("")

    def handle_endtag(self, tag):
        if tag == "div":
            self._depth = 0

    def handle_data(self, data):
        if self._depth:
            self.texts[-1] += data


@pytest.fixture(scope="module")
def context(fit, tmp_path_factory):
    folder = tmp_path_factory.mktemp("explanation")
    whole = fit(folder, "data_fraction=0.3", "features=hybrid_tfidf", "model=linear_svc")
    splits = whole.splits
    right = whole.answers["test"].labels == splits.test.labels
    test = splits.test.take(np.concatenate([np.flatnonzero(right)[:7], np.flatnonzero(~right)[:3]]))
    splits = replace(splits, test=replace(test, texts=[HOSTILE, *test.texts[1:]]))
    return replace(whole, splits=splits, answers=whole.answers | {"test": whole.model.predict(splits.test.texts)})


@pytest.fixture(scope="module")
def findings(context):
    return analyse(context, n_articles=10, n_wrong=10, **QUICK)


def test_every_article_is_on_the_page_as_text(context, findings):
    page = Page((context.folder / "articles.html").read_text(encoding="utf-8"))
    assert not page.tags & {"script", "img", "iframe", "object", "link", "a"}
    assert page.texts.count(HOSTILE) == 2  # once a method
    assert set(page.texts) == set(context.splits.test.texts)


def test_wrong_answers_come_first_and_are_marked(context, findings):
    wrong = int((context.splits.test.labels != context.answers["test"].labels).sum())
    shown = findings.details["articles"]
    assert wrong >= 3
    assert [a["label"] != a["predicted"] for a in shown] == [True] * wrong + [False] * (10 - wrong)
    assert (context.folder / "articles.html").read_text(encoding="utf-8").count("wrong: the label is") == wrong


def test_contributions_on_the_page_add_up_to_the_score(context, findings):
    rows = {int(row): i for i, row in enumerate(context.splits.test.row_ids)}
    names = context.splits.class_names
    for article in findings.details["articles"]:
        found = article["explanations"]["contributions"]
        total = found["base"] + sum(found["weights"]) + found["elsewhere"]
        expected = context.answers["test"].scores[rows[article["row_id"]], names.index(article["predicted"])]
        assert total == pytest.approx(expected, abs=1e-9)


def test_methods_beat_random_order_and_are_measured(findings):
    metrics = findings.metrics
    for method in ("contributions", "occlusion"):
        assert metrics[f"test/comprehensiveness_{method}"] > metrics["test/comprehensiveness_random"]
        assert metrics[f"test/sufficiency_{method}"] < metrics["test/sufficiency_random"]


def test_weights_are_named_and_belong_to_their_blocks(context, findings):
    pipeline = context.model.pipeline
    union = pipeline.named_steps["features"].named_steps["blocks"]
    coefficients = pipeline.named_steps["model"].coef_
    begin = {"word": 0, "char": len(union.transformer_list[0][1].vocabulary_)}
    vocabularies = {name: block.vocabulary_ for name, block in union.transformer_list}
    weights = findings.details["weights"]
    assert {(w["block"], w["class_name"]) for w in weights} == {
        (block, name) for block in begin for name in context.splits.class_names
    }
    for entry in weights[::7]:
        column = begin[entry["block"]] + vocabularies[entry["block"]][entry["term"]]
        assert entry["weight"] == coefficients[context.splits.class_names.index(entry["class_name"]), column]
    highest = max(w["weight"] for w in weights if w["block"] == "word")
    assert highest == coefficients[:, : begin["char"]].max()


def test_as_many_terms_are_named_as_asked(context, tmp_path):
    rows = []
    for n in (3, 6):
        folder = tmp_path / str(n)
        folder.mkdir()
        found = analyse(replace(context, folder=folder), n_articles=1, n_terms=n, **QUICK)
        rows += [len(block.rows) for block in found.blocks if isinstance(block, Table) and block.name == "weights"]
    assert 0 < rows[0] < rows[1]


def test_families_are_measured_on_validation(context, findings):
    families = findings.details["families"]
    assert [f["family"] for f in families["losses"]][:3] == ["word", "word 1-grams", "word 2-grams"]
    assert all(f["permuted"] != 0 for f in families["losses"] if f["family"] in ("word", "char"))


def test_tables_and_charts(context, findings):
    blocks = {block.name: block for block in findings.blocks if isinstance(block, Chart | Table)}
    assert {"weights_chart", "families_chart", "faithfulness_chart", "weights", "faithfulness"} <= set(blocks)
    write_table(blocks["weights"], context.folder / "weights.csv")
    assert (context.folder / "weights.csv").read_text(encoding="utf-8").startswith("block,class,term,weight,effect")
    assert "## Faithfulness" in to_markdown(findings.blocks)
    json.dumps(findings.details, allow_nan=False)


def test_method_that_does_not_fit_the_model_is_refused(context):
    with pytest.raises(ConfigError, match="for networks only"):
        analyse(context, methods=("attention",))


def test_method_without_its_package_is_refused_and_auto_tells_of_it(context, tmp_path, hide):
    hide("lime")
    hide("shap")  # takes long to import
    with pytest.raises(MissingDependencyError, match="lime"):
        analyse(context, methods=("lime",))
    options = QUICK | {"methods": "auto", "n_faithfulness": 0, "permutation_repeats": 0}
    found = analyse(replace(context, folder=tmp_path), n_articles=1, **options)
    assert "lime" in found.details["left_out"]
    assert "agnews-exp[explain" in to_markdown(found.blocks)
    assert not any(name.startswith("test/") for name in found.metrics)


def test_highlight_shades_by_sign_and_shows_weights():
    explanation = Explanation("m", "up <b> down", 0, np.array([2.0, 0.0, 0.0, 0.0, -1.0]))
    html = to_html(Article(1, "a", "a", 0.5, "p", [explanation]).highlights())
    assert "&lt;" in html
    assert "<b>" not in html
    assert 'class="top"' in html
    assert 'title="+2.0000"' in html
    assert "rgba(213,94,0,0.375)" in html


def test_class_names_and_terms_cannot_break_the_page():
    article = Article(1, "<img>", "<img src=y>", 0.5, "p", [Explanation("m", "a", 0, np.array([1.0]))])
    page = Page(html_page("<script>x</script>", article.blocks()))
    assert not page.tags & {"script", "img", "a"}
