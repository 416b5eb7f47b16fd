"""Random files of all formats and encodings, whole and damaged: no row is lost or joined, no traceback."""

from __future__ import annotations

from pathlib import Path


def test_no_row_of_random_files_is_lost_or_joined(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(str(Path(__file__).resolve().parents[2] / "scripts"))
    from fuzz_files import fuzz_files

    tried, findings = fuzz_files(tmp_path, 1, files=80)
    assert findings == []
    assert tried == 80
