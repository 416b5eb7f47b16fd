"""Classifiers that misbehave while they are fitted."""

import json
import os
import signal
import time
from pathlib import Path
from typing import ClassVar

from sklearn.dummy import DummyClassifier

if os.environ.get("FAULTS_KILL") == "import":  # the process that checks the configuration is the first to import this
    os.kill(os.getpid(), signal.SIGKILL)


class Faulty(DummyClassifier):
    """Does what ``fault`` says: exit, raise, hang, once:<file>, killed-once:<file>, unless:<file>; anything else works.

    note:<variable>@<file> adds a line to the file: the environment variable, when the fit began, and when it ended.
    """

    _parameter_constraints: ClassVar = {
        **DummyClassifier._parameter_constraints,
        "fault": [str],
        "seconds": [float, int],
    }

    def __init__(self, fault="none", seconds=0.0, strategy="most_frequent", random_state=None):
        super().__init__(strategy=strategy, random_state=random_state)
        self.fault = fault
        self.seconds = seconds

    def fit(self, X, y, sample_weight=None):
        if self.fault == "exit":
            os._exit(1)
        if self.fault == "raise":
            raise RuntimeError("this estimator raises")
        if self.fault == "hang":
            time.sleep(3600)
        what, _, path = self.fault.partition(":")
        if what == "unless" and not Path(path).exists():
            raise RuntimeError(f"{path} is missing")
        if what == "once" and not Path(path).exists():
            Path(path).touch()
            os._exit(1)
        if what == "killed-once" and not Path(path).exists():
            Path(path).touch()
            os.kill(os.getpid(), signal.SIGKILL)
        began = time.time()
        time.sleep(self.seconds)
        if what == "note":
            variable, _, file = path.partition("@")
            with Path(file).open("a") as notes:
                notes.write(json.dumps([os.environ.get(variable), began, time.time()]) + "\n")
        return super().fit(X, y, sample_weight)
