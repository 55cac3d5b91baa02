"""Named datasets: found by listing, prepared once, split without leaking."""

from __future__ import annotations

import http.server
import importlib
import shutil
import subprocess
import sys
import threading
import zipfile

import numpy as np
import pytest

from unet_zoo import catalog
from unet_zoo.catalog.dataset import held_back
from unet_zoo.errors import InputError


@pytest.fixture(scope="module")
def hela(shared_data, tmp_path_factory):
    """Return the real dataset, prepared once for all tests of this file."""
    data = tmp_path_factory.mktemp("tfds")
    return catalog.open_dataset("hela", manual_dir=shared_data, data_dir=data)


@pytest.fixture(scope="module")
def splits(hela):
    """Return the examples of each split of the real dataset."""
    return {split: hela.examples(split) for split in ("train", "validation", "test")}


@pytest.fixture(scope="module")
def frames(splits):
    """Return every example of the real dataset by its name."""
    return {each.name: each for examples in splits.values() for each in examples}


@pytest.fixture
def made_up(tmp_path):
    """Return a folder with a small unpacked hela."""
    from unet_zoo.datasets.hela.hela_dataset_builder_test import write_sequence

    folder = tmp_path / "manual"
    for sequence in ("01", "02"):
        write_sequence(folder, sequence, frames=5)
    return folder


def test_listing_and_facts_load_neither_keras_nor_tensorflow():
    code = (
        "import sys, unet_zoo.catalog as c; infos = [c.info(n) for n in c.names()];"
        "assert {'hela', 'membrane'} <= {i.name for i in infos}, infos;"
        "assert all(i.version and i.summary and i.splits for i in infos), infos;"
        "print({'keras', 'tensorflow', 'tensorflow_datasets'} & set(sys.modules))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "set()"


def test_what_is_written_agrees_with_the_builders():
    import unet_zoo.datasets  # noqa: F401

    import tensorflow_datasets as tfds  # isort: skip

    for name in catalog.names():
        written, cls = catalog.info(name), tfds.builder_cls(name)
        assert written.version == str(cls.VERSION)
        assert written.configs == tuple(each.name for each in cls.BUILDER_CONFIGS)
        assert written.citation.startswith("@")


def test_the_bare_name_datasets_is_refused():
    code = "import sys; sys.path.insert(0, sys.argv[1]); import datasets"
    root = catalog.builders._FOLDER.resolve().parent
    done = subprocess.run(
        [sys.executable, "-c", code, root], capture_output=True, text=True, check=False
    )
    assert "imported as unet_zoo.datasets" in done.stderr


def test_hela_has_the_counts_that_are_known(hela, frames):
    assert hela.size_of == {"train": 74, "validation": 10, "test": 84}
    assert (hela.kind, hela.config, hela.version) == ("instances", "standard", "1.0.0")
    assert "not the official archive" in hela.note
    assert hela.pixel_size == (0.19, 0.19)
    objects, complete, measured = {}, [], 0
    for sequence in ("01", "02"):
        mine = [frames[f"{sequence}_t{number:03d}"] for number in range(84)]
        gold = [each for each in mine if each.reference is not None]
        measured += len(gold)
        objects[sequence] = sum(
            np.unique(each.reference[each.reference > 0]).size for each in gold
        )
        complete += [each.name for each in gold if each.reference.min() == 0]
        markers = sum(np.unique(each.markers).size - 1 for each in mine)
        assert markers == {"01": 1120, "02": 1030}[sequence]
    assert objects == {"01": 98, "02": 97}
    assert measured == 18
    assert complete == [
        *(f"01_t{number:03d}" for number in (2, 5, 21, 31, 33, 54)),
        *(f"02_t{number:03d}" for number in (6, 27, 34, 38)),
    ]


def test_hela_never_calls_a_cell_background(frames):
    for example in frames.values():
        for labels in (example.labels, example.reference):
            if labels is None:
                continue
            for marker in np.unique(example.markers)[1:]:
                inside = labels[example.markers == marker]
                # Covered by an object for at least half, or unknown all over.
                covered = 2 * np.count_nonzero(inside > 0) >= inside.size
                assert covered or (inside != 0).all(), (example.name, marker)


def test_hela_learns_from_gold_where_there_is_gold(frames):
    complete = frames["01_t005"]
    np.testing.assert_array_equal(complete.labels, complete.reference)
    # Gold outlines 3 of the 18 cells of this frame; the others come from silver.
    partial = frames["01_t067"]
    gold = np.unique(partial.reference[partial.reference > 0])
    assert gold.size == 3
    assert np.unique(partial.labels[partial.labels > 0]).size >= 15
    for cell in gold:
        taken = np.unique(partial.labels[partial.reference == cell])
        assert taken.size == 1
        np.testing.assert_array_equal(
            partial.labels == taken[0], partial.reference == cell
        )


def test_hela_splits_are_blocks_that_share_nothing(splits):
    train, validation, test = (
        [each.name for each in splits[split]]
        for split in ("train", "validation", "test")
    )
    assert train + validation == [f"01_t{number:03d}" for number in range(84)]
    assert test == [f"02_t{number:03d}" for number in range(84)]


def test_an_example_is_what_the_contract_says(frames):
    example = frames["02_t006"]
    assert example.image.shape == (512, 512, 1)
    assert example.image.dtype == np.uint8
    for labels in (example.labels, example.reference, example.markers):
        assert labels.shape == (512, 512)
        assert labels.dtype == np.int32


def test_swapped_exchanges_the_sequences(made_up, tmp_path):
    names = {}
    for config in ("standard", "swapped"):
        dataset = catalog.open_dataset(
            "hela", config=config, manual_dir=made_up, data_dir=tmp_path, validation=0
        )
        assert dataset.size_of["validation"] == 0
        assert dataset.examples("validation") == []
        names[config] = {
            split: {each.name for each in dataset.examples(split)}
            for split in ("train", "test")
        }
    assert names["standard"]["train"] == names["swapped"]["test"]
    assert names["standard"]["test"] == names["swapped"]["train"]
    assert not names["standard"]["train"] & names["standard"]["test"]


def test_tfds_loads_it_by_its_name(made_up, tmp_path):
    importlib.import_module("unet_zoo.datasets")  # first: keras before tensorflow
    import tensorflow_datasets as tfds

    manual = tfds.download.DownloadConfig(manual_dir=made_up)
    splits = tfds.load(
        "hela/swapped",
        data_dir=tmp_path / "data",
        download_and_prepare_kwargs={"download_config": manual},
    )
    assert set(splits) == {"train", "test"}
    records = [record["sequence"].decode() for record in tfds.as_numpy(splits["train"])]
    assert records == ["02"] * 5


def test_another_content_of_the_manual_folder_is_prepared_anew(made_up, tmp_path):
    import tifffile

    def opened():
        dataset = catalog.open_dataset("hela", manual_dir=made_up, data_dir=tmp_path)
        return dataset.examples("train")[0].image

    before = opened()
    file = made_up / "DIC-C2DH-HeLa" / "01" / "t000.tif"
    tifffile.imwrite(file, tifffile.imread(file) // 2)
    np.testing.assert_array_equal(opened(), before // 2)


def test_an_archive_and_its_folder_give_the_same(made_up, tmp_path):
    zipped = tmp_path / "zipped"
    zipped.mkdir()
    shutil.make_archive(str(zipped / "DIC-C2DH-HeLa"), "zip", made_up)
    folder, archive = (
        catalog.open_dataset("hela", manual_dir=place, data_dir=tmp_path / "data")
        for place in (made_up, zipped)
    )
    assert "folder DIC-C2DH-HeLa placed by hand" in folder.note
    assert "DIC-C2DH-HeLa.zip placed by hand" in archive.note
    for one, other in zip(
        folder.examples("test"), archive.examples("test"), strict=True
    ):
        np.testing.assert_array_equal(one.image, other.image)
        np.testing.assert_array_equal(one.labels, other.labels)


def test_two_may_prepare_at_the_same_time(made_up, tmp_path, monkeypatch):
    from unet_zoo.datasets.hela.hela_dataset_builder import Builder

    def opened():
        return catalog.open_dataset("hela", manual_dir=made_up, data_dir=tmp_path)

    original = Builder._split_generators

    def overtaken(self, dl_manager):
        monkeypatch.setattr(Builder, "_split_generators", original)
        opened()  # somebody else, done before this one
        return original(self, dl_manager)

    monkeypatch.setattr(Builder, "_split_generators", overtaken)
    assert len(opened().examples("test")) == 5


def test_nothing_is_printed(made_up, tmp_path, capfd):
    catalog.open_dataset("hela", manual_dir=made_up, data_dir=tmp_path)
    out, err = capfd.readouterr()
    assert out == ""
    assert "Generating" not in err


class _Proxy(http.server.BaseHTTPRequestHandler):
    """Answers any address with `content`; where that is empty, with 404."""

    content = b""

    def do_GET(self):
        self.send_response(200 if self.content else 404)
        self.send_header("Content-Length", str(len(self.content)))
        self.end_headers()
        self.wfile.write(self.content)

    def log_message(self, *arguments):
        pass


@pytest.fixture
def internet(monkeypatch):
    """Stand between the program and the internet, as a proxy does."""
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Proxy)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{server.server_port}")
    monkeypatch.delenv("no_proxy", raising=False)
    monkeypatch.delenv("NO_PROXY", raising=False)
    yield _Proxy
    server.shutdown()
    server.server_close()
    thread.join()


def test_a_download_with_another_sha256_is_refused(internet, monkeypatch, tmp_path):
    monkeypatch.setattr(internet, "content", b"PK not the archive")
    with pytest.raises(InputError, match=r"refused: its SHA-256 is not 832fed2d.*"):
        catalog.open_dataset("hela", data_dir=tmp_path)
    downloads = (tmp_path / "downloads").rglob("*")
    assert not [file for file in downloads if file.is_file()]


def test_a_failed_download_says_where_to_get_and_to_put_it(internet, tmp_path):
    way_out = r"training-datasets/DIC-C2DH-HeLa\.zip .*manual_dir"
    with pytest.raises(InputError, match=f"Cannot download.*{way_out}"):
        catalog.open_dataset("hela", data_dir=tmp_path)


def test_a_download_with_the_right_sha256_is_used(
    internet, monkeypatch, tmp_path, made_up
):
    import hashlib

    from tensorflow_datasets.core.download import checksums

    from unet_zoo.datasets.hela import hela_dataset_builder as module

    archive = shutil.make_archive(str(tmp_path / "archive"), "zip", made_up)
    with open(archive, "rb") as file:
        content = file.read()
    monkeypatch.setattr(internet, "content", content)
    right = checksums.UrlInfo(
        size=len(content), checksum=hashlib.sha256(content).hexdigest(), filename=None
    )
    monkeypatch.setattr(module.Builder, "url_infos", {module._URL: right})
    dataset = catalog.open_dataset("hela", data_dir=tmp_path / "data")
    assert "official archive" in dataset.note
    assert len(dataset.examples("test")) == 5


def test_a_given_folder_without_the_files_is_not_replaced_by_a_download(tmp_path):
    with pytest.raises(InputError, match=r"no files for the dataset 'hela'.*Get http"):
        catalog.open_dataset("hela", manual_dir=tmp_path, data_dir=tmp_path)


def test_a_broken_archive_is_named(tmp_path):
    (tmp_path / "DIC-C2DH-HeLa.zip").write_text("no archive")
    with pytest.raises(InputError, match=r"HeLa\.zip is not a readable zip archive"):
        catalog.open_dataset("hela", manual_dir=tmp_path, data_dir=tmp_path)


def test_an_archive_without_annotations_is_named(tmp_path):
    with zipfile.ZipFile(tmp_path / "DIC-C2DH-HeLa.zip", "w") as archive:
        archive.writestr("DIC-C2DH-HeLa/01/t000.tif", b"")
    with pytest.raises(InputError, match=r"01_ST/SEG/? does not exist"):
        catalog.open_dataset("hela", manual_dir=tmp_path, data_dir=tmp_path / "data")


def test_a_data_dir_that_cannot_be_written_is_named(made_up, tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match="UNET_ZOO_DATA_DIR"):
        catalog.open_dataset(
            "hela", manual_dir=made_up, data_dir=tmp_path / "file" / "data"
        )


def test_the_environment_says_where_data_go(made_up, tmp_path, monkeypatch):
    monkeypatch.setenv("UNET_ZOO_DATA_DIR", str(tmp_path / "here"))
    shutil.copytree(made_up, tmp_path / "here" / "manual")
    assert catalog.open_dataset("hela").size_of["test"] == 5
    assert list((tmp_path / "here").glob("manual-*/hela/standard"))


def test_blobs_need_no_files_and_take_a_configuration_made_for_them(tmp_path):
    from unet_zoo.datasets.blobs.blobs_dataset_builder import BlobsConfig

    config = BlobsConfig(difficulty="easy", size=(64, 64), number=(8, 2))
    dataset = catalog.open_dataset("blobs", config=config, data_dir=tmp_path)
    assert dataset.size_of == {"train": 7, "validation": 1, "test": 2}
    assert (dataset.kind, dataset.config) == ("instances", config.name)
    example = dataset.examples("validation")[0]
    assert example.image.shape[:2] == example.labels.shape == (64, 64)
    assert example.labels.max() > 0
    assert example.reference is example.labels


def test_membrane_holds_back_the_last_slices(shared_data, tmp_path):
    dataset = catalog.open_dataset(
        "membrane", manual_dir=shared_data, data_dir=tmp_path
    )
    assert dataset.size_of == {"train": 21, "validation": 3, "test": 6}
    assert dataset.kind == "semantic"
    examples = dataset.examples("train") + dataset.examples("validation")
    examples += dataset.examples("test")
    assert [each.name for each in examples] == [f"slice{n:02d}" for n in range(30)]
    inside = np.mean([each.labels.mean() for each in examples])
    assert inside == pytest.approx(0.780, abs=0.001)
    assert all(each.reference is each.labels for each in examples)


def test_membrane_says_where_to_get_it(tmp_path):
    with pytest.raises(InputError, match=r"downloads\.imagej\.net.*manual_dir"):
        catalog.open_dataset("membrane", data_dir=tmp_path)


def test_unknown_names_are_refused_with_near_ones():
    with pytest.raises(InputError, match="Did you mean 'hela'"):
        catalog.open_dataset("hella")
    with pytest.raises(InputError, match="Did you mean 'hela'"):
        catalog.info("helas")
    with pytest.raises(InputError, match=r"configuration of hela.*'swapped'"):
        catalog.open_dataset("hela", config="swaped")
    with pytest.raises(InputError, match="no split 'tset'; it has 'train'"):
        catalog.Dataset("x", "1", None, "semantic", "", {}, {"train": list}).examples(
            "tset"
        )


@pytest.mark.parametrize("validation", [-0.1, 1.0])
def test_validation_is_a_part(validation, tmp_path):
    with pytest.raises(InputError, match="`validation` must be at least 0"):
        catalog.open_dataset(tmp_path, validation=validation)


def test_held_back_leaves_something_to_train_and_something_to_measure():
    for count in range(2, 60):
        for part in (0.01, 0.12, 0.5, 0.99):
            assert 1 <= held_back(count, part) < count
    assert held_back(1, 0.5) == held_back(50, 0) == 0
