"""What a server allows."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field


class ServeSettings(BaseModel):
    """Limits of a server; every request is inside all of them or refused with the reason.

    Attributes:
        max_body_bytes: Of a request.
        max_texts: Of a request.
        max_characters: Of a text.
        max_waiting: Requests at work or waiting; the next gets 503.
        timeout_s: A request that takes longer gets 504.
        batch_size: Texts that the model answers at once.
        drain_s: Time that accepted requests have to end after SIGTERM.
        token: Bearer token that every request for answers must carry; None asks for none.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    max_body_bytes: int = Field(1 << 20, ge=1)
    max_texts: int = Field(256, ge=1)
    max_characters: int = Field(100_000, ge=1)
    max_waiting: int = Field(512, ge=1)
    timeout_s: float = Field(30.0, gt=0)
    batch_size: int = Field(64, ge=1)
    drain_s: float = Field(30.0, gt=0)
    token: str | None = Field(None, min_length=1)


def _whole(value: Any) -> Any:
    """Return 2 for 2.0: JSON has one kind of number, and JSON Schema calls both an integer."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


class PredictRequest(BaseModel):
    """The body of ``POST /predict``."""

    model_config = ConfigDict(extra="forbid", strict=True)

    texts: list[str] = Field(min_length=1, description="the texts to answer")
    top_k: Annotated[int, BeforeValidator(_whole)] = Field(1, ge=1, le=1000, description="so many most likely classes")
    probabilities: bool = Field(False, description="every class' confidence")


class Answer(BaseModel):
    """The answer for one text."""

    label: str = Field(description="the class")
    confidence: float | None = Field(None, description="in [0, 1]; absent for models that give labels only")
    top: list[dict[str, str | float]] | None = Field(None, description="the top_k classes with their confidences")
    confidences: dict[str, float] | None = Field(None, description="by class")


class PredictResponse(BaseModel):
    """The answer of ``POST /predict``."""

    model: str
    answers: list[Answer]


class Problem(BaseModel):
    """What every refusal says."""

    error: str
    detail: str
