"""`agnews top` at 80 columns: no line is folded, no digit cut, and what all runs share is said once."""

from __future__ import annotations

from agnews_exp.cli import run_command
from agnews_exp.tracking.record import RunFolder
from agnews_exp.tracking.runs import short_name


def test_a_long_name_gives_way_and_nothing_else_does(store_run, tmp_path, monkeypatch, capsys):
    outputs = tmp_path / "outputs"
    store_run(outputs, 1, "logreg", 0.9, 0.8, name="a-rather-long-name-that-somebody-gave-to-this-run-of-theirs")
    store_run(outputs, 2, "multinomial_nb", 0.8, 0.8, name="second")
    monkeypatch.setenv("AGNEWS_ROOT", str(tmp_path))
    for columns in (80, 100, 200):
        monkeypatch.setenv("COLUMNS", str(columns))
        run_command(["top", "--test"])
        lines = capsys.readouterr().out.splitlines()
        assert "fraction 1, seed 42" in lines[0]
        assert all(len(line.rstrip()) <= columns for line in lines)
        assert len([line for line in lines if "0.8" in line or "0.9" in line]) == 2
        assert "000001" in lines[2]
        assert "…" not in lines[2].replace("…", "", 1 if columns < 150 else 0), "at most the name is cut"
    assert "2 test scores" in "".join(lines)
    sweep = tmp_path / "outputs" / "sweeps" / f"a-sweep-{'of-a-long-name-' * 6}"
    sweep.mkdir(parents=True)
    assert short_name(RunFolder(sweep / "12"), outputs) == "a-sweep-of-a-lon/12"
    (sweep.parent / "a-sweep-of-a-lone-wolf").mkdir()
    assert short_name(RunFolder(sweep / "12"), outputs) == "a-sweep-of-a-long/12"
    sweep.rmdir()
    monkeypatch.delenv("COLUMNS")
    run_command(["top"])
    shown = capsys.readouterr().out
    assert "test/macro_f1" not in shown, "test scores are for those who ask"
    assert "[0.8" in shown
    assert "a-rather-long-name-that-somebody-gave-to-this-run-of-theirs" in shown, "a pipe cuts nothing"
    store_run(outputs, 3, "multinomial_nb", 0.8, 0.8, seed=7)
    run_command(["top"])
    assert "seed" in capsys.readouterr().out.splitlines()[1].split()


def test_blends_are_marked_and_a_run_without_errors_is_not_certain(store_run, tmp_path, monkeypatch, capsys):
    store_run(tmp_path / "outputs", 1, "blend", 1.0, 0.8, family="cascade", name="mixed")
    store_run(tmp_path / "outputs", 2, "logreg", 0.9, 0.8, name="plain")
    monkeypatch.setenv("AGNEWS_ROOT", str(tmp_path))
    for metric in ("val/macro_f1", "val/accuracy"):
        run_command(["top", "--metric", metric])
        shown = capsys.readouterr().out
        assert "mixed *" in shown
        assert "plain *" not in shown
        assert "* fitted on validation rows" in shown
        assert "[1.0000" not in shown
        assert "1.0000]" in shown
