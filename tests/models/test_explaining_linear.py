import numpy as np
import pytest
from sklearn.calibration import CalibratedClassifierCV
from sklearn.decomposition import NMF, TruncatedSVD
from sklearn.ensemble import RandomForestClassifier
from sklearn.feature_extraction.text import HashingVectorizer
from sklearn.linear_model import LogisticRegression, RidgeClassifier
from sklearn.naive_bayes import BernoulliNB, ComplementNB, MultinomialNB
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import MaxAbsScaler, Normalizer, StandardScaler
from sklearn.svm import LinearSVC

from agnews_exp.analyses.explanation.linear import Mapped, additive, linear_view, occurrences, top_terms
from agnews_exp.core.errors import ConfigError
from agnews_exp.features.documents import DocumentFeatures
from agnews_exp.features.preprocessing import TextPreprocessor
from agnews_exp.features.selection import TopScoring
from agnews_exp.models.nbsvm import NBSVM
from agnews_exp.models.ngram_linear import NgramLinear
from agnews_exp.ngrams import FeatureUnion, TfidfVectorizer

SUBJECTS = (
    ["the striker scored a late goal", "the team won the match", "coach praises his players"],
    ["shares fell on weak profit", "the bank raised interest rates", "oil prices rise again"],
    ["scientists built a new telescope", "the software update fixes bugs", "a chip that runs cooler"],
)
ENDINGS = [" on monday", ", officials said", " (agency)", "; more to follow", " after a long week"]
TEXTS = [f"{text}{ending}" for subject in SUBJECTS for text in subject for ending in ENDINGS]
LABELS = np.repeat([0, 1, 2], 15)
STRANGE = ["", "x", "  Ünïted   Läteİ\tΣΑΣ &lt;b&gt; goal's  ", "GOAL goal   goal\nshares"]


def word(**options):
    return TfidfVectorizer(ngram_range=(1, 2), **options)


def char(analyzer="char_wb"):
    return TfidfVectorizer(analyzer=analyzer, ngram_range=(2, 4), sublinear_tf=True)


def fitted(model, *steps, blocks=None, two_classes=False):
    union = blocks if blocks is not None else FeatureUnion([("word", word()), ("char", char())])
    before = [s for s in steps if s[0] == "clean"]
    features = Pipeline([*before, ("blocks", union), *(s for s in steps if s[0] != "clean")])
    rows = [i for i, label in enumerate(LABELS) if label < 2 or not two_classes]
    return Pipeline([("features", features), ("model", model)]).fit([TEXTS[i] for i in rows], LABELS[rows])


def reference(pipeline, texts, relative):
    """The estimator's own scores, shape (n, K)."""
    model = pipeline.named_steps["model"]
    name = "predict_joint_log_proba" if hasattr(model, "predict_joint_log_proba") else "decision_function"
    scores = getattr(model, name)(pipeline.named_steps["features"].transform(texts))
    scores = np.column_stack([-scores, scores]) if scores.ndim == 1 else scores
    return scores - scores.mean(axis=1, keepdims=True) if relative else scores


CASES = {
    "svc": lambda: fitted(LinearSVC()),
    "ridge": lambda: fitted(RidgeClassifier(), blocks=char("char")),
    "softmax": lambda: fitted(LogisticRegression()),
    "two classes": lambda: fitted(LinearSVC(), two_classes=True),
    "block weights": lambda: fitted(
        LinearSVC(), blocks=FeatureUnion([("word", word()), ("char", char())], transformer_weights={"char": 0.3})
    ),
    "own sgd": lambda: fitted(NgramLinear(random_state=0)),
    "nbsvm": lambda: fitted(NBSVM(binarize=True)),
    "multinomial": lambda: fitted(MultinomialNB()),
    "complement": lambda: fitted(ComplementNB()),
    "bernoulli": lambda: fitted(BernoulliNB(binarize=0.05)),
    "hashing": lambda: fitted(LinearSVC(), blocks=HashingVectorizer(n_features=64, ngram_range=(1, 2))),
    "select and scale": lambda: fitted(LinearSVC(), ("select", TopScoring(k=80)), ("scale", MaxAbsScaler())),
    "reduce and normalise": lambda: fitted(
        LinearSVC(), ("reduce", TruncatedSVD(5, random_state=0)), ("scale", Normalizer())
    ),
    "select and normalise": lambda: fitted(LinearSVC(), ("select", TopScoring(k=80)), ("scale", Normalizer("l1"))),
    "dense and standardised": lambda: fitted(
        LinearSVC(), ("scale", StandardScaler()), blocks=DocumentFeatures(scale="none")
    ),
    "cleaned": lambda: fitted(LinearSVC(), ("clean", TextPreprocessor(clean="basic"))),
    "stop words": lambda: fitted(LinearSVC(), blocks=word(stop_words="english", strip_accents="unicode")),
    "with document features": lambda: fitted(
        LinearSVC(), blocks=FeatureUnion([("word", word()), ("document", DocumentFeatures(scale="standard"))])
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_words_and_rest_add_up_to_the_models_own_score(case):
    pipeline = CASES[case]()
    view = linear_view(pipeline)
    texts = [*TEXTS[::7], *STRANGE]
    scores = reference(pipeline, texts, view.relative)
    np.testing.assert_allclose(view.scores(texts), scores, atol=1e-9)
    targets = np.arange(len(texts)) % scores.shape[1]
    explained = additive(view, texts, targets)
    totals = [explanation.total for explanation in explained]
    np.testing.assert_allclose(totals, scores[np.arange(len(texts)), targets], atol=1e-9)


@pytest.mark.parametrize("case", ["svc", "cleaned", "stop words", "hashing"])
def test_everything_that_n_grams_say_stands_at_words(case):
    for explanation in additive(linear_view(CASES[case]()), TEXTS[::7], np.ones(7, dtype=int)):
        assert abs(explanation.elsewhere) < 1e-9
        assert np.abs(explanation.weights).sum() > 0


def test_calibrated_machines_are_all_looked_at():
    pipeline = fitted(CalibratedClassifierCV(LinearSVC(), cv=3))
    members = pipeline.named_steps["model"].calibrated_classifiers_
    matrix = pipeline.named_steps["features"].transform(TEXTS)
    mean = np.mean([member.estimator.decision_function(matrix) for member in members], axis=0)
    np.testing.assert_allclose(linear_view(pipeline).scores(TEXTS), mean, atol=1e-9)


def test_word_that_only_one_class_has_speaks_for_it():
    view = linear_view(fitted(LinearSVC(), blocks=word()))
    assert [block.name for block in view.blocks] == ["word"]
    text = "telescope and profit"
    (explanation,) = additive(view, [text], np.array([1]))
    weights = dict(zip(explanation.words, explanation.weights, strict=True))
    assert weights["profit"] > 0 > weights["telescope"]
    assert weights["and"] == 0
    strongest = {term.term: term.contribution for term in top_terms(view, text, 1, 5)}
    assert strongest == pytest.approx({"profit": weights["profit"], "telescope": weights["telescope"]})


@pytest.mark.parametrize("model", [RandomForestClassifier(5, random_state=0)])
def test_model_that_is_not_linear_says_so(model):
    with pytest.raises(ConfigError, match="RandomForestClassifier is not linear"):
        linear_view(fitted(model))


def test_reduction_that_is_not_linear_says_so():
    with pytest.raises(ConfigError, match="NMF is not linear"):
        linear_view(fitted(LinearSVC(), ("reduce", NMF(3, init="random", random_state=0, max_iter=50, tol=0.1))))


@pytest.mark.parametrize("analyzer", ["word", "char", "char_wb"])
@pytest.mark.parametrize("accents", [None, "unicode"])
@pytest.mark.parametrize("stop_words", [None, "english"])
@pytest.mark.filterwarnings("ignore:The parameter 'stop_words' will not be used")
def test_n_grams_are_those_of_scikit_learn(analyzer, accents, stop_words):
    vectoriser = TfidfVectorizer(analyzer=analyzer, ngram_range=(1, 3), strip_accents=accents, stop_words=stop_words)
    analyze = vectoriser.build_analyzer()
    for text in [*TEXTS[:5], *STRANGE]:
        found = [term for term, _ in occurrences(vectoriser, Mapped(text, range(len(text))))]
        assert sorted(found) == sorted(analyze(text))


def test_n_grams_know_their_characters():
    vectoriser = TfidfVectorizer(analyzer="char_wb", ngram_range=(3, 3))
    text = "An  OIL"
    places = dict(occurrences(vectoriser, Mapped(text, range(len(text)))))
    assert places == {" an": [0, 1], "an ": [0, 1], " oi": [4, 5], "oil": [4, 5, 6], "il ": [5, 6]}


def test_families_are_the_n_grams_of_each_length():
    view = linear_view(CASES["svc"]())
    families = view.blocks[0].families() | view.blocks[1].families()
    assert list(families) == ["word 1-grams", "word 2-grams", "char 2-grams", "char 3-grams", "char 4-grams"]
    columns = np.concatenate(list(families.values()))
    assert sorted(columns) == list(range(view.weights.shape[1]))
    names = view.blocks[0].names()
    assert all(" " in names[i] for i in families["word 2-grams"])
