"""What a search leaves behind beside the usual tables: the best trials, and Optuna's plots."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from optuna.trial import FrozenTrial, TrialState

from agnews_exp.config.storage import atomic_path
from agnews_exp.sweeps.folder import BEST, SweepFolder
from agnews_exp.sweeps.search import Search
from agnews_exp.tracking.record import write_json

log = logging.getLogger(__name__)


def report_search(search: Search, folder: SweepFolder) -> dict[str, Any]:
    """Write best.json and plots/; return note, metrics and artifacts for the parent run, and lines for the terminal."""
    trials = search.study.get_trials(deepcopy=False)
    counts = {name.lower(): sum(t.state is state for t in trials) for name, state in TrialState.__members__.items()}
    best = _best(search)
    content = [
        {
            "trial": trial.number,
            "values": dict(zip(search.settings.objectives, trial.values, strict=True)),
            "params": trial.params,
            "overrides": list(state.overrides) if (state := folder.state(trial.number)) else [],
        }
        for trial in best
    ]
    write_json(folder.path / BEST, {"objectives": search.settings.objectives, "best": content})
    lines = [f"### {'Best trial' if len(search.settings.objectives) == 1 else 'Pareto set'}", ""]
    lines += ["| trial | " + " | ".join(search.settings.objectives) + " | parameters |"]
    lines += ["| --- | " + "--- | " * len(search.settings.objectives) + "--- |"]
    for entry in content:
        values = " | ".join(f"{v:.4f}" for v in entry["values"].values())
        params = ", ".join(f"{k}={_short(v)}" for k, v in entry["params"].items())
        lines.append(f"| {entry['trial']} | {values} | {params} |")
    if content:
        job = "" if len(search.settings.objectives) == 1 else " --job N"
        lines += ["", "The trials did not score the test set. Fit one again and score it there: "]
        lines[-1] += f"`agnews sweeps best {folder.name}{job} --run`"
    said = saved_steps(trials, search.unit)
    lines += ["", *said]
    artifacts: list[Path] = [folder.path / BEST]
    if search.settings.plots:
        artifacts += _draw(search, folder.path / "plots")
    metrics = {f"trials/{name}": float(n) for name, n in counts.items() if n}
    return {"note": "\n".join(lines).rstrip(), "metrics": metrics, "artifacts": artifacts, "said": said}


def saved_steps(trials: Sequence[FrozenTrial], unit: str | None) -> list[str]:
    """Say how much pruning has saved, in a line; nothing when no trial was pruned.

    Args:
        trials: The study's trials.
        unit: What a trial reports the ends of, such as ``epochs``; None for trial fits before the real one. A pruned
            trial is taken to have had as many before it as the longest completed one.
    """
    done = [len(t.intermediate_values) for t in trials if t.state is TrialState.COMPLETE]
    pruned = [len(t.intermediate_values) for t in trials if t.state is TrialState.PRUNED]
    if not pruned:
        return []
    said = f"{len(pruned)} of {len(done) + len(pruned)} trials were pruned"
    if unit is None:
        return [f"{said} before their full fit"]
    run = sum(done) + sum(pruned)
    planned = sum(done) + len(pruned) * max([*done, *pruned])
    return [f"{said}: {run} of {planned} {unit} were run, {1 - run / planned:.0%} saved"]


def _best(search: Search) -> list[Any]:
    try:
        return [search.study.best_trial] if len(search.settings.objectives) == 1 else search.study.best_trials
    except ValueError:  # no trial has finished
        return []


def _short(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _importances(study: Any, number: int, name: str) -> Any:
    from optuna.visualization import matplotlib as plots

    return plots.plot_param_importances(study, target=lambda trial: trial.values[number], target_name=name)


def _draw(search: Search, folder: Path) -> list[Path]:
    """Draw what can be drawn; a plot that needs more trials than there are is left out."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt
    from optuna.visualization import matplotlib as plots

    logging.getLogger("matplotlib.category").setLevel(logging.WARNING)  # it muses about numbers that are choices
    folder.mkdir(exist_ok=True)
    single = len(search.settings.objectives) == 1
    names = search.settings.objectives
    wanted: dict[str, Callable[[], Any]] = {}
    if single:
        wanted["history"] = lambda: plots.plot_optimization_history(search.study, target_name=names[0])
        wanted["importances"] = lambda: plots.plot_param_importances(search.study, target_name=names[0])
        wanted["slices"] = lambda: plots.plot_slice(search.study, target_name=names[0])
        if any(t.intermediate_values for t in search.study.get_trials(deepcopy=False)):
            wanted["intermediate_values"] = lambda: plots.plot_intermediate_values(search.study)
    else:
        wanted["pareto_front"] = lambda: plots.plot_pareto_front(search.study, target_names=names)
        for number, name in enumerate(names):
            wanted[f"importances_{name.replace('/', '_')}"] = partial(_importances, search.study, number, name)
    for name, draw in wanted.items():
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                draw()
                figure = plt.gcf()
                with atomic_path(folder / f"{name}.png") as temporary:
                    figure.savefig(temporary, format="png", dpi=130, bbox_inches="tight")
        except Exception as error:
            log.info("the plot '%s' was left out: %s", name, str(error).splitlines()[0] if str(error) else error)
        finally:
            plt.close("all")
    return [folder]
