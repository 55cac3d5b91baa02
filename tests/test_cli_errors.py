"""What the command line says to mistakes: one message, exit code 2, nothing written."""

from __future__ import annotations

import contextlib
import functools
import http.server
import os
import resource
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import tifffile
from click.testing import CliRunner

from unet_zoo import cli, images, registry, segmenter, weights

ROOT = Path(__file__).resolve().parent.parent
Files = dict[str, bytes | None]


def content(folder: Path) -> Files:
    """Return every path below `folder`, with the bytes of the files."""
    return {
        str(path.relative_to(folder)): path.read_bytes() if path.is_file() else None
        for path in sorted(folder.rglob("*"))
    }


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Run every test in an empty folder of its own, without a network."""
    place = tmp_path / "here"
    place.mkdir()
    monkeypatch.chdir(place)
    for name in ("UNET_ZOO_URL", "UNET_ZOO_CACHE", "UNET_ZOO_OFFLINE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("UNET_ZOO_DATA_DIR", str(tmp_path / "tfds"))
    return place


def refused(*arguments: object) -> str:
    """Run a command that must be refused, and return the message.

    Nothing in the working folder may be changed by it.
    """
    before = content(Path.cwd())
    result = CliRunner().invoke(cli.main, [str(each) for each in arguments])
    assert isinstance(result.exception, SystemExit), result.exc_info
    assert result.exit_code == 2, result.output
    assert "Traceback" not in result.output
    assert content(Path.cwd()) == before
    lines = result.stderr.strip().splitlines()
    message = [line for line in lines if line.startswith("Error: ")]
    assert len(message) == 1, result.stderr
    return message[0]


def write_weights(path: Path, model: str = "unet") -> Path:
    arguments = {"filters": 2, "depth": 2}
    if model == "unet":
        arguments["padding"] = "same"
    network = registry.build(model, classes=3, **arguments)
    facts = segmenter.describe(model, arguments, channels=1)
    weights.write(path, network, facts)
    return path


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the weights file of an untrained network."""
    return write_weights(tmp_path_factory.mktemp("weights") / "tiny.h5")


def picture(name: str, size: tuple[int, ...] = (40, 44), seed: int = 0) -> Path:
    """Write a noisy image and return its path."""
    path = Path(name)
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 255, size).astype(np.uint8)
    if path.suffix == ".png":
        images.write_png(path, pixels)
    else:
        tifffile.imwrite(path, pixels, photometric="minisblack")
    return path


def pairs(folder: str = "mine") -> Path:
    """Write a dataset of three pairs and return its folder."""
    for number in range(3):
        picture(f"{folder}/images/a{number}.tif", seed=number)
        mask = np.zeros((40, 44), np.uint8)
        mask[5:15, 5:15], mask[20:30, 20:30] = 1, 2
        (Path(folder) / "masks").mkdir(exist_ok=True)
        tifffile.imwrite(Path(folder) / "masks" / f"a{number}.tif", mask)
    return Path(folder)


# === Names ===


@pytest.mark.parametrize(
    ("arguments", "fragments"),
    [
        (["segmnt"], ["Unknown command 'segmnt'", "'segment'"]),
        (["weights", "verfy"], ["Unknown command of weights 'verfy'", "'verify'"]),
        (["models", "unt"], ["Unknown model 'unt'", "'unet'"]),
        (["models", "unet", "--draw", "a.png"], ["must end in .svg", "a.png"]),
        (["models", "unet", "--draw", "no/a.svg"], ["folder no of --draw", "Make it"]),
        (["models", "unet", "--draw", "a.svg", "--json"], ["--json prints facts"]),
        (["weights", "export-cache", "no/w.tar"], ["folder no of FILE", "Make it"]),
        (["datasets", "helaa"], ["Unknown dataset 'helaa'", "'hela'"]),
        (["recipes", "papr"], ["Unknown recipe 'papr'", "'paper'"]),
        (["weights", "info", "nothing-here"], ["Unknown weights 'nothing-here'"]),
        (["weights", "verify", "nothing-here"], ["Unknown weights 'nothing-here'"]),
        (
            ["weights", "verify", "--evaluate", "--precision", "int8"],
            ["calibrated on images", "float32 or bfloat16", "unet-zoo evaluate"],
        ),
        (
            ["weights", "verify", "--engine", "onnx", "--precision", "bfloat16"],
            ["bfloat16"],
        ),
        (["download", "nothing-here"], ["Unknown weights", "UNET_ZOO_URL"]),
        (
            ["weights", "export-cache", "w.tar", "unet-blobs", "--cache", "none"],
            ["holds no weights", "with unet-zoo need no pack: ", " unet-blobs"],
        ),
        (["train", "unett", "--dataset", "hela"], ["Unknown model", "'unet'"]),
        (["train", "unet", "--dataset", "hella"], ["Unknown dataset", "'hela'"]),
        (["train", "unet"], ["Missing option '--dataset'"]),
        (
            ["train", "unet", "--dataset", "no/such/folder"],
            ["no folder no/such/folder"],
        ),
        (
            ["train", "unet", "--dataset", "hela", "--config", "standart"],
            ["Unknown configuration of hela 'standart'", "'standard'"],
        ),
        (
            ["train", "unet", "--dataset", "hela", "--recipe", "defalt"],
            ["Unknown recipe 'defalt'", "'default'"],
        ),
        (
            ["train", "resunet", "--dataset", "hela", "--recipe", "paper"],
            ["'paper' is of the model 'unet'"],
        ),
        (
            ["train", "unet", "--dataset", "hela", "--recipe", "mine.toml"],
            ["mine.toml: No such file"],
        ),
        (
            ["train", "unet", "--dataset", "hela", "--manual-dir", "nowhere"],
            ["--manual-dir", "'nowhere' does not exist"],
        ),
        (["segment", "--model", "x", "--output", "o"], ["Missing argument"]),
        (["segment", "x.tif", "--model", "x"], ["Missing option '--output'"]),
        (["segment", "x.tif", "--modle", "x"], ["No such option '--modle'", "--model"]),
        (
            ["segment", "none.tif", "--model", "x", "--output", "o"],
            ["none.tif does not exist"],
        ),
        (
            ["evaluate", "no-such", "--dataset", "hela"],
            ["Unknown weights 'no-such'"],
        ),
        (
            ["evaluate", "none.h5", "--dataset", "hela"],
            ["none.h5 cannot be opened", "No such file"],
        ),
        (
            ["evaluate", "x.h5", "--dataset", "hela", "--output", "a.txt"],
            ["must end in .json or .csv", "a.txt"],
        ),
        (
            ["evaluate", "x.h5", "--dataset", "hela", "--output", "no/a.json"],
            ["The folder no of --output does not exist"],
        ),
        (["weights", "index", "nowhere"], ["'nowhere' does not exist"]),
        (["weights", "index", "."], ["holds no weights"]),
    ],
)
def test_names_that_are_not_there(arguments: list[str], fragments: list[str]) -> None:
    message = refused(*arguments)
    for fragment in fragments:
        assert fragment in message


@pytest.mark.parametrize(
    ("options", "fragments"),
    [
        (["--steps", "0"], ["`steps` must be at least 1"]),
        (["--steps", "many"], ["'many' is not a valid integer"]),
        (["--scale", "-1"], ["`scale` must lie in (0, 8]"]),
        (["--target", "distanse"], ["Unknown target", "'distance'"]),
        (["--precision", "float16"], ["Unknown precision"]),
        (["--tta", "3"], ["`tta` must be 1, 4"]),
        (["--learning-rate", "0"], ["learning_rate` must be positive"]),
        (["--validation", "1.5"], ["--validation"]),
        (["--checkpoint-minutes", "nan"], ["nan is not a finite number"]),
        (["--backend", "theano"], ["'theano' is not one of"]),
        (["--set", "stepz=3"], ["Unknown recipe field 'stepz'", "'steps'"]),
        (["--set", "optimizer.nam=3"], ["Unknown optimizer field", "'name'"]),
        (["--set", "steps"], ["KEY=VALUE"]),
        (["--set", "steps=ten"], ["`steps` must be of type int", "'ten'"]),
        (["--set", "optimizer=3"], ["`optimizer` must be a table"]),
        (["--set", "seed=1", "--set", "seed.x=2"], ["seed", "value of its own"]),
        (["--set", "model=resunet"], ["first argument"]),
        (["--set", "model_arguments.classes=5"], ["classes", "target"]),
    ],
)
def test_values_that_cannot_be(options: list[str], fragments: list[str]) -> None:
    message = refused("train", "unet", "--dataset", "hela", *options)
    for fragment in fragments:
        assert fragment in message


def test_a_recipe_of_another_model_or_of_no_format() -> None:
    Path("mine.toml").write_text('model = "resunet"\n')
    command = ("train", "unet", "--dataset", "hela", "--recipe", "mine.toml")
    assert "a recipe of the model 'resunet', not 'unet'" in refused(*command)
    Path("mine.toml").write_text("model = \n")
    assert "mine.toml is not TOML" in refused(*command)


# === Datasets ===


def test_a_folder_without_pairs() -> None:
    Path("empty").mkdir()
    assert "no pairs" in refused("train", "unet", "--dataset", "empty")
    picture("alone/a.tif")
    assert "images but no masks" in refused("train", "unet", "--dataset", "alone")


def test_an_image_without_its_mask() -> None:
    picture(f"{pairs()}/images/b.tif")
    message = refused("train", "unet", "--dataset", "mine")
    assert "b.tif has no mask" in message


def _float(mask: np.ndarray) -> np.ndarray:
    return mask.astype(np.float32)


def _colour(mask: np.ndarray) -> np.ndarray:
    return np.stack([mask] * 3, axis=-1)


def _larger(mask: np.ndarray) -> np.ndarray:
    return np.pad(mask, 2)


@pytest.mark.parametrize(
    ("change", "fragments"),
    [
        (_float, ["a1.tif holds float32", "whole numbers"]),
        (_colour, ["a1.tif has 3 channels", "one is expected"]),
        (_larger, ["40 x 44 pixels", "44 x 48", "must be equal"]),
    ],
)
def test_a_mask_that_is_none(change: object, fragments: list[str]) -> None:
    path = pairs() / "masks" / "a1.tif"
    mask = change(tifffile.imread(path))
    photometric = "rgb" if mask.ndim == 3 else "minisblack"
    tifffile.imwrite(path, mask, photometric=photometric)
    message = refused("train", "unet", "--dataset", "mine")
    for fragment in fragments:
        assert fragment in message


def test_masks_of_one_value() -> None:
    for path in (pairs() / "masks").iterdir():
        tifffile.imwrite(path, np.ones((40, 44), np.uint8))
    assert "the value 1 and nothing else" in refused(
        "train", "unet", "--dataset", "mine"
    )


def test_an_archive_that_is_not_there() -> None:
    Path("manual").mkdir()
    command = ("train", "unet", "--dataset", "hela", "--manual-dir", "manual")
    message = refused(*command)
    assert "DIC-C2DH-HeLa.zip" in message
    assert "data.celltrackingchallenge.net" in message


def test_an_archive_with_the_wrong_content() -> None:
    Path("manual").mkdir()
    Path("manual/DIC-C2DH-HeLa.zip").write_bytes(b"not what it should be")
    command = ("train", "unet", "--dataset", "hela", "--manual-dir", "manual")
    message = refused(*command)
    assert "DIC-C2DH-HeLa.zip is not a readable zip archive" in message
    assert "Get it again from" in message


def test_weights_that_do_not_say_how_they_were_made(tiny: Path) -> None:
    message = "does not say its recipe and dataset"
    assert message in refused("reproduce", tiny)
    assert message in refused("reproduce", tiny, "--dataset", pairs())


def test_a_split_that_is_not_there(tiny: Path) -> None:
    pairs()
    message = refused("evaluate", tiny, "--dataset", "mine")
    assert "no split 'test'" in message
    assert "'all'" in message


@pytest.mark.parametrize("verb", ["evaluate", "tune"])
def test_images_of_other_channels(verb: str, tiny: Path) -> None:
    for path in (pairs() / "images").iterdir():
        pixels = np.stack([tifffile.imread(path)] * 3, axis=-1)
        tifffile.imwrite(path, pixels, photometric="rgb")
    message = refused(verb, tiny, "--dataset", "mine", "--split", "all")
    assert "images of mine have 3 channel(s)" in message
    assert "Give images of 1, or weights that take 3." in message


# === Images ===


def segment(tiny: Path, *arguments: object) -> str:
    return refused("segment", *arguments, "--model", tiny, "--output", "out")


def test_a_broken_image_is_named(tiny: Path) -> None:
    whole = picture("good.tif", (300, 300)).read_bytes()
    for name, broken, fragment in (
        ("b.tif", whole[: len(whole) // 2], "truncated"),
        ("b.png", b"dear diary, today", "content is not TIFF, PNG"),
        ("b.png", b"", "empty (0 bytes)"),
    ):
        path = Path("in") / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(broken)
        message = segment(tiny, "in")
        assert str(path) in message
        assert fragment in message
        path.unlink()


def test_an_image_with_nan(tiny: Path) -> None:
    image = np.ones((30, 30), np.float32)
    image[3, 4] = np.nan
    tifffile.imwrite("nan.tif", image)
    message = segment(tiny, "nan.tif")
    assert "nan.tif has 1 values that are NaN" in message


def test_an_empty_folder(tiny: Path) -> None:
    Path("in").mkdir()
    assert "No images in in" in segment(tiny, "in")


def test_channels(tiny: Path) -> None:
    path = picture("colour.png", (30, 30, 3))
    message = segment(tiny, path)
    assert "colour.png has 3 channel(s), the model takes 1" in message
    assert "--channel 0" in message
    message = segment(tiny, path, "--channel", 3)
    assert "--channel 3 is not there" in message


def test_results_that_would_meet(tiny: Path) -> None:
    one, other = picture("one/a.tif"), picture("other/a.png")
    message = segment(tiny, one, other)
    assert str(one) in message
    assert str(other) in message
    stack = np.zeros((2, 20, 20), np.uint8)
    tifffile.imwrite("b.tif", stack, photometric="minisblack")
    message = segment(tiny, "b.tif", picture("b_t001.tif"))
    assert "b_t001.png" in message


def test_results_that_are_there(tiny: Path) -> None:
    path = picture("a.tif")
    for result in ("a_masks.tif", "a_objects.csv", "overlays/a.png"):
        there = Path("out") / result
        there.parent.mkdir(parents=True, exist_ok=True)
        there.write_text("precious")
        message = segment(tiny, path)
        assert f"{there} is there already" in message
        assert "--overwrite" in message
        there.unlink()


def test_an_output_that_is_a_file(tiny: Path) -> None:
    Path("out").write_text("a file")
    message = segment(tiny, picture("a.tif"))
    assert "out is a file" in message
    pairs()
    message = refused("train", "unet", "--dataset", "mine", "--output", "out")
    assert "out is a file" in message
    message = refused("train", "unet", "--dataset", "mine", "--output", "out/deep")
    assert "out is a file" in message


def test_an_output_of_train_that_is_not_empty() -> None:
    pairs()
    for name in ("run", "run-2"):
        Path(name).mkdir()
        (Path(name) / "notes.txt").write_text("precious")
    message = refused("train", "unet", "--dataset", "mine", "--output", "run")
    assert "run is not empty" in message
    assert "--output run-3" in message


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_an_output_without_permission(tiny: Path) -> None:
    Path("locked").mkdir(mode=0o555)
    path = picture("a.tif")
    message = refused("segment", path, "--model", tiny, "--output", "locked/out")
    assert "no permission" in message


# === Weights ===


def test_truncated_weights(tiny: Path) -> None:
    whole = tiny.read_bytes()
    path = picture("a.tif")
    for keep in (0, 100, len(whole) // 2, len(whole) - 1):
        Path("cut.h5").write_bytes(whole[:keep])
        message = refused("segment", path, "--model", "cut.h5", "--output", "out")
        assert "cut.h5" in message
    Path("page.h5").write_text("<html>not found</html>")
    message = refused("segment", path, "--model", "page.h5", "--output", "out")
    assert "web page" in message


def test_weights_of_another_model(tiny: Path) -> None:
    """Facts of a U-Net, variables of a ResUNet: made with the tools of HDF5."""
    import h5py

    other = write_weights(Path("other.h5"), "resunet")
    with h5py.File(tiny) as source, h5py.File(other, "r+") as target:
        del target["facts"]
        source.copy("facts", target)
        target.attrs["facts_sha256"] = source.attrs["facts_sha256"]
    message = refused("segment", picture("a.tif"), "--model", other, "--output", "out")
    assert "other.h5 does not fit the network 'unet'" in message
    assert "missing in the file" in message


def test_downloads_are_checked(tiny: Path, tmp_path: Path) -> None:
    """From a real server: the right bytes arrive, others are deleted."""
    served = tmp_path / "served"
    served.mkdir()
    (served / "mine.h5").write_bytes(tiny.read_bytes())
    (served / "other.h5").write_bytes(tiny.read_bytes())
    weights.index(served)
    damaged = bytearray(tiny.read_bytes())
    damaged[-1] ^= 1
    (served / "other.h5").write_bytes(damaged)

    class Silent(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            pass

    handler = functools.partial(Silent, directory=str(served))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{server.server_port}"
        options = ["--base-url", url, "--cache", "cache"]
        result = CliRunner().invoke(cli.main, ["download", "mine", *options])
        assert result.exit_code == 0, result.output
        assert Path(result.stdout.strip()).read_bytes() == tiny.read_bytes()
        assert "Did you mean 'mine'" in refused("download", "mne", *options)
        bad = CliRunner().invoke(cli.main, ["download", "other", *options])
        server.shutdown()
    assert bad.exit_code == 2, bad.output
    assert "sha256" in bad.stderr
    assert not list(Path("cache").glob("other*"))
    assert not list(Path("cache").glob(".other*.part"))
    options.append("--offline")
    again = CliRunner().invoke(cli.main, ["download", "mine", *options])
    assert again.stdout == result.stdout
    assert "offline" in refused("download", "other", *options)


def test_impossible_options_of_segment(tiny: Path) -> None:
    path = picture("a.tif")
    for option, value in (
        ("--tta", 3),
        ("--tile", 0),
        ("--threshold", 2),
        ("--min-size", -1),
        ("--closing", -1),
        ("--channel", -1),
    ):
        assert option in segment(tiny, path, option, value)


# === A full disk ===


@contextlib.contextmanager
def files_of_at_most(size: int) -> Iterator[None]:
    """Let no file grow beyond `size` bytes: a full disk that every user can have."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.parametrize("room", [0, 60, 1000])
def test_segment_without_room(tiny: Path, room: int) -> None:
    """An image has all of its results or none, wherever the room ends."""
    path = picture("a.tif", (90, 90))
    with files_of_at_most(room):
        message = segment(tiny, path)
    assert "ile too large" in message


def test_evaluate_without_room(tiny: Path) -> None:
    pairs()
    command = ("evaluate", tiny, "--dataset", "mine", "--split", "validation")
    with files_of_at_most(20):
        message = refused(*command, "--output", "scores.json")
    assert "ile too large" in message


def test_train_without_room() -> None:
    """HDF5 itself would crash the process."""
    pairs()
    command = (
        "train unet --dataset mine --output run --steps 1 --filters 2 --depth 2"
        " --patch 32 --batch 1 --scale 1"
    )
    with files_of_at_most(4000):
        result = CliRunner().invoke(cli.main, command)  # split as a shell does
    assert result.exit_code == 2, result.output
    assert "File too large" in result.stderr
    assert os.listdir("run") == []


@pytest.mark.skipif(
    os.geteuid() != 0 or shutil.which("unshare") is None,
    reason="only root may mount a small disk",
)
def test_a_disk_that_is_really_full(tiny: Path) -> None:
    path = picture("a.tif", (300, 300))
    Path("disk").mkdir()
    script = """
unshare -m true || exit 77
exec unshare -m sh -c '
    mount -t tmpfs -o size=64k none disk || exit 77
    "$0" -c "from unet_zoo.cli import main; main()" \
        segment "$1" --model "$2" --output disk/out
    echo "exit $?"
    find disk
' "$0" "$1" "$2"
"""
    result = subprocess.run(
        ["sh", "-c", script, sys.executable, str(path), str(tiny)],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    if result.returncode == 77:
        pytest.skip(f"cannot mount here: {result.stderr}")
    assert result.stdout == "exit 2\ndisk\n", result.stderr
    assert "no space left on device" in result.stderr
    assert "Traceback" not in result.stderr
