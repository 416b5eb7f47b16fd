"""Own data from the first command: inspect, train with what it prints, answer and watch files of the same kind."""

from __future__ import annotations

import json
import shlex

QUICK = ("features=bow", "features.blocks.word.min_df=1", "evaluation.latency_repeats=0", "tracking=none")
WORDS = {"garden": "soil seed plant rain", "music": "choir tune drum song", "cycling": "wheel chain pedal road"}


def rows():
    for i in range(90):
        team = list(WORDS)[i % 3]
        words = WORDS[team].split()
        yield f"{team[0].upper()}-{i}", f'"{words[i % 4]} café {i}', f"{words[(i + 1) % 4]} and number {i}", team


def test_a_semicolon_file_with_quotes_and_a_leak_from_inspect_to_drift(project):
    path = project.root / "tickets (1).csv"
    lines = ["ticket_id;subject;message;team", *(";".join(row) for row in rows()), "X-1;;;garden"]
    path.write_bytes("\n".join(lines).encode("cp1252"))
    done = project.agnews("inspect", str(path))
    assert done.returncode == 0, done.stderr
    assert "3 classes: garden 31, music 30, cycling 30" in done.stdout
    assert "read as cp1252, which is a guess" in " ".join(done.stdout.split())
    assert "quotes are taken for characters" in " ".join(done.stdout.split())
    assert "'ticket_id' predicts team for" in done.stdout
    (command,) = [line for line in done.stdout.splitlines() if line.startswith("next ")]
    words = shlex.split(command)
    assert words[:3] == ["next", "agnews", "run"]
    assert "data.text_columns=[subject,message]" in words

    run = project.agnews(*words[2:], *QUICK, "name=own")
    assert run.returncode == 0, run.stderr
    result = project.result()
    assert result["data"]["name"] == "tickets (1)"
    assert result["data"]["counts"] == {"empty_texts": 1}
    assert any("1 rows have no text (dropped" in note for note in result["notes"])

    new = project.root / "new.csv"
    new.write_bytes('team;message;subject\n?;café and seed;"soil\n?;drum;song"\n'.encode("cp1252"))
    done = project.agnews("predict", "own", str(new), "--output", str(project.root / "out.jsonl"))
    assert done.returncode == 0, done.stderr
    answers = [json.loads(line) for line in (project.root / "out.jsonl").read_text().splitlines()]
    assert [row["label"] for row in answers] == ["garden", "music"]
    done = project.agnews("drift", "own", str(path))
    assert "91 texts" in done.stdout or "90 texts (1 rejected)" in done.stdout, done.stdout + done.stderr


def test_a_leak_is_said_before_training_and_stands_in_the_result(project):
    path = project.root / "a.csv"
    path.write_text("\n".join(["id,text,team", *(f"{i},{m},{t}" for i, _, m, t in rows())]))
    columns = ("data.text_columns=[id,text]", "data.label_column=team", "data.name=mine")
    run = project.run("data=csv", f"data.train_file={path}", *columns, *QUICK, "model=multinomial_nb")
    assert run.returncode == 0, run.stderr
    said = run.stdout + run.stderr
    assert said.index("'id' predicts the class of") < said.index("fitting multinomial_nb")
    result = project.result()
    assert any("leave it out with 'data.text_columns=[text]'" in note for note in result["notes"])
    assert result["data"]["name"] == result["data"]["source"] == "mine"
    assert "mine" in project.agnews("top").stdout
