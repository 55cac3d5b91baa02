"""The page of results in a real browser: what people see, click and get."""

from __future__ import annotations

import io
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas
import PIL.Image
import pytest
import tifffile
from chromium import Chromium, find
from test_viewing import blobs, write

from unet_zoo import images, outputs, records, viewing

CHROMIUM = find()
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine")

CTRL, SHIFT = 2, 8
MUTED = (110, 115, 120)


@pytest.fixture(scope="module")
def started() -> Iterator[Chromium]:
    browser = Chromium(str(CHROMIUM))
    yield browser
    browser.close()


@pytest.fixture
def browser(started: Chromium) -> Iterator[Chromium]:
    """Return the browser; a test fails when its page complains or asks the network."""
    started.requested.clear()
    started.errors.clear()
    started.resize(1280, 800)
    yield started
    started.ask("1")  # so that every event has arrived
    assert started.errors == []
    outside = [
        url
        for url in started.requested
        if not url.startswith(("data:", "file:", "about:", "blob:"))
    ]
    assert outside == []
    assert len([url for url in started.requested if url.startswith("file:")]) >= 1


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a page of two images and a stack of three frames."""
    folder = tmp_path_factory.mktemp("made")
    write(folder, "a1", *blobs(1))
    write(folder, "a2", *blobs(2))
    pairs = [blobs(number) for number in (3, 4, 5)]
    image, labels = (np.stack(each) for each in zip(*pairs, strict=True))
    return viewing.view(write(folder, "movie", image, labels))


class Seen:
    """A screenshot of the stage, and where on it the pixels of the image lie."""

    def __init__(self, browser: Chromium) -> None:
        box = "document.querySelector('#stage').getBoundingClientRect()"
        clip = browser.ask(f"(b => [b.x, b.y, b.width, b.height])({box})")
        picture = PIL.Image.open(io.BytesIO(browser.screenshot(clip)))
        self.pixels = np.asarray(picture.convert("RGB")).astype(int)
        place = browser.ask("({...document.querySelector('#stage').dataset})")
        self.scale, self.left, self.top = (
            float(place[name]) for name in ("scale", "left", "top")
        )
        self.corner = clip[:2]

    def at(self, y: np.ndarray, x: np.ndarray) -> np.ndarray:
        """Return the colours where points of the image, in pixels, are shown."""
        rows = np.floor(self.top + self.scale * np.asarray(y)).astype(int)
        columns = np.floor(self.left + self.scale * np.asarray(x)).astype(int)
        return self.pixels[rows, columns]

    def window(self, y: float, x: float) -> tuple[float, float]:
        """Return where in the window a point of the image is."""
        return (
            self.corner[0] + self.left + self.scale * x,
            self.corner[1] + self.top + self.scale * y,
        )

    def under(self, x: float, y: float) -> tuple[float, float]:
        """Return the point (y, x) of the image that is at a place of the window."""
        return (
            (y - self.corner[1] - self.top) / self.scale,
            (x - self.corner[0] - self.left) / self.scale,
        )


def inside(labels: np.ndarray, label: int) -> tuple[float, float]:
    """Return a point (y, x) well inside an object."""
    from scipy import ndimage

    depth = ndimage.distance_transform_edt(np.pad(labels == label, 1))
    y, x = np.unravel_index(depth.argmax(), depth.shape)
    return y - 0.5, x - 0.5


def rows(browser: Chromium, column: str) -> list[str]:
    """Return the texts of a column, of the rows that are there."""
    return browser.ask(
        "(n => [...document.querySelectorAll('tbody tr[data-row]')]"
        ".map(r => r.children[n].textContent))"
        "([...document.querySelectorAll('thead th')]"
        f".findIndex(h => h.dataset.column === {column!r}))"
    )


def chosen(browser: Chromium) -> list[str]:
    """Return the objects of the rows that are marked and in sight."""
    return browser.ask(
        "[...document.querySelectorAll('tbody tr[aria-selected=true]')].filter(r => {"
        "const a = r.getBoundingClientRect();"
        "const b = document.querySelector('.scroller').getBoundingClientRect();"
        "return a.top >= b.top && a.bottom <= b.bottom + 1}).map(r => r.dataset.object)"
    )


def coloured(pixels: np.ndarray) -> np.ndarray:
    return pixels.max(axis=-1) - pixels.min(axis=-1) > 40


# === What is seen ===


def test_fill_lies_on_the_very_pixels(browser, made):
    _, labels = blobs(2)
    browser.open(made, "#image=2&fill=100&outline=0&brightness=20")
    seen = Seen(browser)
    assert seen.scale > 8
    y, x = np.indices(labels.shape)
    colours = seen.at(y + 0.5, x + 0.5)
    assert np.array_equal(coloured(colours), labels > 0)
    palette = {tuple(each) for each in outputs.COLOURS.tolist()}
    for label in np.unique(labels[labels > 0]):
        (colour,) = {tuple(each) for each in colours[labels == label].tolist()}
        assert colour in palette
    for a, b in ((labels[1:], labels[:-1]), (labels[:, 1:], labels[:, :-1])):
        touching = (a != b) & (a > 0) & (b > 0)
        first, second = (
            (colours[1:], colours[:-1])
            if a.shape[1] == labels.shape[1]
            else (colours[:, 1:], colours[:, :-1])
        )
        assert (first[touching] != second[touching]).any(axis=-1).all()


def test_outlines_lie_within_the_edge_of_their_objects(browser, made):
    _, labels = blobs(1)
    browser.open(made, "#image=1&brightness=20")
    seen = Seen(browser)
    inner = 1.0 / seen.scale  # one pixel of the screen
    y, x = np.indices(labels.shape)
    padded = np.pad(labels, 1)
    edges = 0
    for dy, dx in ((-1, 0), (1, 0), (0, -1), (0, 1)):
        beyond = padded[1 + dy : 49 + dy, 1 + dx : 49 + dx]
        edge = (labels > 0) & (beyond != labels)
        edges += np.count_nonzero(edge)
        places = (y + 0.5 + dy * (0.5 - inner), x + 0.5 + dx * (0.5 - inner))
        assert coloured(seen.at(places[0][edge], places[1][edge])).all()
    assert edges > 100
    # What is at least a pixel away from any edge shows the picture.
    from scipy import ndimage

    deep = ndimage.minimum_filter(labels, 3) == ndimage.maximum_filter(labels, 3)
    assert not coloured(seen.at(y[deep] + 0.5, x[deep] + 0.5)).any()
    browser.key("o")
    assert not coloured(Seen(browser).at(y + 0.5, x + 0.5)).any()


def test_light_and_dark(browser, made):
    def ground() -> list[int]:
        shot = PIL.Image.open(io.BytesIO(browser.screenshot())).convert("RGB")
        return [shot.getpixel((1270, 5))[0], shot.getpixel((1270, 790))[0]]

    browser.open(made)
    assert min(ground()) > 200
    browser.resize(1280, 800, dark=True)
    assert max(ground()) < 80


def test_a_narrow_window_shows_everything_one_below_the_other(browser, made):
    browser.resize(420, 800)
    browser.open(made)
    tops = browser.ask(
        "['images', 'viewer', 'objects'].map(i => "
        "document.getElementById(i).getBoundingClientRect().top)"
    )
    assert tops == sorted(tops)
    assert browser.ask("document.documentElement.scrollWidth") <= 420


# === Zoom and pan ===


def test_the_wheel_zooms_at_the_cursor_and_drags_move(browser, made):
    browser.open(made)
    before = Seen(browser)
    x, y = map(round, before.window(20, 30))
    under = before.under(x, y)
    browser.mouse("mouseWheel", x, y, deltaX=0, deltaY=-400)
    after = Seen(browser)
    assert after.scale > 1.5 * before.scale
    assert after.under(x, y) == pytest.approx(under, abs=0.01)
    browser.mouse("mousePressed", x, y, button="left", clickCount=1)
    browser.mouse("mouseMoved", x - 50, y + 20, button="left", buttons=1)
    browser.mouse("mouseReleased", x - 50, y + 20, button="left", clickCount=1)
    moved = Seen(browser)
    assert moved.under(x - 50, y + 20) == pytest.approx(under, abs=0.01)
    assert chosen(browser) == []  # a drag is no click
    browser.click(x, y, count=2)
    whole = Seen(browser)
    assert (whole.scale, whole.left) == (before.scale, before.left)
    browser.key("+")
    assert Seen(browser).scale == pytest.approx(1.4 * before.scale)
    browser.key("0")
    assert Seen(browser).scale == before.scale


# === From object to row and back ===


def test_a_click_on_an_object_marks_its_row(browser, made):
    _, labels = blobs(1)
    first, *_, last = np.unique(labels[labels > 0]).tolist()
    browser.open(made)
    seen = Seen(browser)
    for label in (last, first):
        browser.click(*seen.window(*inside(labels, label)))
        assert chosen(browser) == [str(label)]
        assert f"object={label}" in browser.ask("location.hash")
        assert browser.ask("document.querySelector('#hint').textContent").startswith(
            f"{label} "
        )
    browser.click(*seen.window(*inside(labels, last)), modifiers=CTRL)
    assert chosen(browser) == [str(first), str(last)]
    # The edge of what is chosen is white.
    y, x = np.argwhere(labels == last)[0]
    assert Seen(browser).at(y + 0.02, x + 0.5).min() > 200
    browser.click(*seen.window(*inside(labels, 0)))
    assert chosen(browser) == []


def test_a_click_on_a_row_goes_to_its_object(browser, tmp_path):
    image, labels = blobs(1, side=200)
    first, second, *_ = np.unique(labels[labels > 0]).tolist()
    browser.open(viewing.view(write(tmp_path, "a", image, labels)))
    before = Seen(browser)

    def go(label: int) -> Seen:
        browser.click_on(f"tr[data-object='{label}'] td")
        seen = Seen(browser)
        y, x = np.nonzero(labels == label)
        place = seen.window((y.min() + y.max() + 1) / 2, (x.min() + x.max() + 1) / 2)
        height, width = seen.pixels.shape[:2]
        wanted = (seen.corner[0] + width / 2, seen.corner[1] + height / 2)
        assert place == pytest.approx(wanted, abs=1)
        assert chosen(browser) == [str(label)]
        return seen

    seen = go(first)
    assert seen.scale > 1.5 * before.scale
    assert go(second).scale == seen.scale  # from object to object, nothing jumps
    browser.key("Escape")
    assert chosen(browser) == []


def test_the_keyboard_goes_from_row_to_row(browser, made):
    browser.open(made)
    browser.ask("document.querySelector('.scroller').focus()")
    ids = rows(browser, "label")
    for key, expected in (("ArrowDown", 0), ("ArrowDown", 1), ("End", -1), ("Home", 0)):
        browser.key(key)
        assert chosen(browser) == [ids[expected]]
    browser.key("]")
    browser.wait("document.body.dataset.ready === '2/1'")
    assert browser.ask("document.querySelector('#lead').textContent").startswith("a2")


def test_many_rows_are_found_where_they_are(browser, tmp_path):
    labels = np.zeros((200, 200), np.uint16)
    labels[::4, ::4] = np.arange(1, 2501).reshape(50, 50)
    labels[1::4, ::4] = labels[::4, ::4]
    page = viewing.view(write(tmp_path, "grid", labels + 5, labels))
    browser.open(page, "#object=1777")
    assert chosen(browser) == ["1777"]
    there = browser.ask("document.querySelectorAll('tbody tr').length")
    assert there < 120  # of 2,500
    browser.click_on("th[data-column=label] button")
    browser.click_on("th[data-column=label] button")
    assert rows(browser, "label")[0] != "2500"  # it stays where the chosen row is
    assert chosen(browser) == ["1777"]


# === The table ===


def test_any_column_sorts_as_numbers_do_and_back(browser, made):
    table = pandas.read_csv(made.parent / "a1_objects.csv")
    browser.open(made)
    for column in ("area", "centroid_x", "touches_edge"):
        browser.click_on(f"th[data-column={column}] button")
        order = table.sort_values(column, kind="stable")["label"].astype(str).tolist()
        assert rows(browser, "label") == order
        head = f"document.querySelector('th[data-column={column}]')"
        assert browser.ask(f"{head}.getAttribute('aria-sort')") == "ascending"
        browser.click_on(f"th[data-column={column}] button")
        values = table.sort_values(column, kind="stable", ascending=False)[column]
        shown = [
            float({"true": 1, "false": 0}.get(v, v)) for v in rows(browser, column)
        ]
        assert shown == pytest.approx(values.astype(float).tolist(), rel=0.01)
        assert browser.ask(f"{head}.getAttribute('aria-sort')") == "descending"


def test_what_was_not_measured_is_last_either_way(browser, tmp_path):
    folder = write(tmp_path, "a", *blobs(1))
    table = pandas.read_csv(folder / "a_objects.csv")
    table["extra"] = [None, 10.0, 9.0, -1.5, None, 100.0][: len(table)]
    table.to_csv(folder / "a_objects.csv", index=False)
    page = viewing.view(folder)
    present = sorted(table["extra"].dropna())
    for sort, expected in (("extra", present), ("-extra", present[::-1])):
        browser.open(page, f"#sort={sort}")
        shown = rows(browser, "extra")
        assert [float(value) for value in shown if value] == expected
        assert shown[len(expected) :] == [""] * (len(table) - len(expected))


def test_a_filter_greys_out_objects_and_the_csv_holds_the_rest(browser, made, tmp_path):
    _, labels = blobs(1)
    table = pandas.read_csv(made.parent / "a1_objects.csv")
    limit = int(table["area"].median()) + 1
    kept = table[table["area"] >= limit]
    assert 0 < len(kept) < len(table)
    browser.open(made, "#fill=100&outline=0&brightness=20")
    browser.click_on("#least")
    for digit in str(limit):
        browser.key(digit)
    assert rows(browser, "label") == kept["label"].astype(str).tolist()
    count = browser.ask("document.querySelector('#count').textContent")
    assert count == f"{len(kept)} of {len(table)} objects"
    seen = Seen(browser)
    for label in table["label"]:
        colour = tuple(seen.at(*inside(labels, label)).tolist())
        assert (colour == MUTED) == (label not in set(kept["label"]))
    browser.click_on("th[data-column=area] button")
    browser.call(
        "Browser.setDownloadBehavior", behavior="allow", downloadPath=str(tmp_path)
    )
    browser.click_on("#download")
    file, end = tmp_path / "a1_objects_shown.csv", time.monotonic() + 20
    while not file.exists() and time.monotonic() < end:
        time.sleep(0.02)
    expected = kept.sort_values("area", kind="stable").reset_index(drop=True)
    found = pandas.read_csv(file)
    pandas.testing.assert_frame_equal(found, expected, rtol=1e-6, check_dtype=False)
    browser.click_on("#clear")
    assert len(rows(browser, "label")) == len(table)


def test_ids_are_copied(browser, made):
    browser.call("Browser.grantPermissions", permissions=["clipboardReadWrite"])
    browser.open(made)
    first, second, third, *_ = rows(browser, "label")
    browser.click_on(f"tr[data-object='{first}'] td")
    browser.click_on(f"tr[data-object='{third}'] td", modifiers=SHIFT)
    browser.click_on("#copy")
    browser.wait("document.querySelector('#picked').textContent === '3 copied'")
    copied = browser.ask("navigator.clipboard.readText()")
    assert copied.split() == [first, second, third]


# === Stacks and lists ===


def test_a_stack_frame_by_frame(browser, made):
    browser.open(made, "#image=3&frame=2&fill=100&outline=0&brightness=20")
    y, x = np.indices((48, 48))
    colours = Seen(browser).at(y + 0.5, x + 0.5)
    assert np.array_equal(coloured(colours), blobs(4)[1] > 0)
    browser.key(".")
    browser.wait("document.body.dataset.ready === '3/3'")
    colours = Seen(browser).at(y + 0.5, x + 0.5)
    assert np.array_equal(coloured(colours), blobs(5)[1] > 0)
    assert set(rows(browser, "frame")) == {"0", "1", "2"}
    browser.click_on("#only")
    assert set(rows(browser, "frame")) == {"2"}
    browser.click_on("#only")
    browser.click_on("tbody tr[data-row='0'] td")  # of the first frame
    browser.wait("document.body.dataset.ready === '3/1'")
    assert len(chosen(browser)) == 1


def test_images_are_found_and_opened(browser, tmp_path):
    for number in range(12):
        image, labels = blobs(number, side=24, count=1)
        folder = write(tmp_path, f"field{number}", image, labels)
    browser.open(viewing.view(folder))
    names = "[...document.querySelectorAll('#images b')].map(b => b.textContent)"
    assert browser.ask(names) == [f"field{number}" for number in range(12)]
    browser.click_on("#search")
    for sign in "d11":
        browser.key(sign)
    assert browser.ask(names) == ["field11"]
    browser.click_on("#images li button")
    browser.wait("document.body.dataset.ready === '12/1'")
    (current,) = browser.ask(
        "[...document.querySelectorAll('[aria-current] b')].map(b => b.textContent)"
    )
    assert current == "field11"


def test_a_gone_image_is_said(browser, tmp_path):
    folder = write(tmp_path, "a", *blobs(1))
    (tmp_path / "in" / "a.tif").unlink()
    browser.open(viewing.view(folder))
    said = browser.ask("document.querySelector('#remark').innerText")
    assert "any more" in said


# === Names that would be code ===


def test_no_name_breaks_out(browser, tmp_path):
    evil = "</script><img src=x onerror=document.title='broken'>"
    name = "<img src=x onerror=document.title='broken'><!--<script>"
    image, labels = blobs(1)
    folder = tmp_path / "<b onclick=1>&amp;"
    folder.mkdir()
    source = tmp_path / "a.tif"
    tifffile.imwrite(source, image)
    weights = tmp_path / "w.h5"
    weights.write_bytes(b"weights")
    run = records.about(evil, weights, {evil: evil})
    with records.kept(folder, [records.Image(name, source)], run) as finish:
        images.write_labels(folder / f"{name}_masks.tif", labels)
        finish(name)
    table = outputs.table(labels, image)
    table[evil] = evil
    table["javascript:alert(1)"] = "=1+1"
    outputs.write_table(folder / f"{name}_objects.csv", table)
    page = viewing.view(folder)
    browser.open(page, "#object=1&sort=" + evil)
    assert browser.ask("document.querySelector('h1').textContent") == folder.name
    assert browser.ask("document.querySelector('#images b').textContent") == name
    assert set(rows(browser, "javascript:alert(1)")) == {"=1+1"}
    assert chosen(browser) == ["1"]
    facts = browser.ask("document.querySelector('#facts').textContent")
    assert evil in facts
    assert browser.ask("document.title").startswith(name)
    assert browser.ask("document.querySelectorAll('img').length") == 1
    assert browser.ask("document.querySelectorAll('b[onclick], [onerror]').length") == 0
    # Nothing else may run, were it to get in.
    browser.ask(
        "document.body.insertAdjacentHTML('beforeend', '<p id=p></p>');"
        "document.getElementById('p').innerHTML = "
        "\"<img src='data:,' onerror='document.title=1'>\""
    )
    browser.settle()
    assert browser.ask("document.title").startswith(name)
    refused = [error for error in browser.errors if "Content Security" in error]
    assert len(refused) == 1
    browser.errors.clear()
