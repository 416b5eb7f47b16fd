"""Model folders that are damaged, swapped or made up to run code: loaded as written or refused; nothing runs."""

from __future__ import annotations

import functools
import io
import json
import os
import pickle
import random
import shutil
import zipfile

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import FunctionTransformer

from agnews_exp.config.errors import AgnewsError, StorageError
from agnews_exp.features.fast import TfidfVectorizer
from agnews_exp.models.loading import load_model
from agnews_exp.models.manifest import MANIFEST, read_manifest, write_manifest
from agnews_exp.models.persistence import MODEL_FILE, import_skops, load_pipeline, save_pipeline

TEXTS = ["goal in the final", "bank profit rises", "coach and goal", "profit of the bank falls"] * 3
NAMES = ("Sports", "Business")


def fitted(*steps, n_classes=2):
    pipeline = Pipeline([*steps, ("features", TfidfVectorizer()), ("model", LogisticRegression())])
    return pipeline.fit(TEXTS, [i % n_classes for i in range(len(TEXTS))])


@pytest.fixture(scope="module")
def classical(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models") / "classical"
    save_pipeline(fitted(), folder, NAMES)
    return folder


@pytest.fixture(scope="module")
def network(tmp_path_factory):
    torch = pytest.importorskip("torch")
    from agnews_exp.models.encoders import build_network, load_tokenizer
    from agnews_exp.models.inference import TextPredictor
    from agnews_exp.models.recipes import ScratchEncoder
    from agnews_exp.models.saved import save_predictor

    recipe = ScratchEncoder(vocabulary=300, dim=8, n_layers=1, n_heads=2, hidden_dim=16, max_length=16)
    tokenizer = load_tokenizer(recipe, TEXTS)
    built = build_network(recipe, tokenizer, NAMES)
    folder = tmp_path_factory.mktemp("models") / "network"
    save_predictor(TextPredictor(built, tokenizer, NAMES, 16, torch.device("cpu")), recipe, folder)
    return folder


@pytest.fixture
def copy(tmp_path, request):
    """A copy of one of the two folders, free to be damaged."""

    def make(kind):
        return shutil.copytree(request.getfixturevalue(kind), tmp_path / kind)

    return make


def sign_again(folder, **changes):
    """Write the manifest anew, as somebody does who makes up a folder."""
    manifest = json.loads((folder / MANIFEST).read_text()) | changes
    more = {k: v for k, v in manifest.items() if k not in ("format", "family", "class_names", "sha256")}
    write_manifest(folder, manifest["family"], manifest["class_names"], **more)


@pytest.mark.parametrize("kind", ["classical", "network"])
def test_every_flipped_or_lost_byte_of_every_file_is_noticed(copy, kind):
    folder = copy(kind)
    before = json.loads((folder / MANIFEST).read_text())
    draw = random.Random(0)
    for path in sorted(folder.iterdir()):
        whole = path.read_bytes()
        for position in {0, len(whole) - 2, *(draw.randrange(len(whole)) for _ in range(25))}:
            path.write_bytes(
                whole[:position] + bytes([whole[position] ^ (1 << draw.randrange(8))]) + whole[position + 1 :]
            )
            try:
                assert path.name == MANIFEST, f"{path.name}: byte {position} unnoticed"
                found = read_manifest(folder)
                # The manifest is not signed: what it says beside the checksums may change, into valid words.
                assert found["sha256"] == before["sha256"]
            except StorageError:
                continue
            except AssertionError:
                with pytest.raises(StorageError):
                    read_manifest(folder)
        for length in (0, 1, len(whole) // 2, len(whole) - 1):
            path.write_bytes(whole[:length])
            if not (path.name == MANIFEST and length == len(whole) - 1):  # its last line end
                with pytest.raises(StorageError):
                    read_manifest(folder)
        path.unlink()
        with pytest.raises(StorageError):
            read_manifest(folder)
        path.write_bytes(whole)
    assert load_model(folder).predict(TEXTS[:1]).labels.shape == (1,)


@pytest.mark.parametrize("kind", ["classical", "network"])
def test_a_flipped_byte_in_a_folder_that_is_signed_again_never_ends_in_another_error(copy, kind):
    """Such a file gets past the checksums to the parsers of skops, safetensors, tokenizers and transformers."""
    folder = copy(kind)
    draw = random.Random(1)
    refused = 0
    for path in sorted(p for p in folder.iterdir() if p.name != MANIFEST):
        whole = path.read_bytes()
        for _ in range(12 if kind == "classical" else 5):
            position = draw.randrange(min(len(whole), 4000))
            path.write_bytes(whole[:position] + bytes([draw.randrange(256)]) + whole[position + 1 :])
            sign_again(folder)
            try:
                load_model(folder)
            except AgnewsError:
                refused += 1
        path.write_bytes(whole)
    assert refused > 3


@pytest.mark.parametrize("name", ["../outside", "/etc/hostname", "link", "deep/../../outside", "pipe", "none", "a\0b"])
def test_a_manifest_that_names_a_file_outside_its_folder_is_refused(copy, name):
    folder = copy("classical")
    (folder.parent / "outside").write_text("secret")
    (folder / "link").symlink_to(folder.parent / "outside")
    os.mkfifo(folder / "pipe")
    manifest = json.loads((folder / MANIFEST).read_text())
    manifest["sha256"][name] = "2bb80d537b1da3e38bd30361aa855686bde0eacd7162fef6a25fe97bf527a25b"
    (folder / MANIFEST).write_text(json.dumps(manifest))
    with pytest.raises(StorageError, match=r"outside|lacks|null"):
        load_model(folder)


@pytest.mark.parametrize(
    "content",
    [
        "[" * 100_000,
        '{"format": Infinity}',
        '{"format": 1, "sha256": {}, "class_names": 3, "family": "classical"}',
        "[]",
    ],
)
def test_a_manifest_of_any_json_is_refused(copy, content):
    folder = copy("classical")
    (folder / MANIFEST).write_text(content)
    with pytest.raises(StorageError):
        load_model(folder)


@pytest.mark.parametrize("families", [{}, {"family": None}, {"family": ["classical"]}])
def test_a_manifest_without_a_family_is_refused(tmp_path, families):
    (tmp_path / MANIFEST).write_text(json.dumps({"format": 1, "class_names": [], "sha256": {}} | families))
    with pytest.raises(StorageError, match="not a complete model folder"):
        load_model(tmp_path)


def test_class_names_that_steer_a_terminal_are_refused(copy):
    folder = copy("classical")
    sign_again(folder, class_names=["\x1b]0;owned\x07", "b"])
    with pytest.raises(StorageError, match="control"):
        load_model(folder)


def test_a_model_whose_classes_are_not_the_manifests_is_refused(tmp_path):
    save_pipeline(fitted(n_classes=4), tmp_path / "model", NAMES)
    with pytest.raises(StorageError, match="classes"):
        load_model(tmp_path / "model")


def test_types_that_a_manifest_makes_up_are_not_trusted_by_mlflow(tmp_path):
    from agnews_exp.tracking.classical_model import _types

    save_pipeline(fitted(), tmp_path / "model", NAMES)
    ours = _types(tmp_path / "model")
    assert any(name.startswith("agnews_exp.features.") for name in ours)
    functions = ["os.system", "builtins.eval", "agnews_exp.models.manifest.write_manifest"]
    sign_again(tmp_path / "model", types=[*ours, *functions, "os.agnews_exp.models.x.Y"])
    assert _types(tmp_path / "model") == ours


class Harmful:
    """Unpickling it makes a file."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (os.mkdir, (str(self.path),))


def put_into(folder, name, content):
    """Replace one member of a skops file."""
    path = folder / MODEL_FILE
    with zipfile.ZipFile(path) as archive:
        members = {item.filename: archive.read(item) for item in archive.infolist()}
    members[name(members) if callable(name) else name] = content
    with zipfile.ZipFile(path, "w") as archive:
        for member, data in members.items():
            archive.writestr(member, data)
    sign_again(folder)


def first_array(members):
    return next(name for name in members if name.endswith(".npy"))


@pytest.mark.parametrize("form", ["pickle as the file", "pickle as an array", "array of pickled objects"])
def test_a_pickle_inside_a_model_folder_is_never_unpickled(copy, tmp_path, form):
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
def test_a_skops_file_that_names_a_function_or_a_method_is_refused(tmp_path, function):
    save_pipeline(fitted(), tmp_path / "model", NAMES)
    harmful = Pipeline([("features", FunctionTransformer(func=function)), ("model", LogisticRegression())])
    import_skops().dump(harmful, tmp_path / "model" / MODEL_FILE)
    sign_again(tmp_path / "model")
    with pytest.raises(StorageError, match=r"not trusted|no pipeline"):
        load_model(tmp_path / "model")


@pytest.mark.parametrize("thing", [{"a": 1}, [1, 2], LogisticRegression()], ids=["dict", "list", "bare estimator"])
def test_a_skops_file_that_holds_no_pipeline_is_refused(tmp_path, thing):
    save_pipeline(fitted(), tmp_path / "model", NAMES)
    import_skops().dump(thing, tmp_path / "model" / MODEL_FILE)
    sign_again(tmp_path / "model")
    with pytest.raises(StorageError, match="no pipeline"):
        load_pipeline(tmp_path / "model")


@pytest.mark.parametrize("schema", [b"[" * 200_000, b"{}", b"null", b"\xff"])
def test_a_skops_file_with_a_schema_of_any_content_is_refused(copy, schema):
    folder = copy("classical")
    put_into(folder, "schema.json", schema)
    with pytest.raises(StorageError):
        load_model(folder)


def test_a_skops_file_that_expands_is_refused_before_it_is_read(copy):
    folder = copy("classical")
    with zipfile.ZipFile(folder / MODEL_FILE, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("schema.json", b" " * (64 << 20))
    sign_again(folder)
    with pytest.raises(StorageError, match="expands to 67,108,864 bytes"):
        load_model(folder)


def test_an_array_header_that_asks_for_terabytes_is_refused(copy):
    folder = copy("classical")
    header = b"{'descr': '<f8', 'fortran_order': False, 'shape': (1000000000000,), }"
    header += b" " * (117 - len(header)) + b"\n"
    put_into(folder, first_array, b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header)
    with pytest.raises(StorageError):
        load_model(folder)


@pytest.mark.parametrize(
    "name", ["added_tokens.json", "chat_template.jinja", "generation.py", "special_tokens_map.json"]
)
def test_a_file_beside_a_network_that_its_manifest_does_not_name_is_refused(copy, name):
    folder = copy("network")
    (folder / name).write_text("{}")
    with pytest.raises(StorageError, match="not in the folder's manifest"):
        load_model(folder)


def test_a_stray_file_beside_a_classical_model_changes_nothing(copy):
    folder = copy("classical")
    before = load_model(folder).predict(TEXTS).labels
    (folder / "model.pkl").write_bytes(pickle.dumps(Harmful(folder / "ran")))
    np.testing.assert_array_equal(load_model(folder).predict(TEXTS).labels, before)
    assert not (folder / "ran").exists()


@pytest.mark.parametrize(
    "change",
    [
        {"model_type": "evil", "auto_map": {"AutoConfig": "evil.Evil"}},
        {"auto_map": {"AutoConfig": "evil.Evil"}, "model_type": "also_evil"},
        {"attn_implementation": "somebody/kernel"},
        {"_attn_implementation": "somebody/kernel"},
        {"dim": -1},
        {"n_layers": "many"},
    ],
)
def test_a_network_configuration_cannot_bring_code_or_nonsense(copy, change, tmp_path):
    folder = copy("network")
    (folder / "evil.py").write_text(f"import os\nos.mkdir({str(tmp_path / 'ran')!r})\nclass Evil: pass\n")
    config = json.loads((folder / "config.json").read_text()) | change
    (folder / "config.json").write_text(json.dumps(config))
    sign_again(folder)
    kernel = any("attn_implementation" in key for key in change)
    with pytest.raises(StorageError, match="attn_implementation=somebody/kernel is not ours" if kernel else None):
        load_model(folder)
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("size", [2**63 - 1, 10**9, 0])
def test_a_safetensors_header_with_an_absurd_size_is_refused(copy, size):
    folder = copy("network")
    path = folder / "model.safetensors"
    path.write_bytes(size.to_bytes(8, "little") + path.read_bytes()[8:])
    sign_again(folder)
    with pytest.raises(StorageError, match="no network"):
        load_model(folder)


@pytest.mark.parametrize("change", [{"recipe": {"recipe": "os.system"}}, {"recipe": None}, {"max_length": "x"}])
def test_a_made_up_recipe_is_refused(copy, change):
    folder = copy("network")
    sign_again(folder, **change)
    with pytest.raises(StorageError):
        load_model(folder)
