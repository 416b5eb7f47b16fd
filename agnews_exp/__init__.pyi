from agnews_exp.api import Comparison as Comparison
from agnews_exp.api import Run as Run
from agnews_exp.api import Sweep as Sweep
from agnews_exp.api import compare as compare
from agnews_exp.api import evaluate as evaluate
from agnews_exp.api import find_run as find_run
from agnews_exp.api import report as report
from agnews_exp.api import rows as rows
from agnews_exp.api import run as run
from agnews_exp.api import runs as runs
from agnews_exp.api import sweep as sweep

__version__: str
