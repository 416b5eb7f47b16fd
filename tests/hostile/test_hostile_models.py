"""Model folders that are damaged, swapped or made up: loaded as written or refused."""

from __future__ import annotations

import json
import os
import random

import pytest

from agnews_exp.core.errors import AgnewsError, StorageError
from agnews_exp.models.loading import load_model
from agnews_exp.models.persistence import MANIFEST, read_manifest


@pytest.mark.parametrize("kind", ["classical", "network"])
def test_every_flipped_or_lost_byte_of_every_file_is_noticed(copy, kind, texts):
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
    assert load_model(folder).predict(texts[:1]).labels.shape == (1,)


@pytest.mark.parametrize("kind", ["classical", "network"])
def test_a_flipped_byte_in_a_folder_that_is_signed_again_never_ends_in_another_error(copy, kind, sign_again):
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
        '{"format": 2, "sha256": {}, "class_names": 3, "family": "classical"}',
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
    (tmp_path / MANIFEST).write_text(json.dumps({"format": 2, "class_names": [], "sha256": {}} | families))
    with pytest.raises(StorageError, match="not a complete model folder"):
        load_model(tmp_path)


def test_class_names_that_steer_a_terminal_are_refused(copy, sign_again):
    folder = copy("classical")
    sign_again(folder, class_names=["\x1b]0;owned\x07", "b"])
    with pytest.raises(StorageError, match="control"):
        load_model(folder)


def test_a_model_whose_classes_are_not_the_manifests_is_refused(tmp_path, save_classical):
    save_classical(tmp_path / "model", n_classes=4)
    with pytest.raises(StorageError, match="classes"):
        load_model(tmp_path / "model")


def test_types_that_a_manifest_makes_up_are_not_trusted_types(tmp_path, sign_again, save_classical):
    from agnews_exp.tracking.logged_model import trusted_types

    save_classical(tmp_path / "model")
    ours = trusted_types(tmp_path / "model")
    assert any(name.startswith("agnews_exp.ngrams.") for name in ours)
    functions = ["os.system", "builtins.eval", "agnews_exp.models.persistence.write_manifest"]
    sign_again(tmp_path / "model", types=[*ours, *functions, "os.agnews_exp.models.x.Y"])
    assert trusted_types(tmp_path / "model") == ours


def test_code_beside_the_weights_of_a_strangers_folder_does_not_run(tmp_path, texts):
    """A config.json may name classes of its own files, which transformers would import where it is trusted or asked."""
    from transformers import BertConfig, BertModel

    from agnews_exp.models.encoders import build_network, load_tokenizer
    from agnews_exp.models.recipes import PretrainedEncoder, ScratchEncoder, locate

    tokenizer = load_tokenizer(ScratchEncoder(vocabulary=300, max_length=16), texts)
    sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32}
    BertModel(BertConfig(vocab_size=len(tokenizer), **sizes)).save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    (tmp_path / "evil.py").write_text(f"import os\nos.mkdir({str(tmp_path / 'ran')!r})\n")
    for name in ("config.json", "tokenizer_config.json"):
        content = json.loads((tmp_path / name).read_text())
        content["auto_map"] = {
            "AutoConfig": "evil.Evil", "AutoModel": "evil.Evil", "AutoTokenizer": ["evil.Evil", "evil.Evil"],
        }  # fmt: skip
        (tmp_path / name).write_text(json.dumps(content))
    recipe = PretrainedEncoder(pretrained_path=str(tmp_path), max_length=16)
    assert locate(recipe)[1]["trust_remote_code"] is False  # else a terminal is asked whether to run it
    build_network(recipe, load_tokenizer(recipe, []), ("a", "b"))
    config = json.loads((tmp_path / "config.json").read_text())
    weights = (tmp_path / "model.safetensors").read_bytes()
    for content in (weights[:100], b"", (1 << 62).to_bytes(8, "little") + weights[8:], b"\x80\x04."):
        (tmp_path / "config.json").write_text(json.dumps(config))
        (tmp_path / "model.safetensors").write_bytes(content)
        with pytest.raises(AgnewsError):
            build_network(recipe, tokenizer, ("a", "b"))
    (tmp_path / "config.json").write_text(json.dumps(config | {"model_type": "evil"}))
    with pytest.raises(AgnewsError):
        build_network(recipe, tokenizer, ("a", "b"))
    assert not (tmp_path / "ran").exists()
