"""Small model folders to damage, swap or make up."""

from __future__ import annotations

import json
import shutil

import pytest

TEXTS = ["goal in the final", "bank profit rises", "coach and goal", "profit of the bank falls"] * 3
NAMES = ("Sports", "Business")


def _fitted(n_classes=2):
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import Pipeline

    from agnews_exp.ngrams import TfidfVectorizer

    pipeline = Pipeline([("features", TfidfVectorizer()), ("model", LogisticRegression())])
    return pipeline.fit(TEXTS, [i % n_classes for i in range(len(TEXTS))])


def _sign_again(folder, **changes):
    from agnews_exp.models.persistence import MANIFEST, write_manifest

    manifest = json.loads((folder / MANIFEST).read_text()) | changes
    more = {k: v for k, v in manifest.items() if k not in ("format", "family", "class_names", "sha256")}
    write_manifest(folder, manifest["family"], manifest["class_names"], **more)


@pytest.fixture
def texts():
    """The texts that the models know."""
    return TEXTS


@pytest.fixture
def sign_again():
    """Write a folder's manifest anew, as somebody does who makes up a folder: ``sign_again(folder, **changes)``."""
    return _sign_again


@pytest.fixture
def save_classical():
    """Save a classical model of two named classes: ``save_classical(folder, n_classes=2)``."""
    from agnews_exp.models.persistence import save_pipeline

    return lambda folder, n_classes=2: save_pipeline(_fitted(n_classes), folder, NAMES)


@pytest.fixture(scope="session")
def classical(tmp_path_factory):
    """The folder of a classical model."""
    from agnews_exp.models.persistence import save_pipeline

    folder = tmp_path_factory.mktemp("models") / "classical"
    save_pipeline(_fitted(), folder, NAMES)
    return folder


@pytest.fixture(scope="session")
def network(tmp_path_factory):
    """The folder of a network."""
    import torch

    from agnews_exp.models.encoders import build_network, load_tokenizer
    from agnews_exp.models.inference import TextPredictor, save_predictor
    from agnews_exp.models.recipes import ScratchEncoder

    recipe = ScratchEncoder(vocabulary=300, dim=8, n_layers=1, n_heads=2, hidden_dim=16, max_length=16)
    tokenizer = load_tokenizer(recipe, TEXTS)
    built = build_network(recipe, tokenizer, NAMES)
    folder = tmp_path_factory.mktemp("models") / "network"
    save_predictor(TextPredictor(built, tokenizer, NAMES, 16, torch.device("cpu")), recipe, folder)
    return folder


@pytest.fixture
def copy(tmp_path, request):
    """A copy of one of the two folders, free to be damaged: ``copy("classical")``."""

    def make(kind):
        return shutil.copytree(request.getfixturevalue(kind), tmp_path / kind)

    return make
