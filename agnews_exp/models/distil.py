"""What ``model=distilled_*`` is asked to be: a small student that learns a finished run's answers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import Field

from agnews_exp.config.errors import ConfigError


@dataclass(frozen=True, kw_only=True)
class Distillation:
    """A student and how it is taught (Hinton, Vinyals and Dean 2015).

    The loss of a labelled row is ``alpha T^2 KL(teacher_T || student_T) + (1 - alpha) CE(label, student)``, that of an
    unlabelled one the first part with alpha 1. A teacher that has learned from the student's training rows is surer of
    them than it is right: a temperature above 1 and ``out_of_fold`` are what helps.

    Attributes:
        student: What is trained: a scikit-learn style classifier, or a network's recipe.
        teacher: A finished run whose model gives probabilities; not needed with ``alpha=0``.
        temperature: T; both sides' probabilities are softened by it.
        alpha: Weight of the teacher's part; 0 is the same student without a teacher.
        unlabelled: More texts for the teacher to answer: ``rest``, or a file (``.txt`` with one text a line, CSV, TSV,
            JSON lines).
        unlabelled_rows: At most so many of them; null takes all.
        unlabelled_columns: Columns or keys of the file that make the text.
        out_of_fold: Take the teacher's cross-validated answers for the training rows (its run had ``evaluation=cv``).
    """

    student: Any
    teacher: str | None = None
    temperature: Annotated[float, Field(gt=0, le=100)] = 2.0
    alpha: Annotated[float, Field(ge=0, le=1)] = 0.5
    unlabelled: str | None = None
    unlabelled_rows: Annotated[int, Field(ge=1)] | None = None
    unlabelled_columns: Annotated[list[str], Field(min_length=1)] | str = "text"
    out_of_fold: bool = False

    def __post_init__(self) -> None:
        for key in ("unlabelled", "out_of_fold"):
            if self.alpha == 0 and getattr(self, key):
                raise ConfigError(
                    f"model.{key}={getattr(self, key)} has no effect with model.alpha=0: the teacher is not asked.",
                    fix="model.alpha=0.5",
                )
        if self.unlabelled_rows is not None and not self.unlabelled:
            raise ConfigError(
                f"model.unlabelled_rows={self.unlabelled_rows} has no effect: model.unlabelled is null.",
                fix="model.unlabelled=rest",
            )
        if not (hasattr(self.student, "fit") or hasattr(self.student, "max_length")):
            raise ConfigError(
                f"model.student._target_: {type(self.student).__name__} cannot be trained.",
                fix="model@model.student=ngram_softmax, or another model (agnews list model)",
            )

    @property
    def columns(self) -> list[str]:
        """The file's columns as a list."""
        return [self.unlabelled_columns] if isinstance(self.unlabelled_columns, str) else self.unlabelled_columns
