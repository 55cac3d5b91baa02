"""Two steps are under way at most, and callbacks are told of the one that is done."""

import keras
import numpy as np

from unet_zoo import learner, progress, recipe, registry, targets


class Noted(keras.callbacks.Callback):
    def __init__(self):
        super().__init__()
        self.losses = []

    def on_train_batch_end(self, batch, logs=None):
        self.losses.append(logs["loss"])


class Computed:
    """A loss that a device computes: who asks for it waits."""

    def __init__(self, number, asked):
        self.number, self.asked = number, asked

    def __float__(self):
        self.asked.append(self.number)
        return float(self.number)


def test_nobody_waits_for_the_newest_step():
    noted, asked = Noted(), []
    told = progress.Behind([noted])
    told.on_epoch_begin(0)
    for step in range(4):
        before = len(asked)
        told.on_train_batch_end(step, {"loss": Computed(step, asked)})
        # The first alone is its own: there is none before it.
        assert asked[before:] == [max(0, step - 1)]
    assert noted.losses == [0.0, 0.0, 1.0, 2.0]


def test_each_part_of_a_training_begins_anew():
    noted, asked = Noted(), []
    told = progress.Behind([noted])
    for part in (10, 20):
        told.on_epoch_begin(0)
        for step in (part, part + 1):
            told.on_train_batch_end(0, {"loss": Computed(step, asked)})
    assert noted.losses == [10.0, 10.0, 20.0, 20.0]


def test_fit_tells_the_means_of_the_steps_before_and_the_whole_in_the_end():
    def fitted(callbacks):
        keras.utils.set_random_seed(0)
        made = keras.Sequential([keras.Input((3,)), keras.layers.Dense(1)])
        made.compile("sgd", "mse", jit_compile=False)
        data = np.random.default_rng(0).normal(size=(12, 3)).astype("float32")
        found = made.fit(
            data, data[:, :1], 2, shuffle=False, verbose=0, callbacks=callbacks(made)
        )
        return found.history["loss"]

    direct, behind = Noted(), Noted()
    plain = fitted(lambda made: [direct])
    whole = fitted(lambda made: progress.Behind([behind], add_history=True, model=made))
    assert whole == plain
    assert len(set(direct.losses)) == 6
    assert behind.losses == [direct.losses[0], *direct.losses[:-1]]


def test_what_a_step_leaves_is_not_searched_for_layers():
    plan = recipe.named("default", "unet")
    target = targets.get("semantic")
    network = registry.build(
        "unet",
        input_shape=(32, 32, 1),
        classes=target.channels,
        padding="same",
        filters=2,
        depth=1,
    )
    teaching = learner.of_recipe(plan, network, target, 1)
    teaching._jax_state = {"trainable_variables": [1, 2]}
    assert type(teaching._jax_state) is dict
    teaching.remembered = [1, 2]
    assert type(teaching.remembered) is not list
