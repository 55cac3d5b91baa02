"""Deep supervision: networks with several outputs, each taught the same target.

The first output is what a network is for; the others, of lower levels, are there to
teach those levels. Variants that have them say so by `deep_supervision`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from unet_zoo.errors import InputError

if TYPE_CHECKING:
    import keras

Tensor = Any


def check(network: keras.Model) -> None:
    """Refuse a network that has outputs of something else than the target.

    Of the variants' names for outputs, `logits`, `logits1`, ... are the target.
    """
    others = [
        name
        for name in network.output_names[1:]
        if not name.removeprefix("logits").isdigit()
    ]
    if others:
        message = (
            f"{network.name!r} with these arguments has outputs of other things than "
            f"the target: {', '.join(others)}. A training here teaches `logits`, and "
            "with deep_supervision `logits1` and so on. Leave out the argument that "
            "adds the others."
        )
        raise InputError(message)


def first(logits: Tensor | Sequence[Tensor]) -> Tensor:
    """Return the output that counts of what a network gave."""
    return logits[0] if isinstance(logits, list | tuple) else logits


def shares(heights: Sequence[int]) -> list[float]:
    """Return the weights of outputs of these heights: in proportion, their sum 1.

    Outputs of one size count alike, as in U2-Net (Qin et al. 2020,
    https://arxiv.org/abs/2005.09007) and UNet++ (Zhou et al. 2019,
    https://arxiv.org/abs/1912.05074); each halving of the size halves the weight, as in
    nnU-Net (Isensee et al. 2021, https://doi.org/10.1038/s41592-020-01008-z), which
    MedNeXt follows. The sum of 1 keeps the learning rate what it is for one output.

    >>> shares([64, 64])
    [0.5, 0.5]
    >>> [round(7 * share) for share in shares([64, 32, 16])]
    [4, 2, 1]
    """
    return [height / sum(heights) for height in heights]


def loss(
    compare: Callable[[Tensor, Tensor], Tensor],
    truth: Tensor,
    logits: Tensor | Sequence[Tensor],
) -> Tensor:
    """Return float (batch,): the loss of all outputs, each weighted by `shares`.

    A smaller output is compared with the truth at the pixels it stands for: the first
    of every two, four, ... along each axis, where the windows of the strided
    convolutions that made it are centred. So a class stays a class, and a pixel that
    is not annotated has no part in any output.

    Args:
        compare: the loss, float (batch,), of a truth and logits of one size.
        truth: float (batch, Y, X, K), encoded, the weight last.
        logits: one output (batch, Y, X, channels), or several, the first of the size
            of the truth.
    """
    if not isinstance(logits, list | tuple):
        return compare(truth, logits)
    total: Any = 0.0
    for share, each in zip(shares([x.shape[1] for x in logits]), logits, strict=True):
        y, x = (
            whole // part
            for whole, part in zip(truth.shape[1:3], each.shape[1:3], strict=True)
        )
        total = total + share * compare(truth[:, ::y, ::x], each)
    return total
