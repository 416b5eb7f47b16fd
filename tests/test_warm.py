"""The warm command line of the tests behaves as a new interpreter does."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from importlib.util import find_spec

import pytest
from warm import PRELOAD, WARM

SEEN = """
import atexit, json, os, pathlib, signal, sys, threading
seen = {
    "argv": sys.argv, "path": sys.path, "environment": dict(os.environ), "folder": os.getcwd(), "name": __name__,
    "file": __file__, "main": sys.modules["__main__"].__dict__ is globals(), "threads": threading.active_count(),
    "signals": {s.name: repr(signal.getsignal(s)) for s in (signal.SIGINT, signal.SIGTERM, signal.SIGPIPE)},
    "encodings": [s.encoding for s in (sys.stdout, sys.stderr)], "errors": sys.stderr.errors,
    "descriptors": len(os.listdir("/proc/self/fd")),
}
print(json.dumps(seen))
print("on the way\\rout", end="")
print("warned", file=sys.stderr)
atexit.register(print, "the end")
threading.Thread(target=lambda: (threading.main_thread().join(), print("thread done"))).start()
"""


@pytest.fixture
def both(project):
    """Run a program as `run.py`, in a new interpreter and in the warm process."""

    def run(program, *words, timeout=60):
        script = project.root / "run.py"
        script.write_text(program)
        (project.root / "own").mkdir(exist_ok=True)
        env = project.environment | {"PYTHONPATH": str(project.root / "own"), "AGNEWS_SEEN": "yes"}
        command = [str(script), *words]
        cold = subprocess.run(
            [sys.executable, *command], capture_output=True, text=True, env=env, cwd=project.root, check=False
        )
        assert WARM.can_run(command, env)
        return cold, WARM.run(command, env=env, cwd=project.root, timeout=timeout)

    return run


def test_a_program_sees_what_it_sees_in_a_new_interpreter(both):
    cold, warm = both(SEEN, "one", "two=2")
    one, two = (json.loads(done.stdout.splitlines()[0]) for done in (cold, warm))
    assert two.pop("descriptors") - one.pop("descriptors") == 2, "the links to the two spare processes"
    assert two == one
    assert (warm.stdout.splitlines()[1:], warm.stderr) == (cold.stdout.splitlines()[1:], cold.stderr)
    assert "the end" in warm.stdout


@pytest.mark.parametrize(
    ("ending", "code"),
    [
        ("", 0), ("raise SystemExit", 0), ("raise SystemExit(3)", 3), ("raise SystemExit('a reason')", 1),
        ("import os; os._exit(7)", 7), ("raise ValueError('wrong')", 1), ("import os; os.kill(os.getpid(), 9)", -9),
    ],
)  # fmt: skip
def test_an_end_has_the_code_and_the_words_that_it_has_in_a_new_interpreter(both, ending, code):
    cold, warm = both(ending)
    assert (warm.returncode, warm.stdout) == (cold.returncode, cold.stdout)
    assert warm.returncode == code
    assert warm.stderr.splitlines()[-1:] == cold.stderr.splitlines()[-1:]


CHILDREN = """
import multiprocessing, os, subprocess, sys
from multiprocessing import forkserver

def where(pid):
    return "warm.py" in open(f"/proc/{pid}/cmdline").read()

if __name__ == "__main__":
    words = [sys.executable, "-P", "-m", "agnews_exp.cli", "list", "nonsense"]
    command = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, process_group=0)
    warm, group = where(command.pid), os.getpgid(command.pid) == command.pid
    _, error = command.communicate()
    print("command", warm, group, command.returncode, error.splitlines()[0][:40])
    forkserver.ensure_running()
    print("server", where(forkserver._forkserver._forkserver_pid))
    child = multiprocessing.get_context("forkserver").Process(target=os._exit, args=(5,))
    child.start()
    child.join()
    print("child", child.exitcode)
"""


def test_children_of_a_call_are_warm_too_and_the_same_otherwise(both):
    cold, warm = both(CHILDREN)
    assert (
        warm.stdout.splitlines()
        == cold.stdout.replace("command False", "command True").replace("server False", "server True").splitlines()
    )
    assert "server True" in warm.stdout
    assert "child 5" in warm.stdout
    assert warm.stderr == cold.stderr


def test_nothing_of_one_call_is_left_for_the_next(both):
    both("import os, sys, logging; os.environ['AGNEWS_LEFT'] = '1'; sys.left = 1; logging.basicConfig(); os.chdir('/')")
    _, warm = both(
        "import os, sys, logging; print('AGNEWS_LEFT' in os.environ, hasattr(sys, 'left'), logging.root.handlers)"
    )
    assert warm.stdout == "False False []\n"


def test_a_call_that_takes_too_long_is_ended(project):
    script = project.root / "run.py"
    script.write_text("import time; time.sleep(600)")
    began = time.monotonic()
    with pytest.raises(subprocess.TimeoutExpired):
        WARM.run([str(script)], env=project.environment, cwd=project.root, timeout=0.5)
    assert time.monotonic() - began < 60


@pytest.mark.parametrize("name", ["PYTHONHASHSEED", "OMP_NUM_THREADS", "LC_ALL", "HF_HOME", "TZ"])
def test_what_shapes_the_start_of_an_interpreter_is_not_run_warm(project, name):
    assert not WARM.can_run(["-m", "agnews_exp.cli"], project.environment | {name: "1"})


def test_other_programs_are_not_run_warm(project):
    assert not WARM.can_run(["-c", "print()"], project.environment)
    assert not WARM.can_run(["-m", "mlflow"], project.environment)


def test_what_a_classical_run_needs_is_imported_and_torch_is_not(project):
    script = project.root / "run.py"
    script.write_text("import sys; print(*(n in sys.modules for n in ('torch', 'transformers', 'sklearn', 'mlflow')))")
    done = WARM.run([str(script)], env=project.environment, cwd=project.root, timeout=60)
    assert done.stdout.split() == ["False", "False", "True", "True"]


def test_every_module_that_is_imported_beforehand_is_there():
    assert [name for name in PRELOAD if find_spec(name) is None] == []
