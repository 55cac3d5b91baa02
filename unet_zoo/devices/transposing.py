"""Transposed convolution as one product of matrices, where its windows do not meet."""

from __future__ import annotations

import functools
import itertools
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import keras


def directly(network: keras.Model) -> None:
    """Let the network's transposed convolutions compute faster what they compute.

    For JAX, which sees in them a convolution of a tensor with holes: its gradient takes
    half of a step of a U-Net on a GPU, and it is up to forty times slower on a
    processor. Where the stride is the size of the kernel, as in nearly every U-Net,
    each pixel becomes a window of its own. The layers stay stock ones with the same
    weights, and are saved as such. A second call changes nothing.

    >>> import keras
    >>> network = keras.Sequential([keras.layers.Conv2DTranspose(4, 2, strides=2)])
    >>> directly(network)
    """
    import keras

    kinds = (
        keras.layers.Conv1DTranspose,
        keras.layers.Conv2DTranspose,
        keras.layers.Conv3DTranspose,
    )
    for layer in network._flatten_layers():
        if (
            type(layer) in kinds
            and "call" not in vars(layer)
            and layer.strides == layer.kernel_size
            and set(layer.dilation_rate) == {1}
            and layer.output_padding is None
            and layer.data_format == "channels_last"
        ):
            layer.call = functools.partial(_call, layer)


def _call(layer: keras.layers.Conv2DTranspose, inputs: Any) -> Any:
    from keras import ops

    rank = len(layer.kernel_size)
    # The kernel is (window..., outputs, inputs); so y is (batch, Y, X, window..., O).
    y = ops.tensordot(inputs, ops.convert_to_tensor(layer.kernel), ((-1,), (-1,)))
    pairs = zip(range(1, rank + 1), range(rank + 1, 2 * rank + 1), strict=True)
    y = ops.transpose(y, (0, *itertools.chain.from_iterable(pairs), 2 * rank + 1))
    batch, *sizes, _ = ops.shape(inputs)
    sizes = [a * b for a, b in zip(sizes, layer.kernel_size, strict=True)]
    y = ops.reshape(y, (batch, *sizes, layer.filters))
    if layer.use_bias:
        y = ops.add(y, ops.convert_to_tensor(layer.bias))
    return y if layer.activation is None else layer.activation(y)
