"""The loss of a network that learns from labels and from a teacher (Hinton, Vinyals and Dean 2015)."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional


def distillation_loss(
    logits: Tensor, labels: Tensor, soft: Tensor, share: Tensor, temperature: float, label_smoothing: float = 0.0
) -> Tensor:
    """Return the sum over rows of ``share T^2 KL(soft || softmax(logits / T)) + (1 - share) CE(labels, logits)``.

    T^2 keeps the size of the first part's gradient, which falls with 1 / T^2.

    Args:
        logits: Shape (n, K).
        labels: Shape (n,), class indices; without weight where ``share`` is 1.
        soft: Shape (n, K), the teacher's probabilities at the temperature.
        share: Shape (n,), in [0, 1].
        temperature: T > 0.
        label_smoothing: Of the cross-entropy.
    """
    student = functional.log_softmax(logits / temperature, dim=1)
    taught = functional.kl_div(student, soft, reduction="none").sum(1) * temperature**2
    labelled = functional.cross_entropy(logits, labels, reduction="none", label_smoothing=label_smoothing)
    return (share * taught + (1.0 - share) * labelled).sum()
