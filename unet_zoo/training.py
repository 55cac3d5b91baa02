"""Training, on one page: read it from top to bottom."""

from __future__ import annotations

import gc
import hashlib
import os
import signal
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import keras

from unet_zoo import (
    catalog,
    checkpoints,
    devices,
    extending,
    files,
    judging,
    learner,
    pipeline,
    recovery,
    registry,
    schedules,
    segmenter,
    starting,
    supervision,
    targets,
    tracking,
)
from unet_zoo.errors import InputError, SizeError
from unet_zoo.progress import (
    Behind,
    Interrupted,
    Mean,
    Progress,
    Teller,
    ending,
    terminated,
)
from unet_zoo.recipe import Recipe, from_dict
from unet_zoo.schedules import make_optimizer
from unet_zoo.toml import to_toml

__all__ = ["Interrupted", "Progress", "make_optimizer", "train"]


@ending()
def train(
    recipe: Recipe,
    dataset: catalog.Dataset,
    output: str | os.PathLike[str],
    *,
    progress: Callable[[Progress], None] | None = None,
    cache_memory: int | str | None = None,
    cache_folder: str | os.PathLike[str] | None = None,
    resume: bool = False,
    checkpoint_minutes: float = 10.0,
    on: devices.Devices | None = None,
    callbacks: Sequence[keras.callbacks.Callback] = (),
    start: str | os.PathLike[str] | None = None,
    extend: int | None = None,
    until: int | None = None,
) -> segmenter.Segmenter:
    """Train a network and return the segmenter with the best validated weights.

    1. The folder `output` is made; one that holds anything is refused, but for
       `resume`.
    2. Examples are read one after the other, normalised, scaled, encoded once, and
       kept in memory, or on disk where they take more than `cache_memory`.
    3. Every `validate_every` steps the averaged weights segment the validation
       images; weights that do better than all before are written at once.
       The training ends early after `patience` validations that did not.
    4. The decoder's thresholds are tuned on the validation images.
    5. The folder then holds `weights.h5`, `recipe.toml`, `history.csv`, `curve.png`,
       `samples/` with validation images overlaid, and `report.html` with all of it on
       one page, which is kept fresh from the first validation on. Interrupted by
       Ctrl-C, it holds the same, of the steps done so far; before the first validation,
       that is made at once.
    6. At every validation, every `checkpoint_minutes` and at Ctrl-C or SIGTERM,
       `checkpoint.npz` takes the whole state of the training: stopped by whatever, it
       goes on from there with `resume`, to the weights that it would have reached
       without a stop. SIGTERM waits for a step, not for a validation, which then
       comes first when the training goes on.
    7. Where the loss or a weight is no finite number any more, the training goes back
       to the last validation, or to its start, with half the learning rate, and logs a
       warning; three times at most.

    Args:
        recipe: what to do; see `unet_zoo.recipe.named`.
        dataset: what `catalog.open_dataset` returned. Its test split is not touched.
        output: folder to write.
        progress: called after every step.
        cache_memory: memory for the encoded examples and the validation images, in
            bytes or as a text such as "4GB"; None: half of what is free.
        cache_folder: where encoded examples go on disk. They stay there, and another
            training that encodes the same images alike takes them from there. None:
            memory where they fit, else a temporary folder beside `output`, removed
            at the end.
        resume: go on from the checkpoint in `output`, if there is anything in it. The
            recipe and the dataset must be those of before.
        checkpoint_minutes: time between two checkpoints.
        on: several devices that share every batch, from `devices.distribute`; None:
            one. In several processes, each calls this with a folder that all see.
        callbacks: of Keras, such as those of experiment trackers. To them an epoch is
            what lies between two validations (see `tracking.Relay`), and at the end
            of a step they are told the loss up to the step before; one that sets
            `self.model.stop_training` ends the training with all that it writes.
        start: weights to start from: a zoo entry, a weights file or the folder of a
            training, of the recipe's model with the same arguments, dropout aside (see
            `starting.taken_over`). A last layer for another target starts anew, first
            layers are made to fit other channels, both with a logged warning (see
            `starting.begin`). The `scale` of the recipe, where None, is that of the
            start. Validated before the first step, so that the result is no worse than
            what it started from.
        extend: go on with a finished training in `output` for so many steps. The
            optimizer keeps its state; a schedule that falls does so anew, from a
            quarter of the rate. The result is that of the extended recipe (see
            `extending.extended`) from its first step on.
        until: end after the validation of this step, as if nothing better had come
            later; None: at the last step of the recipe.

    Returns:
        The segmenter that `weights.h5` holds.

    Raises:
        InputError: when the dataset, the recipe and the model do not fit together,
            or `output` is not an empty or new folder, or the disk is full; with
            `resume`, when `output` holds no checkpoint or that of another training,
            the differences shown; with `extend`, when that training is not finished
            or has ended early for want of better weights;
            when the loss is not finite even at an eighth of the learning rate.
        Interrupted: a KeyboardInterrupt, after the folder is complete; at SIGTERM, as
            soon as the checkpoint is, and before the first step at once.

    Example:
        >>> from unet_zoo import catalog, recipe, training
        >>> data = catalog.open_dataset("blobs")  # doctest: +SKIP
        >>> training.train(recipe.named("default"), data, "run")  # doctest: +SKIP
    """
    # === Prepare ===
    folder = Path(output)
    checkpoint = folder / "checkpoint.npz"
    on = on or devices.Devices()
    on.check_batch(recipe.batch)

    def look() -> dict[str, Any]:
        if resume or extend is not None:
            files.sweep(folder)
        there = folder.is_dir() and any(folder.iterdir())
        if extend is not None or (resume and there):
            return checkpoints.read_facts(checkpoint)
        files.check_unused(folder)
        return {}

    past = on.once(look)
    if past:
        recipe = extending.as_extended(recipe, past["of"]["recipe"])
    begun = None if start is None else starting.find(start)
    if recipe.freeze and begun is None:
        message = "`freeze` keeps the weights that a training starts from. Give some."
        raise InputError(message)
    taught = dataset.sequence("train")
    if not taught:
        message = f"The dataset {dataset.name!r} has no training images."
        raise InputError(message)
    memory = pipeline.default_memory()
    if cache_memory is not None:
        memory = pipeline.as_bytes(cache_memory)
    held_out, used = pipeline.hold(dataset.sequence("validation"), memory // 4)
    schedules.check_validation(recipe, bool(held_out))
    if recipe.scale is None and begun is not None:
        recipe = recipe.replace(scale=begun.facts["scale"])
    recipe = pipeline.with_scale(recipe, dataset.kind, taught)
    target = targets.get(recipe.target, **recipe.target_arguments)
    channels = taught[0].image.shape[-1]
    keras.utils.set_random_seed(recipe.seed)

    def build(side: int | None) -> keras.Model:
        with devices.precision(recipe.precision):
            return registry.build(
                recipe.model,
                input_shape=(side, side, channels),
                classes=target.channels,
                **recipe.model_arguments,
            )

    with on.scope():
        # Built twice: the first refuses a patch that does not fit, the second takes
        # any size, since validation images are not patches.
        try:
            build(recipe.patch)
        except SizeError as error:
            message = (
                f"`patch` {recipe.patch} does not fit the model {recipe.model!r} with "
                f"these arguments; the next one that does is {error.fitting[0]}."
            )
            raise InputError(message) from error
        network = build(None)
        on.synchronize(network)
    # Validated on one device, whose network is not bound to the others.
    judged = network if on.replicas == 1 else build(None)
    supervision.check(network)
    provenance: dict[str, Any] = {}
    if begun is not None:
        provenance["start"] = starting.begin(network, begun, recipe, target)
        provenance["stages"] = starting.stages(begun)
    if recipe.freeze:
        starting.freeze(network, recipe.freeze)
    if pixel_size := recipe.pixel_size or dataset.pixel_size:
        provenance["pixel_size"] = pixel_size
    digest = hashlib.sha256()
    stacks = pipeline.prepare(
        catalog.hashed(taught, digest),
        recipe,
        target,
        memory=memory - used,
        folder=cache_folder,
        beside=folder,
    )
    facts = segmenter.describe(
        recipe.model,
        recipe.model_arguments,
        channels=channels,
        target=recipe.target,
        target_arguments=target.arguments,
        normalization=recipe.normalization,
        scale=recipe.scale or 1.0,
        tta=recipe.tta,
        recipe=recipe.to_dict(),
        dataset={
            "name": dataset.name,
            "version": dataset.version,
            "config": dataset.config,
            "note": dataset.note,
            "train": len(taught),
            "validation": len(held_out),
            "sha256": digest.hexdigest(),
        },
        deterministic=devices.is_deterministic(),
        **provenance,
    )

    of = {"recipe": facts["recipe"], "dataset": facts["dataset"]}
    if begun is not None:
        of["start"] = facts["start"]["sha256"]
    if past:
        checkpoints.check_same(folder, _completed(past["of"], of), of)
    if extend is not None:
        extending.check_finished(folder, past, recipe)
        recipe = extending.extended(recipe, extend)
        facts["recipe"] = of["recipe"] = recipe.to_dict()
    if on.chief:
        folder.mkdir(parents=True, exist_ok=True)
    end = recipe.steps if until is None else min(until, recipe.steps)

    # === Train ===
    with on.scope():
        teaching = learner.of_recipe(recipe, network, target, channels)

    def ready(setbacks: int) -> list[keras.Variable]:
        with on.scope():
            optimizer = make_optimizer(
                recovery.slowed(recipe.optimizer, setbacks),
                recipe.steps,
                recipe.optimizer_arguments,
            )
            teaching.compile(
                devices.scaled(optimizer, recipe.precision),
                jit_compile=devices.compile_xla(),
            )
            on.adapt(teaching)
            teaching.optimizer.build(teaching.trainable_variables)
        return [*teaching.variables, *teaching.optimizer.variables]

    keeper = recovery.Keeper(folder, of, ready, past.get("setbacks", ()), on)
    facts["setbacks"] = keeper.setbacks
    course = schedules.Course(recipe, teaching.optimizer)
    judge = judging.Judge(judged, facts, dataset.kind, held_out, folder)
    tell = Teller(
        end,
        judge.standing,
        progress,
        checkpoint_minutes,
        agree=on.any,
        batch=recipe.batch,
        alone=on.processes == 1,
    )
    relay = tracking.Relay(
        callbacks, teaching, end, recipe.validate_every, on.any, on.chief
    )

    def validate(step: int, loss: float | None = None) -> bool:
        """Say whether there was time to."""

        def measure() -> dict[str, Any] | None:
            try:
                with teaching.averaged(judged):
                    judge.validate(step, loss, tell.images_per_second, tell.heed)
            except Interrupted:
                return None
            return judge.state

        state = on.once(measure)
        if state and not on.chief:
            judge.restore(**state)
        return bool(state)

    interrupted: KeyboardInterrupt | None = None
    step, losses, stopped = 0, Mean(), False

    def keep() -> None:
        state: dict[str, Any] = {"step": step, "losses": losses.state}
        state |= {"judge": judge.state, "course": course.state}
        keeper.write(state, good=at_stop() and not losses.count)

    def at_stop() -> bool:
        return step == _next_stop(recipe, end, step - 1)

    due = False  # a validation
    if past:
        judge.restore(**past["judge"])
        course.restore(**past.get("course", course.state))
        losses = Mean(**past["losses"])
        step = tell.step = relay.step = past["step"]
        # Told to stop, the training left it out.
        due = at_stop() and losses.count > 0
        keeper.restore(good=at_stop() and not due)
    if not past or extend is not None:
        keep()
    if begun is not None and not (step or judge.history):
        if not validate(0):
            raise Interrupted(signal.SIGTERM)
        keep()
    if on.chief:
        _write_text(folder / "recipe.toml", to_toml(recipe.to_dict()))
    try:
        with stacks, tell.listening(), relay:
            while due or (step < end and not (stopped or course.over)):
                if not due:
                    last = _next_stop(recipe, end, step)
                    with on.scope():
                        ahead = recipe.replace(steps=last)
                        told = Behind([relay, tell], add_history=True, model=teaching)
                        done = teaching.fit(
                            on.fed(pipeline.batches(stacks, ahead, start=step)),
                            # On another device, batches do not know their number.
                            steps_per_epoch=last - step,
                            callbacks=told,
                            shuffle=False,
                            verbose=0,
                        )
                    losses.add(done.history["loss"][0], tell.step - step)
                    step = tell.step
                    if not keeper.sound(losses.value):
                        step = keeper.back(step, losses.value)
                        tell.step = relay.step = step
                        course.optimizer = teaching.optimizer
                        losses = Mean()
                        continue
                    # What asks to stop may be a clock, which differs between hosts.
                    stopped = on.any(relay.stopped)
                    due = step == last or stopped
                if due and validate(step, losses.value):
                    relay.validated(judge.history[-1], judge.pictures)
                    course.add(judge.value)
                    losses, due = Mean(), False
                keep()
                stop = tell.stopped()
                if stop is not None and (step < end or terminated(stop)):
                    raise stop
    except KeyboardInterrupt as interrupt:
        interrupted = interrupt
        # Batches still being made ask for the interpreter: a program that ends now
        # would wait for them, and they for it.
        gc.collect()
        if terminated(interrupt):
            raise
        if not judge.history and tell.step:
            # Nothing is written yet: what there is, is better than nothing.
            validate(tell.step, float(tell.loss))

    # === Write ===
    if judge.history:
        on.once(lambda: judge.finish(tune=interrupted is None))
    if interrupted:
        raise interrupted
    keeper.finish()
    return segmenter.load(folder / "weights.h5", engine="keras")


def _next_stop(recipe: Recipe, end: int, step: int) -> int:
    """Return the first step after `step` that is validated, up to the last one."""
    regular = (step // recipe.validate_every + 1) * recipe.validate_every
    stops = (regular, *recipe.optimizer.restarts, end)
    return min(stop for stop in stops if stop > step)


def _completed(there: dict[str, Any], here: dict[str, Any]) -> dict[str, Any]:
    """Return what a checkpoint says of its training, with what it is too old to say."""
    dataset = {"sha256": here["dataset"]["sha256"], **there["dataset"]}
    plan = from_dict(there["recipe"]).to_dict()
    return {**there, "recipe": plan, "dataset": dataset}


def _write_text(path: Path, text: str) -> None:
    with files.replacing(path) as part:
        part.write_text(text, encoding="utf-8")
