"""The command line as people use it: help at once, and every verb from end to end."""

from __future__ import annotations

import csv
import dataclasses
import inspect
import json
import os
import re
import resource
import signal
import subprocess
import sys
import tomllib
from collections.abc import Iterator, Sequence
from pathlib import Path

import click
import keras
import numpy as np
import pandas
import pytest
import tifffile
from click.testing import CliRunner, Result

from unet_zoo import (
    catalog,
    checkpoints,
    cli,
    images,
    recipe,
    records,
    registry,
    segmenter,
    weights,
)
from unet_zoo.cli import _common, _recipes, _telling

ROOT = Path(__file__).resolve().parent.parent
CONTEXT = click.Context(cli.main, info_name="unet-zoo")
VERBS = cli.main.list_commands(CONTEXT)
TINY = ("--filters", "2", "--depth", "2", "--patch", "32", "--batch", "2")


def run(*arguments: object) -> Result:
    return CliRunner().invoke(cli.main, [str(each) for each in arguments])


def fine(*arguments: object) -> str:
    """Run a command that must succeed and return what it printed."""
    result = run(*arguments)
    assert result.exit_code == 0, result.output
    assert "Traceback" not in result.output
    return result.stdout


def draw(seed: int, height: int = 48, width: int = 56) -> tuple[np.ndarray, np.ndarray]:
    """Return a noisy image uint8 (Y, X) with discs, and their labels."""
    random = np.random.default_rng(seed)
    y, x = np.mgrid[:height, :width]
    labels = np.zeros((height, width), np.uint8)
    for number, (top, left) in enumerate([(12, 14), (30, 20), (24, 42)], start=1):
        labels[(y - top) ** 2 + (x - left) ** 2 < random.integers(25, 50)] = number
    image = (labels > 0) * 120 + random.integers(0, 60, labels.shape)
    return image.astype(np.uint8), labels


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the weights of an untrained network that finds objects all the same."""
    path = tmp_path_factory.mktemp("weights") / "tiny.h5"
    arguments = {"filters": 2, "depth": 2, "padding": "same"}
    keras.utils.set_random_seed(0)
    network = registry.build("unet", classes=3, **arguments)
    # Foreground and distance are likely, borders are not: something is found.
    network.get_layer("logits").bias.assign([0.5, 1.0, -1.0])
    weights.write(path, network, segmenter.describe("unet", arguments, channels=1))
    return path


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Return a dataset of four pairs."""
    for kind in ("images", "masks"):
        (tmp_path / "mine" / kind).mkdir(parents=True)
    for number in range(4):
        image, labels = draw(number)
        tifffile.imwrite(tmp_path / "mine" / "images" / f"a{number}.tif", image)
        tifffile.imwrite(tmp_path / "mine" / "masks" / f"a{number}.tif", labels)
    return tmp_path / "mine"


# === Help ===


def python(code: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", code, *arguments],
        capture_output=True,
        text=True,
        check=False,
        cwd=ROOT,
    )


def test_help_imports_nothing_slow() -> None:
    """Listing the commands and explaining each loads no library that computes."""
    code = f"""
import sys
from unet_zoo import cli
for words in [[], *([verb] for verb in {VERBS}), ["weights", "info"]]:
    try:
        cli.main([*words, "--help"])
    except SystemExit as end:
        assert end.code == 0, words
slow = {{"keras", "tensorflow", "numpy", "h5py", "scipy", "skimage", "pandas", "PIL"}}
print("LOADED", sorted(slow & sys.modules.keys()))
"""
    result = python(code)
    assert result.returncode == 0, result.stderr
    assert result.stdout.endswith("LOADED []\n")
    assert all(f"Usage: -c {verb}" in result.stdout for verb in VERBS)


def test_help_is_there_within_half_a_second() -> None:
    """Measured as processor time, which a busy machine does not change."""
    spent = []
    for _ in range(3):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        code = "import sys; from unet_zoo.cli import main; main(sys.argv[1:])"
        result = python(code, "--help")
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        assert "segment" in result.stdout
        spent.append(
            after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
        )
    assert min(spent) < 0.5


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_explains_itself(verb: str) -> None:
    command = cli.main.get_command(CONTEXT, verb)
    assert command is not None
    summary = command.get_short_help_str(limit=60)
    assert summary
    assert not summary.endswith("..."), "the list of commands cuts it off"
    assert summary in fine("--help")
    for parameter in command.params:
        if isinstance(parameter, click.Option):
            assert parameter.help, f"{verb} {parameter.name} has no help"
    assert fine(verb, "--help") == fine(verb, "-h")


def test_the_list_of_commands_of_weights_is_not_cut_off() -> None:
    assert "..." not in fine("weights", "--help").partition("Commands:")[2]


def test_the_folder_is_the_list_of_commands() -> None:
    files = {file.stem.replace("_", "-") for file in (ROOT / "cli").glob("[!_]*.py")}
    assert set(VERBS) == files
    page = (ROOT / "docs" / "command-line.md").read_text(encoding="utf-8")
    named = set(re.findall(r"unet-zoo (\w[\w-]*)", page))
    assert named <= set(VERBS), "the page names commands that do not exist"


def test_version() -> None:
    import unet_zoo

    assert fine("--version") == f"unet-zoo, version {unet_zoo.__version__}\n"


def test_log_of_tensorflow_is_off_unless_wanted(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("TF_CPP_MIN_LOG_LEVEL", raising=False)
    fine("models")
    assert os.environ["TF_CPP_MIN_LOG_LEVEL"] == "3"
    monkeypatch.setenv("TF_CPP_MIN_LOG_LEVEL", "0")
    fine("models")
    assert os.environ["TF_CPP_MIN_LOG_LEVEL"] == "0"


def test_quiet_drops_greetings_and_nothing_else(
    capfd: pytest.CaptureFixture[str],
) -> None:
    with _common.quiet():
        os.write(
            2, b"I0000 00:00:1795303782.649465   13768 port.cc:153] oneDNN is on.\n"
        )
        os.write(2, b"WARNING: All log messages before absl::InitializeLog() is ...\n")
        os.write(2, b"E0000 00:00:1795303782.649465   13768 dnn.cc:1] An error.\n")
        sys.stderr.write("a warning of Python")
    error = capfd.readouterr().err
    assert "oneDNN" not in error
    assert "absl::" not in error
    assert "An error." in error
    assert "a warning of Python" in error


# === Lists ===


def test_models() -> None:
    listed = fine("models").split("\n\n")[0].splitlines()[1:]
    # Long summaries go on below themselves.
    rows = [row for row in listed if not row.startswith(" ")]
    assert [row.split()[0] for row in rows] == registry.names()
    assert [each["name"] for each in json.loads(fine("models", "--json"))] == (
        registry.names()
    )
    for name in registry.names():
        shown = json.loads(fine("models", name, "--json"))["arguments"]
        parameters = inspect.signature(registry.get(name)).parameters
        assert list(shown) == list(parameters)
        for key, parameter in parameters.items():
            assert repr(parameter.default) == shown[key]


def test_a_model_is_explained_and_drawn(tmp_path: Path) -> None:
    drawing = tmp_path / "unet.svg"
    shown = fine("models", "unet", "--draw", str(drawing))
    assert registry.info("unet").paper in shown
    assert "31,030,658" in shown
    assert re.search(r"^ {4}decoder2 .* encoder2$", shown, flags=re.M)
    assert drawing.read_text(encoding="utf-8").startswith("<svg")
    layers = fine("models", "resunet", "--layers")
    assert re.search(r"^Conv2D +16x16x256 .* bottom_conv1$", layers, flags=re.M)
    nameless = run("models", "--layers")
    assert nameless.exit_code == 2
    assert "name it" in nameless.output


def test_datasets() -> None:
    shown = fine("datasets")
    assert all(f"\n{name} " in shown for name in catalog.names())
    assert [each["name"] for each in json.loads(fine("datasets", "--json"))] == (
        catalog.names()
    )
    text = fine("datasets", "hela")
    assert "10.1038/s41592-023-01879-y" in text, "how to cite it"
    assert "standard, swapped" in text
    assert "celltrackingchallenge.net" in text
    assert json.loads(fine("datasets", "hela", "--json"))["splits"] == ["train", "test"]


def test_recipes_can_be_written_out_and_used() -> None:
    shown = fine("recipes")
    assert all(f"\n{name} " in shown for name in recipe.RECIPES)
    for name in recipe.RECIPES:
        text = fine("recipes", name)
        assert recipe.from_dict(tomllib.loads(text)) == recipe.named(name)
    meaning = "# Largest global norm of the gradient; 0 for no limit.\n"
    assert f"{meaning}clip = 1.0\n" in fine("recipes", "default")
    assert "# number of steps.\nsteps = 2000\n" in fine("recipes", "default")
    text = fine("recipes", "default", "--model", "resunet")
    assert tomllib.loads(text)["model"] == "resunet"


def test_a_recipe_explains_every_field() -> None:
    lines = fine("recipes", "default").splitlines()
    for section in ("augmentation", "optimizer"):
        begin = lines.index(f"[{section}]") + 1
        fields = dataclasses.fields(getattr(recipe.Recipe(), section))
        told = lines[begin : begin + 2 * len(fields)]
        assert all(each.startswith("# ") for each in told[::2])
        names = [each.partition(" = ")[0] for each in told[1::2]]
        assert names == [field.name for field in fields]
    for field in dataclasses.fields(recipe.Recipe):
        if field.name in ("augmentation", "optimizer"):
            continue
        key = rf"(# )?{field.name} = .+|\[{field.name}\]"
        at = next(n for n, line in enumerate(lines) if re.fullmatch(key, line))
        assert lines[at - 1].startswith("# "), field.name


def test_what_a_recipe_leaves_open_is_there_as_a_comment() -> None:
    text = fine("recipes", "default")
    for name in ("scale", "pixel_size"):
        assert getattr(recipe.from_dict(tomllib.loads(text)), name) is None
        chosen = text.replace(f"\n# {name} = ", f"\n{name} = ")
        assert getattr(recipe.from_dict(tomllib.loads(chosen)), name) == 1.0


def test_weights_of_the_zoo() -> None:
    shown = fine("weights")
    assert fine("weights", "list") == shown
    listed = json.loads(fine("weights", "list", "--json"))
    assert [each["name"] for each in listed] == weights.names()
    for name in weights.names():
        entry = weights.entry(name)
        assert f"\n{name} " in shown
        assert entry.sha256 in fine("weights", "info", name)
        if entry.path.exists():
            assert entry.sha256 in fine("weights", "verify", name)
            assert fine("download", name, "--offline").strip() == str(entry.path)
    checked = json.loads(fine("weights", "verify", "--json"))
    shipped = [name for name in weights.names() if weights.entry(name).path.exists()]
    assert [each["entry"] for each in checked] == shipped


def test_a_folder_of_weights_becomes_a_server(tiny: Path, tmp_path: Path) -> None:
    (tmp_path / "mine.h5").write_bytes(tiny.read_bytes())
    assert str(tmp_path / "index.json") in fine("weights", "index", tmp_path)
    index = json.loads((tmp_path / "index.json").read_text())
    assert index["mine"]["sha256"] == weights.sha256(tiny)
    facts = json.loads(fine("weights", "info", tiny, "--json"))
    assert facts["model"] == "unet"
    assert facts["sha256"] == weights.sha256(tiny)
    assert "filters: 2" in fine("weights", "info", tiny)


# === Train, evaluate, segment ===


def test_train_then_evaluate_then_segment(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    done = run(
        "train", "unet", "--dataset", "mine", *TINY, "--steps", 3,
        "--validate-every", 2, "--scale", 1, "--set", "optimizer.warmup=1",
    )  # fmt: skip
    assert done.exit_code == 0, done.output
    made = tmp_path / "runs" / "unet-mine"
    assert {path.name for path in made.iterdir()} == {
        "weights.h5",
        "recipe.toml",
        "history.csv",
        "checkpoint.npz",
        "curve.png",
        "report.html",
        "samples",
    }
    assert "step 3/3" in done.stderr
    assert "--model runs/unet-mine/weights.h5" in done.stdout
    best = segmenter.load(made / "weights.h5").facts["validation"]
    line = f"Best SEG in validation: {best['SEG']:.3f}, step {best['step']}"
    assert line in done.stdout
    kept = tomllib.loads((made / "recipe.toml").read_text())
    assert kept["steps"] == 3
    assert kept["optimizer"]["warmup"] == 1
    assert kept["model_arguments"]["filters"] == 2

    again = run("train", "unet", "--dataset", "mine", *TINY, "--steps", 3)
    assert again.exit_code == 2
    assert f"Give --output {Path('runs/unet-mine-2')}" in again.stderr

    shown = fine(
        "evaluate", "runs/unet-mine/weights.h5", "--dataset", "mine", "--split", "all",
        "--output", "scores.json",
    )  # fmt: skip
    written = json.loads(Path("scores.json").read_text())
    assert written["metrics"]["SEG"]["objects"] == 12
    assert written["metrics"]["SEG"]["frames"] == 4
    assert written["weights_sha256"] == weights.sha256(made / "weights.h5")
    for name, score in written["metrics"].items():
        assert re.search(rf"^{name} +{score['value']:.4f} ", shown, flags=re.M)

    out = fine("segment", "mine/images", "--model", "runs/unet-mine", "--output", "out")
    assert re.search(r"^\d+ objects? in 4 images; results in out$", out, flags=re.M)
    for number in range(4):
        labels = tifffile.imread(f"out/a{number}_masks.tif")
        assert labels.shape == (48, 56)
        assert images.read_one(f"out/overlays/a{number}.png").shape == (48, 56, 3)
    refused = run("segment", "mine/images", "--model", made, "--output", "out")
    assert refused.exit_code == 2
    assert "a0_masks.tif is there already" in refused.stderr


def test_classes_are_taught_as_classes(capsys: pytest.CaptureFixture[str]) -> None:
    plan = recipe.named("default")
    classes, objects = (catalog.info(name).kind for name in ("membrane", "hela"))
    semantic = plan.replace(target="semantic")
    assert _recipes.suited(plan, "membrane", classes, {"steps"}) == semantic
    assert "the target is semantic" in capsys.readouterr().err
    assert _recipes.suited(plan, "hela", objects, set()) == plan
    assert _recipes.suited(plan, "membrane", classes, {"target"}) == plan
    paper = recipe.named("paper")
    assert _recipes.suited(paper, "membrane", classes, set()) == paper
    assert not capsys.readouterr().err


@pytest.fixture
def heard() -> Iterator[None]:
    """Let Ctrl-C be heard; what a shell starts in the background is deaf to it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("heard")
def test_an_interrupted_training_says_what_it_keeps(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tell = _telling.Told.__call__

    def interrupted(self: _telling.Told, now: object) -> None:
        tell(self, now)
        if now.step == 2:  # Ctrl-C, at a time that is the same every time
            signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(_telling.Told, "__call__", interrupted)
    arguments = ("--steps", 9, "--validate-every", 1, "--scale", 1)
    output = tmp_path / "run"
    result = run(
        "train", "unet", "--dataset", folder, *TINY, *arguments, "--output", output
    )
    assert result.exit_code == 130
    assert f"Interrupted. The best weights so far are in {output}" in result.stderr
    # The step that ran was finished; only then everything was written.
    assert checkpoints.read_facts(output / "checkpoint.npz")["step"] == 2
    best = segmenter.load(output / "weights.h5").facts["validation"]["step"]
    assert best in (1, 2)
    assert "The same command with --resume goes on." in result.stderr
    again = ("--output", output, "--resume")
    assert (
        "step 9/9"
        in run("train", "unet", "--dataset", folder, *TINY, *arguments, *again).stderr
    )


def test_a_training_without_progress_ends_early(folder: Path, tmp_path: Path) -> None:
    output = tmp_path / "run"
    # A rate at which nothing changes: the second validation is no better.
    said = fine(
        "train", "unet", "--dataset", folder, *TINY, "--steps", 9, "--scale", 1,
        "--validate-every", 1, "--patience", 1, "--learning-rate", 1e-12,
        "--loss", "tversky", "--set", "loss_arguments.beta=0.9",
        "--set", "optimizer.name=nadam", "--set", "optimizer_arguments.beta_2=0.99",
        "--output", output,
    )  # fmt: skip
    assert "Ended after step 2 of 9: 1 validation(s) brought nothing better." in said
    kept = tomllib.loads((output / "recipe.toml").read_text())
    assert kept["loss_arguments"] == {"beta": 0.9}
    assert kept["optimizer_arguments"] == {"beta_2": 0.99}
    assert (kept["loss"], kept["optimizer"]["name"]) == ("tversky", "nadam")


def test_results_are_what_the_segmenter_says(tiny: Path, tmp_path: Path) -> None:
    """Labels, table and overlay of single images and stacks agree with the library."""
    frames = np.stack([draw(number)[0] for number in range(3)])
    stack, one = tmp_path / "stack.tif", tmp_path / "one.png"
    tifffile.imwrite(stack, frames, photometric="minisblack")
    images.write_png(one, frames[0])
    output = tmp_path / "deep" / "down"
    options = ("--min-size", 3, "--threshold", 0.4, "--tta", 4, "--no-fill-holes")
    shown = fine("segment", one, stack, "--model", tiny, "--output", output, *options)
    found = segmenter.load(tiny)
    expected = [
        found.segment(frame, min_size=3, threshold=0.4, tta=4, fill_holes=False)
        for frame in frames
    ]
    labels = tifffile.imread(output / "stack_masks.tif")
    assert np.array_equal(labels, expected)
    assert np.array_equal(tifffile.imread(output / "one_masks.tif"), expected[0])
    assert {path.name for path in (output / "overlays").iterdir()} == {
        "one.png",
        *(f"stack_t{number:03d}.png" for number in range(3)),
    }
    with (output / "stack_objects.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    counts = [each.count for each in expected]
    assert max(counts) > 0, "an untrained network that finds nothing tests nothing"
    for number, count in enumerate(counts):
        here = [row for row in rows if row["frame"] == str(number)]
        assert [int(row["label"]) for row in here] == list(range(1, count + 1))
        assert {row["image"] for row in here} <= {"stack.tif"}
    assert f"{sum(counts) + counts[0]} objects in 2 images" in shown
    past = records.read(output)
    assert {name: each.source for name, each in past.items()} == {
        "one": one.resolve(),
        "stack": stack.resolve(),
    }
    assert (past["stack"].frames, past["stack"].run["model"]) == (3, str(tiny))
    assert past["one"].run["options"]["min_size"] == 3


def test_what_does_not_fit_is_segmented_in_pieces(
    tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from unet_zoo.batch import pieces

    stack, output = tmp_path / "stack.tif", tmp_path / "out"
    frames = np.stack([draw(number)[0] for number in range(2)])
    tifffile.imwrite(stack, frames, photometric="minisblack")
    command = (
        "segment",
        stack,
        "--model",
        tiny,
        "--output",
        output,
        "--threshold",
        0.4,
    )
    kinds = ("--max-memory", "64GB", "--write", "labels,csv,overlay,mask,parquet,rois")
    fine(*command, *kinds)
    whole = tifffile.imread(output / "stack_masks.tif")
    pictures = sorted(output.rglob("*.png"))
    assert len(pictures) == 4
    before = [images.read_one(each) for each in pictures]
    (output / "stack_rois.zip").unlink()
    monkeypatch.setattr(pieces, "_SHARE", 0)
    result = run(*command, *kinds, "--overwrite")
    expected = "stack.tif in pieces, labels, csv, overlay, mask and parquet only, not "
    assert f"{expected}rois: " in result.stderr
    pieces = tifffile.imread(output / "stack_masks.tif")
    assert np.array_equal(pieces > 0, whole > 0)
    assert not (output / "stack_rois.zip").exists()
    outlines = 0
    for path, picture, frame in zip(pictures, before, 2 * [*frames], strict=True):
        found = images.read_one(path)
        if path.parent.name == "overlays":  # objects may have other numbers
            grey = images.to_uint8(frame)
            found, picture = ((each != grey).any(-1) for each in (found, picture))
            outlines += np.count_nonzero(found)
        assert np.array_equal(found, picture)
    with (output / "stack_objects.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == sum(each.max() for each in whole) > 0
    assert {row["image"] for row in rows} == {"stack.tif"}
    assert outlines > 0
    parquet = pandas.read_parquet(output / "stack_objects.parquet")
    assert [str(each) for each in parquet["area"]] == [row["area"] for row in rows]
    for words, said in (
        (("--max-memory", "10MB"), "too little for this network"),
        (("--max-memory", "lots"), "such as '2GB'"),
        (("--tile", 64), "Give --max-memory instead of --tile"),
    ):
        result = run(*command, *words, "--overwrite")
        assert result.exit_code == 2
        assert said in result.stderr


def test_channel_and_overwrite(tiny: Path, tmp_path: Path) -> None:
    image, _ = draw(0)
    colour = np.stack([image, image[::-1], image[:, ::-1]], axis=-1)
    source, output = tmp_path / "colour.png", tmp_path / "out"
    images.write_png(source, colour)
    command = ("segment", source, "--model", tiny, "--output", output, "--channel")
    fine(*command, 0)
    first = tifffile.imread(output / "colour_masks.tif")
    assert np.array_equal(first, segmenter.load(tiny).segment(image))
    assert run(*command, 1).exit_code == 2
    assert np.array_equal(tifffile.imread(output / "colour_masks.tif"), first)
    fine(*command, 1, "--overwrite")
    second = tifffile.imread(output / "colour_masks.tif")
    assert np.array_equal(second, segmenter.load(tiny).segment(image[::-1]))


def test_scores_as_csv(folder: Path, tiny: Path, tmp_path: Path) -> None:
    output = tmp_path / "scores.csv"
    fine(
        "evaluate", tiny, "--dataset", folder, "--split", "validation", "--output",
        output,
    )  # fmt: skip
    with output.open(newline="") as file:
        rows = {row["metric"]: row for row in csv.DictReader(file)}
    assert rows["Dice"]["objects"] == "3"
    assert 0 <= float(rows["Dice"]["value"]) <= 1


@pytest.mark.parametrize(
    ("options", "settings", "expected"),
    [
        ({"steps": 7, "batch": None}, [], {"steps": 7}),
        ({"filters": 2}, [], {"model_arguments": {"filters": 2}}),
        ({"learning_rate": 0.1}, [], {"optimizer": {"learning_rate": 0.1}}),
        ({}, ["optimizer.name=sgd"], {"optimizer": {"name": "sgd"}}),
        ({}, ["scale=0.5", "steps=9"], {"scale": 0.5, "steps": 9}),
        ({"steps": 7}, ["steps=9"], {"steps": 9}),
        ({}, ["augmentation.flip=false"], {"augmentation": {"flip": False}}),
        (
            {"augmentation": "strong"},
            ["augmentation.blur=0"],
            {"augmentation": vars(recipe.Augmentation.named("strong")) | {"blur": 0}},
        ),
        ({}, ["normalization=percentile"], {"normalization": "percentile"}),
        ({}, ["target_arguments={seed=0.3}"], {"target_arguments": {"seed": 0.3}}),
        (
            {"depth": 2},
            ['model_arguments.padding="valid"'],
            {"model_arguments": {"depth": 2, "padding": "valid"}},
        ),
    ],
)
def test_options_change_the_recipe_and_nothing_else(
    options: dict[str, object], settings: Sequence[str], expected: dict[str, object]
) -> None:
    plan = recipe.named("default")
    changed = _recipes.changed(plan, options, settings).to_dict()

    def merged(base: dict, changes: dict) -> dict:
        inner = {
            key: merged(base[key], value) if isinstance(value, dict) else value
            for key, value in changes.items()
        }
        return {**base, **inner}

    assert changed == merged(plan.to_dict(), expected)
