"""Folders of networks that are made up to bring code, files or nonsense: refused."""

from __future__ import annotations

import json

import pytest

from agnews_exp.core.errors import StorageError
from agnews_exp.models.loading import load_model


@pytest.mark.parametrize(
    "name", ["added_tokens.json", "chat_template.jinja", "generation.py", "special_tokens_map.json"]
)
def test_a_file_beside_a_network_that_its_manifest_does_not_name_is_refused(copy, name):
    folder = copy("network")
    (folder / name).write_text("{}")
    with pytest.raises(StorageError, match="not in the folder's manifest"):
        load_model(folder)


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
def test_a_network_configuration_cannot_bring_code_or_nonsense(copy, change, tmp_path, sign_again):
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
def test_a_safetensors_header_with_an_absurd_size_is_refused(copy, size, sign_again):
    folder = copy("network")
    path = folder / "model.safetensors"
    path.write_bytes(size.to_bytes(8, "little") + path.read_bytes()[8:])
    sign_again(folder)
    with pytest.raises(StorageError, match="no network"):
        load_model(folder)


@pytest.mark.parametrize("change", [{"recipe": {"recipe": "os.system"}}, {"recipe": None}, {"max_length": "x"}])
def test_a_made_up_recipe_is_refused(copy, change, sign_again):
    folder = copy("network")
    sign_again(folder, **change)
    with pytest.raises(StorageError):
        load_model(folder)


def test_a_tokenizer_of_any_content_is_refused_or_answers(copy, sign_again, texts):
    """Where the Rust library panics it raises what is no Exception."""
    folder = copy("network")
    path = folder / "tokenizer.json"
    whole = json.loads(path.read_text())
    frame = {"type": "TemplateProcessing", "pair": [], "single": [{"SpecialToken": {"id": "[NONE]", "type_id": 0}}]}
    changes = [
        {"post_processor": frame | {"special_tokens": {}}},
        {"model": {"type": "WordPiece", "vocab": {}, "unk_token": "[UNK]"}},
        {"model": {"type": "BPE", "vocab": {"a": 2**31}, "merges": [["a", "b"]]}},
        {"normalizer": {"type": "Replace", "pattern": {"Regex": "(" * 1000}, "content": ""}},
        {"pre_tokenizer": {"type": "Sequence", "pretokenizers": [{"type": "Sequence", "pretokenizers": []}] * 1000}},
        {"truncation": {"max_length": 2, "stride": 9, "direction": "Right", "strategy": "LongestFirst"}},
        {"added_tokens": [{"id": -1, "content": "x"}]},
    ]
    contents = [json.dumps(whole | change) for change in changes]
    for content in (*contents, "[" * 100_000, '{"model": "' + "x" * 5_000_000, "null", ""):
        path.write_text(content)
        sign_again(folder)
        try:
            assert len(load_model(folder).predict(texts[:2]).labels) == 2
        except StorageError:
            continue
