"""Command lines of any content: a checked configuration or an error for people; never a component that is not one."""

from __future__ import annotations

import subprocess
import sys
from contextlib import suppress

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from agnews_exp.config.compose import compose_config
from agnews_exp.config.targets import resolve_target, safe_instantiate
from agnews_exp.config.validation import to_plain
from agnews_exp.core.errors import AgnewsError, ConfigError

KEYS = ["model", "data", "seed", "name", "tags.a", "model.C", "tags", "hydra.x", "hydra/launcher", "+x", "++x.y"]
KEYS += [
    "~model",
    "model._target_",
    "experiment",
    "features.blocks.word",
    "a@b",
    "model@",
    "",
    "..",
    "tuning",
    "defaults",
]
VALUES = ["", "1", "null", "???", "${name}", "${oc.env:HOME}", "${a", "{a:1}", "{a:", "[1,2", "range(1,3)", "glob(*)"]
VALUES += [
    "1e999",
    "nan",
    '"',
    "'",
    "\\",
    "../../etc/passwd",
    "x" * 3000,
    "\x1b[31m",
    "\0",
    "[[" * 200,
    "${.a}",
    "${..}",
]
VALUES += ["linear_svc", "extend_list(1)", "!!python/object:os.system", "${oc.select:x}", "${oc.decode:'[1'}", "*a"]

words = st.one_of(
    st.text(max_size=20),
    st.builds(
        lambda key, sign, value, more: key + sign + value + more,
        st.sampled_from(KEYS),
        st.sampled_from(["=", "+=", ""]),
        st.sampled_from(VALUES),
        st.text(max_size=3) | st.just(""),
    ),
)


@settings(max_examples=70, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(overrides=st.lists(words, min_size=1, max_size=2))
@example(["data=1"])
@example(["tuning=extend_list(1)"])
@example(["~model=nan"])
@example(["features=" + "x" * 400])
@example(["+=logreg", "experiment=${.a}"])
@example(["++x.y=${oc.select:x}"])
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_overrides_of_any_text_compose_or_are_explained(overrides):
    with suppress(AgnewsError):  # and nothing else
        to_plain(compose_config(overrides))


ATTACKS = [
    "os.system",
    "agnews_exp.core.process.os.system",
    "agnews_exp.core.cache.os.system",
    "agnews_exp.core.cache.shutil.rmtree",
    "agnews_exp.analyses.findings.write_table",
    "agnews_exp.tracking.record_files.write_predictions",
    "agnews_exp.models.persistence.add_json",
    "agnews_exp.models.persistence.write_manifest",
    "agnews_exp.models.persistence.save_pipeline",
    "agnews_exp.core.cache.ArrayCache",
    "agnews_exp.cli.main",
    "agnews_exp..data.x",
    ".os.system",
    "sklearn.",
    "sklearn..os",
    "sklearn.\0.x",
    "sklearn.conftest.x",
    "hydra.utils.call",
]


@pytest.mark.parametrize("path", ATTACKS)
def test_what_writes_or_runs_is_no_component(path):
    with pytest.raises(ConfigError):
        resolve_target(path, "model._target_")


@given(path=st.text(max_size=30) | st.lists(st.sampled_from(["agnews_exp", "sklearn", "data", "os", ""])).map(".".join))
@settings(max_examples=200, deadline=None)
def test_a_target_of_any_text_is_found_or_refused(path):
    with suppress(AgnewsError):
        assert callable(resolve_target(path, "model._target_"))


def test_a_configuration_cannot_write_a_file(tmp_path):
    target = {"_target_": "agnews_exp.analyses.findings.write_table"}
    with pytest.raises(ConfigError, match="may not be built"):
        safe_instantiate(target | {"path": str(tmp_path / "written.csv"), "rows": [{"a": "b"}]}, "model")
    assert not (tmp_path / "written.csv").exists()


def test_only_the_parts_of_our_package_that_hold_components_are_imported():
    code = (
        "import sys\nfrom agnews_exp.config.targets import resolve_target\n"
        "try:\n    resolve_target('agnews_exp.runners.distributed.main', 'model._target_')\n"
        "except Exception as error: print(type(error).__name__)\n"
        "print('agnews_exp.runners.distributed' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.split() == ["ConfigError", "False"]


@pytest.mark.slow
@pytest.mark.parametrize("override", ["data=1", "tuning=extend_list(1)"])
def test_the_real_command_says_what_hydra_stumbles_over(project, override):
    done = project.run(override, "tracking=none")
    assert done.returncode == 2, done.stderr
    assert "Traceback" not in done.stderr


def test_a_message_cannot_steer_the_terminal(project):
    done = project.run("data=sample", "model=\x1b[2Jlogreg\u202e")
    assert done.returncode == 2
    assert "\x1b" not in done.stderr
    assert "\u202e" not in done.stderr


def test_every_name_that_becomes_a_folder_is_one_on_every_system(tmp_path):
    from agnews_exp.analyses.exploration.performing import compose_eda
    from agnews_exp.config.compose import compose_config
    from agnews_exp.config.validation import check_config
    from agnews_exp.study.state import StudyFile

    light = ["data=sample", f"paths.output_dir={tmp_path}"]
    for folder in ("eda/Mine", "studies/Mine"):
        (tmp_path / folder).mkdir(parents=True)
    for name in ("CON", "aux", "mine"):
        with pytest.raises(ConfigError, match=r"eda\.folder="):
            compose_eda([*light, f"eda.folder={name}"])
        with pytest.raises(ConfigError, match=r"study\.name="):
            StudyFile(tmp_path, name)
    with pytest.raises(ConfigError, match=r"eda\.folder='\.\./\.\./x'"):
        compose_eda([*light, "data.name=../../x"])
    keys = "+evaluation/analyses@evaluation.analyses"
    for words, said in (
        ([f"{keys}.CON=calibration"], "device"),
        ([f"{keys}.x=calibration", f"{keys}.X=calibration"], "x"),
    ):
        with pytest.raises(ConfigError, match=rf"evaluation\.analyses=.*{said}"):
            check_config(compose_config([*light, *words]))
