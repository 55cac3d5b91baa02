"""Muon for convolutions: updates whose singular values are all about the same."""

from __future__ import annotations

import math
import re
from typing import Any

import keras
from keras import ops

# Words in the path of what is no matrix, or not within the network: depthwise kernels
# mix no channels, and the last layer is left to AdamW as in the paper.
_LEFT = ("depthwise", "embedding", "logits")


class Muon(keras.optimizers.Muon):
    """Keras' Muon, for which the kernels of convolutions are matrices too.

    Keras leaves all that is not two-dimensional to AdamW, and so all of a U-Net. Here
    the kernel of a convolution is a matrix of (positions x inputs, outputs), as in the
    author's own networks. AdamW keeps whatever is not called "kernel", depthwise
    kernels, those of one output, those of three axes (attention) and the layer of the
    logits. Both take the same learning rate: Muon's steps are as large as AdamW's in
    their root mean square.

    Papers: Jordan 2024, https://kellerjordan.github.io/posts/muon; Liu et al. 2025,
    https://arxiv.org/abs/2502.16982

    >>> kernel = keras.Variable(keras.ops.ones((3, 3, 8, 4)), name="kernel")
    >>> optimizer = Muon(0.1)
    >>> optimizer.build([kernel])
    >>> [variable.name for variable in optimizer.variables[2:]]  # AdamW has a second
    ['kernel_momentum']
    """

    def _should_use_adamw(self, variable: Any) -> bool:
        shape = tuple(variable.shape)
        # Tables of positions and the biases of attention are two-dimensional as well.
        if variable.name != "kernel" or len(shape) == 3 or min(_matrix(shape)) < 2:
            return True
        words = (*_LEFT, *self.exclude_layers)
        return any(re.search(word, variable.path) for word in words)

    def _muon_update_step(self, gradient: Any, variable: Any, lr: Any, m: Any) -> None:
        shape = tuple(variable.shape)
        self.assign_add(m, ops.add(gradient, m * (self.momentum - 1)))
        update = ops.add(gradient, self.momentum * m) if self.nesterov else m
        update = ops.reshape(update, _matrix(shape))
        update = self.zeropower_via_newtonschulz5(update, self.ns_steps)
        self.assign_sub(variable, ops.reshape(self.lr_adjust(lr * update), shape))

    def zeropower_via_newtonschulz5(self, x: Any, steps: int) -> Any:
        """Return `x` with its singular values brought near 1, as Keras' own does.

        All iterates are polynomials of the smaller Gram matrix times `x`, so that only
        matrices of its size are multiplied in between. A kernel has up to nine times
        as many rows as columns.
        """
        x = x / (ops.norm(x) + 1e-7)
        tall = x.shape[0] > x.shape[1]
        gram = ops.transpose(x) @ x if tall else x @ ops.transpose(x)
        one = ops.eye(gram.shape[0], dtype=gram.dtype)
        product = one
        for _ in range(steps):
            factor = self.muon_a * one + gram @ (self.muon_b * one + self.muon_c * gram)
            product = factor @ product
            gram = factor @ gram @ factor
        return x @ product if tall else product @ x


def _matrix(shape: tuple[int, ...]) -> tuple[int, int]:
    return math.prod(shape[:-1]), shape[-1]
