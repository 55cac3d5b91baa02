"""Metrics against the challenge's own evaluation, by hand, and by plain loops."""

from __future__ import annotations

import io
import itertools
import math
import re
import zipfile
from pathlib import Path

import numpy as np
import pytest
import skimage.measure
import skimage.metrics
import skimage.segmentation
import tifffile
from scipy import ndimage, optimize

import unet_zoo
from unet_zoo import metrics, weights
from unet_zoo.errors import InputError

GOLD = {
    "01": (2, 5, 21, 31, 33, 34, 39, 54, 67),
    "02": (6, 7, 14, 27, 34, 38, 42, 61, 67),
}


def some_labels(seed, shape=(24, 30), count=8):
    """Return labels of touching objects between background, ids with gaps."""
    generator = np.random.default_rng(seed)
    seeds = np.zeros(shape, np.int32)
    ids = generator.choice(np.arange(1, 4 * count), count, replace=False)
    seeds.flat[generator.choice(seeds.size, count, replace=False)] = ids
    distance, (rows, columns) = ndimage.distance_transform_edt(
        seeds == 0, return_indices=True
    )
    return np.where(distance < 6, seeds[rows, columns], 0).astype(np.int32)


def some_pair(seed):
    """Return a reference with -1 in it, and a prediction that resembles it."""
    generator = np.random.default_rng(1000 + seed)
    reference = some_labels(seed)
    prediction = np.roll(reference, generator.integers(-2, 3, 2), (0, 1)).astype(int)
    ids = np.unique(prediction[prediction > 0])
    prediction[prediction == ids[0]] = 0
    prediction[prediction == ids[1]] = ids[2]
    rows = np.arange(len(prediction))[:, None]
    prediction[(prediction == ids[3]) & (rows % 4 < 2)] = 300
    prediction[generator.random(prediction.shape) < 0.02] = 301
    reference[12:18, 3:22] = -1
    return reference, prediction


def objects(reference, prediction):
    """Return the objects of both as sets of annotated pixels, and who is hidden."""
    known = {tuple(place) for place in np.argwhere(reference >= 0)}

    def pixels(labels):
        found = {}
        for y, x in np.argwhere(labels > 0):
            found.setdefault(int(labels[y, x]), set()).add((y, x))
        return found

    ours = pixels(prediction)
    hidden = {n for n, own in ours.items() if 2 * len(own & known) < len(own)}
    ours = {n: own & known for n, own in ours.items()}
    return pixels(reference), {n: own for n, own in ours.items() if own}, hidden


# Against the challenge's own evaluation


def read(archive, pattern, sequence, frames):
    """Return label images of the archive, int32."""
    labels = []
    for frame in frames:
        name = pattern.format(sequence=sequence, frame=frame)
        data = archive.read(f"DIC-C2DH-HeLa/{name}")
        labels.append(tifffile.imread(io.BytesIO(data)).astype(np.int32))
    return labels


@pytest.fixture(scope="module")
def hela(shared_data):
    """Return gold, silver and markers of the frames with gold, by sequence."""
    with zipfile.ZipFile(shared_data / "DIC-C2DH-HeLa.zip") as archive:
        return {
            sequence: {
                "image": read(archive, "{sequence}/t{frame:03}.tif", sequence, frames),
                "gold": read(
                    archive, "{sequence}_GT/SEG/man_seg{frame:03}.tif", sequence, frames
                ),
                "silver": read(
                    archive, "{sequence}_ST/SEG/man_seg{frame:03}.tif", sequence, frames
                ),
                "markers": read(
                    archive,
                    "{sequence}_GT/TRA/man_track{frame:03}.tif",
                    sequence,
                    frames,
                ),
            }
            for sequence, frames in GOLD.items()
        }


def components(labels):
    """Return the 4-connected components of the foreground: touching cells merged."""
    return skimage.measure.label(labels > 0, connectivity=1)


def merged(labels):
    """Return labels with the two first objects under one id."""
    ids = np.unique(labels[labels > 0])
    return np.where(labels == ids[1], ids[0], labels)


def split(labels):
    """Return labels with every object cut in two along its middle row."""
    result = labels.copy()
    for number, box in enumerate(ndimage.find_objects(labels), start=1):
        if box is not None:
            middle = (box[0].start + 2 * box[0].stop) // 3
            lower = result[middle:]
            lower[lower == number] = number + 1000
    return result


def lost(labels):
    """Return labels without every third object."""
    ids = np.unique(labels[labels > 0])
    return np.where(np.isin(labels, ids[::3]), 0, labels)


def extra(labels):
    """Return labels with squares on background that are no objects."""
    result = labels.copy()
    for number, (y, x) in enumerate(np.argwhere(labels == 0)[::20000], start=2000):
        square = result[y : y + 9, x : x + 9]
        square[square == 0] = number
    return result


DAMAGES = {
    "silver": lambda labels: labels,
    "merged": merged,
    "split": split,
    "shifted": lambda labels: np.roll(labels, (14, -19), (0, 1)),
    "lost": lost,
    "extra": extra,
    "eroded": lambda labels: labels * ndimage.binary_erosion(labels > 0, iterations=9),
}


def write_sequence(folder: Path, name: str, frames) -> list[str]:
    """Write label images, numbered as the challenge wants; return lines of tracks."""
    folder.mkdir(parents=True)
    lines = []
    for number, labels in enumerate(frames):
        # Ids of their own for every frame: tracks are not what is compared here.
        unique = np.where(labels > 0, labels + 4000 * number, 0)
        assert unique.max() < 65536
        tifffile.imwrite(folder / f"{name}{number:03}.tif", unique.astype(np.uint16))
        ids = np.unique(unique[unique > 0])
        lines += [f"{label} {number} {number} 0\n" for label in ids]
    return lines


def official(folder: Path, gold, markers, predictions) -> dict[str, float]:
    """Return SEG and DET as py-ctcmetrics computes them from files."""
    evaluate = pytest.importorskip("ctc_metrics.scripts.evaluate")
    write_sequence(folder / "01_GT" / "SEG", "man_seg", gold)
    tracks = write_sequence(folder / "01_GT" / "TRA", "man_track", markers)
    (folder / "01_GT" / "TRA" / "man_track.txt").write_text("".join(tracks))
    tracks = write_sequence(folder / "01_RES", "mask", predictions)
    (folder / "01_RES" / "res_track.txt").write_text("".join(tracks))
    return evaluate.evaluate_sequence(
        str(folder / "01_RES"), str(folder / "01_GT"), ["SEG", "DET"], threads=1
    )


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("sequence", GOLD)
def test_seg_and_det_equal_the_official_evaluation(hela, tmp_path, sequence, damage):
    chosen = slice(0, None, 3)
    frames = {kind: labels[chosen] for kind, labels in hela[sequence].items()}
    predictions = [DAMAGES[damage](labels) for labels in frames["silver"]]
    expected = official(tmp_path, frames["gold"], frames["markers"], predictions)
    seg = metrics.seg(frames["gold"], predictions)
    det = metrics.det(frames["markers"], predictions)
    assert 0.1 < expected["SEG"] < 1
    assert seg.value == pytest.approx(expected["SEG"], abs=1e-9)
    assert det.value == pytest.approx(expected["DET"], abs=1e-9)


@pytest.fixture(scope="module")
def predicted(hela):
    """Return what shipped weights find in three frames they never saw."""
    if "resunet-hela" not in weights.names():
        pytest.skip("resunet-hela is not published yet")
    model = unet_zoo.load("resunet-hela")
    return [model.segment(image).labels for image in hela["02"]["image"][::3]]


@pytest.mark.parametrize("damage", DAMAGES)
def test_official_evaluation_of_real_predictions(hela, predicted, tmp_path, damage):
    gold, markers = hela["02"]["gold"][::3], hela["02"]["markers"][::3]
    predictions = [DAMAGES[damage](labels) for labels in predicted]
    expected = official(tmp_path, gold, markers, predictions)
    seg, det = metrics.seg(gold, predictions), metrics.det(markers, predictions)
    assert 0.1 < expected["SEG"] < 1
    assert seg.value == pytest.approx(expected["SEG"], abs=1e-9)
    assert det.value == pytest.approx(expected["DET"], abs=1e-9)


@pytest.mark.parametrize(
    ("sequence", "cells", "silver", "merged_gold"),
    [("01", 98, 0.95371, 0.7245), ("02", 97, 0.95817, 0.4433)],
)
def test_seg_of_whole_sequences(hela, tmp_path, sequence, cells, silver, merged_gold):
    gold = hela[sequence]["gold"]
    score = metrics.seg(gold, hela[sequence]["silver"])
    assert (score.objects, score.frames) == (cells, 9)
    assert round(score.value, 5) == silver
    predictions = [components(labels) for labels in gold]
    score = metrics.seg(gold, predictions)
    assert round(score.value, 4) == merged_gold
    expected = official(tmp_path, gold, hela[sequence]["markers"], predictions)
    assert score.value == pytest.approx(expected["SEG"], abs=1e-9)


@pytest.mark.parametrize(
    ("sequence", "cells", "expected"), [("01", 1120, 0.94107), ("02", 1030, 0.88155)]
)
def test_det_of_whole_sequences(shared_data, sequence, cells, expected):
    with zipfile.ZipFile(shared_data / "DIC-C2DH-HeLa.zip") as archive:
        frames = range(84)
        markers = read(
            archive, "{sequence}_GT/TRA/man_track{frame:03}.tif", sequence, frames
        )
        silver = read(
            archive, "{sequence}_ST/SEG/man_seg{frame:03}.tif", sequence, frames
        )
    score = metrics.det(markers, silver)
    assert (score.objects, score.frames) == (cells, 84)
    assert round(score.value, 5) == expected


# By hand


def test_seg_needs_more_than_half():
    reference = np.array([[1, 1, 1, 1]])
    assert metrics.seg([reference], [np.array([[1, 1, 0, 0]])]).value == 0
    assert metrics.seg([reference], [np.array([[1, 1, 1, 0]])]).value == 0.75


def test_seg_pools_objects_not_frames():
    references = [np.array([[1, 0, 2, 0, 3]]), np.array([[1, 1, 1, 1, 1]])]
    predictions = [references[0], np.zeros((1, 5), int)]
    assert metrics.seg(references, predictions) == metrics.Score(0.75, 4, 2)


def test_seg_has_no_price_for_extra_objects_and_det_one():
    reference = np.array([[1, 1, 0, 0, 0, 0, 2, 2]])
    prediction = np.array([[1, 1, 0, 7, 0, 8, 2, 2]])
    assert metrics.seg([reference], [prediction]).value == 1
    assert metrics.det([reference], [prediction]).value == pytest.approx(1 - 2 / 20)


def test_det_counts_splits_misses_and_false_ones():
    markers = [np.array([[1, 0, 2, 0, 3, 0, 4, 0, 0]]), np.array([[9] + [0] * 8])]
    found = [np.array([[5, 5, 5, 5, 5, 0, 0, 0, 6]]), np.array([[9] + [0] * 8])]
    # One object found three markers (NS 2), one found none (FP 1), one is missed.
    score = metrics.det(markers, found)
    assert (score.objects, score.frames) == (5, 2)
    assert score.value == pytest.approx(1 - 21 / 50)


def test_det_is_never_below_zero():
    crowd = np.arange(100).reshape(10, 10)
    markers = np.zeros((10, 10), int)
    markers[0, 0] = 1
    assert metrics.det([markers], [crowd]).value == 0


def test_average_precision_counts_each_object_once():
    reference = np.array([[1, 1, 1, 1, 0, 2, 2, 0, 3]])
    prediction = np.array([[1, 1, 1, 0, 0, 2, 2, 4, 0]])
    scores = metrics.average_precision([reference] * 2, [prediction] * 2)
    assert tuple(scores) == metrics.THRESHOLDS
    assert scores[0.75] == metrics.Score(2 / 4, 6, 2)
    assert scores[0.8] == metrics.Score(1 / 5, 6, 2)


def test_average_precision_takes_the_largest_matching_where_two_are_possible():
    halves = np.array([[1, 2]])
    whole = np.array([[7, 7]])
    # Both halves have 0.5 with the whole: one pair, one object left over.
    for one, other in ((halves, whole), (whole, halves)):
        assert metrics.average_precision([one], [other], [0.5])[0.5].value == 0.5


def test_foreground_metrics_by_hand():
    references = [np.array([[1, 1, 1, 0, -1, -1]]), np.array([[0, 0, 0, 0, 4, 4]])]
    predictions = [np.array([[2, 2, 0, 5, 5, 0]]), np.array([[0, 0, 0, 0, 1, 1]])]
    assert metrics.dice(references, predictions).value == 8 / 10
    assert metrics.iou(references, predictions).value == 4 / 6
    assert metrics.pixel_accuracy(references, predictions) == metrics.Score(0.8, 2, 2)


def test_per_object_explains_seg():
    for seed in range(4):
        reference, prediction = some_pair(seed)
        rows = metrics.per_object(reference, prediction)
        score = metrics.seg([reference], [prediction])
        assert rows["id"].tolist() == np.unique(reference[reference > 0]).tolist()
        assert rows["jaccard"].mean() == pytest.approx(score.value, abs=1e-12)
        assert ((rows["matched"] > 0) == (rows["jaccard"] > 0)).all()
        for number, matched, jaccard in rows[rows["matched"] > 0]:
            one = (reference == number)[reference >= 0]
            other = (prediction == matched)[reference >= 0]
            assert jaccard == pytest.approx((one & other).sum() / (one | other).sum())


# By plain loops


@pytest.mark.parametrize("seed", range(10))
def test_object_metrics_equal_plain_loops(seed):
    pairs = [some_pair(seed), some_pair(seed + 100)]
    jaccards, splits, missed, false, count = [], 0, 0, 0, 0
    hits = dict.fromkeys((0.3, 0.5, 0.7), 0)
    wrong = dict.fromkeys(hits, 0)
    for reference, prediction in pairs:
        ours, theirs, hidden = objects(reference, prediction)
        found = dict.fromkeys(theirs, 0)
        count += len(ours)
        for own in ours.values():
            covering = [
                n for n, other in theirs.items() if 2 * len(own & other) > len(own)
            ]
            jaccards += [len(own & theirs[n]) / len(own | theirs[n]) for n in covering]
            missed += not covering
            for number in covering:
                found[number] += 1
        splits += sum(max(0, times - 1) for times in found.values())
        false += sum(not times and n not in hidden for n, times in found.items())
        table = np.array(
            [[len(a & b) / len(a | b) for b in theirs.values()] for a in ours.values()]
        )
        for threshold in hits:
            cost = -(table >= threshold).astype(float)
            rows, columns = optimize.linear_sum_assignment(cost)
            good = table[rows, columns] >= threshold
            used = {list(theirs)[column] for column in columns[good]}
            hits[threshold] += good.sum()
            wrong[threshold] += len(set(theirs) - used - hidden)
    references, predictions = zip(*pairs, strict=True)
    seg = metrics.seg(references, predictions)
    assert (seg.objects, seg.frames) == (count, 2)
    assert seg.value == pytest.approx(sum(jaccards) / count, abs=1e-12)
    det = metrics.det(references, predictions)
    repair = 5 * splits + 10 * missed + false
    assert splits + missed
    assert false
    assert det.value == pytest.approx(1 - min(repair / (10 * count), 1), abs=1e-12)
    scores = metrics.average_precision(references, predictions, hits)
    for threshold, score in scores.items():
        expected = hits[threshold] / (count + wrong[threshold])
        assert score.value == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("seed", range(6))
def test_ids_and_dtypes_do_not_matter(seed):
    reference, prediction = some_pair(seed)
    renamed = np.random.default_rng(seed).permutation(400)[prediction] + 1
    # Large ids take the other way of counting.
    renamed = np.where(prediction > 0, renamed * 5_000_000, 0).astype(np.uint64)
    for metric in (metrics.seg, metrics.det, metrics.dice, metrics.v_rand):
        one = metric([reference], [prediction])
        other = metric([reference], [renamed])
        assert one.value == pytest.approx(other.value, abs=1e-12)


@pytest.mark.parametrize("seed", range(6))
def test_v_rand_equals_adapted_rand_error(seed):
    reference, prediction = some_labels(seed), some_pair(seed)[1]
    error, _, _ = skimage.metrics.adapted_rand_error(reference, prediction)
    score = metrics.v_rand([reference], [prediction], thin=False)
    assert score.value == pytest.approx(1 - error, abs=1e-12)
    # Frames are pooled: as one image whose halves share no object.
    other, found = some_labels(seed + 50), some_pair(seed + 50)[1]
    error, _, _ = skimage.metrics.adapted_rand_error(
        np.hstack([reference, np.where(other > 0, other + 1000, 0)]),
        np.hstack([prediction, found + 1000]),
    )
    score = metrics.v_rand([reference, other], [prediction, found], thin=False)
    assert score.value == pytest.approx(1 - error, abs=1e-12)


@pytest.mark.parametrize("seed", range(6))
def test_v_info_equals_variation_of_information(seed):
    reference, prediction = some_labels(seed), some_pair(seed)[1]
    inside = reference > 0
    split, merge = skimage.metrics.variation_of_information(
        reference[inside], prediction[inside]
    )
    entropies = [
        skimage.measure.shannon_entropy(labels[inside])
        for labels in (reference, prediction)
    ]
    score = metrics.v_info([reference], [prediction], thin=False)
    assert score.value == pytest.approx(1 - (split + merge) / sum(entropies), abs=1e-9)


def test_thinning_forgives_wide_borders_but_not_merging():
    cells = np.repeat(np.repeat(np.arange(1, 10).reshape(3, 3), 20, 0), 20, 1)
    walls = skimage.segmentation.find_boundaries(cells)
    reference = np.where(walls, 0, cells)
    wide = np.where(ndimage.binary_dilation(walls, iterations=4), 0, cells)
    assert metrics.v_rand([reference], [wide]).value == 1
    assert metrics.v_info([reference], [wide]).value == pytest.approx(1, abs=1e-12)
    assert metrics.v_rand([reference], [wide], thin=False).value < 0.9
    joined = np.where(wide == 5, 4, wide)
    assert metrics.v_rand([reference], [joined]).value < 0.95
    everything = np.ones_like(cells)
    nothing = np.zeros_like(cells)
    for flat in (everything, nothing):
        # Recall 1, precision about 1/9: 2 / (1 + 9).
        assert metrics.v_rand([reference], [flat]).value == pytest.approx(0.2, abs=0.01)


# What is not annotated, what is missing, what is refused

MEASURES = (
    metrics.seg,
    metrics.det,
    metrics.dice,
    metrics.iou,
    metrics.pixel_accuracy,
    metrics.v_rand,
    metrics.v_info,
    lambda *frames: metrics.average_precision(*frames)[0.5],
)


@pytest.mark.parametrize("measure", MEASURES)
def test_objects_where_nobody_annotated_change_nothing(measure):
    reference = np.full((12, 12), -1)
    reference[:6, :6] = np.repeat(np.repeat([[1, 0], [0, 2]], 3, 0), 3, 1)
    prediction = np.where(reference > 0, reference, 0)
    crowd = prediction.copy()
    crowd[8:] = np.arange(1, 49).reshape(4, 12) + 10
    assert measure([reference], [prediction]).value == 1
    assert measure([reference], [crowd]) == measure([reference], [prediction])


def test_an_object_with_more_than_half_unknown_is_not_false():
    reference = np.array([[1, 0, 0, 0, -1, -1]])
    for prediction, false in (
        ([[1, 0, 0, 7, 7, 7]], 0),
        ([[1, 0, 7, 7, 7, 7]], 1),
        ([[1, 0, 7, 7, 0, 0]], 1),
    ):
        frames = [reference], [np.array(prediction)]
        assert metrics.det(*frames).value == pytest.approx(1 - false / 10)
        scores = metrics.average_precision(*frames)
        assert scores[0.5].value == pytest.approx(1 / (1 + false))


@pytest.mark.parametrize("measure", MEASURES)
def test_no_object_means_no_value(measure):
    empty, found = np.zeros((4, 5), int), np.ones((4, 5), int)
    score = measure([empty, empty], [empty, found])
    assert (score.objects, score.frames) == (0, 2)
    if measure is metrics.pixel_accuracy:
        assert score.value == 0.5
    else:
        assert math.isnan(score.value)
    unknown = measure([empty - 1], [found])
    assert math.isnan(unknown.value)


@pytest.mark.parametrize("measure", MEASURES)
def test_a_perfect_prediction_scores_one_and_none_scores_less(measure):
    reference = some_labels(1)
    assert measure([reference], [reference]).value == pytest.approx(1, abs=1e-12)
    assert measure([reference], [np.zeros_like(reference)]).value < 0.7


@pytest.mark.parametrize("measure", MEASURES)
def test_what_cannot_be_compared_is_refused(measure):
    one = np.ones((3, 4), int)
    with pytest.raises(InputError, match="2 references, 1 predictions"):
        measure([one, one], [one])
    with pytest.raises(InputError, match="no frame"):
        measure([], [])
    shapes = re.escape("Frame 1: the reference has shape (3, 4), the prediction (4, 3)")
    with pytest.raises(InputError, match=shapes):
        measure([one, one], [one, one.T])
    with pytest.raises(InputError, match=r"Prediction 0 .* dtype float64"):
        measure([one], [one * 0.5])
    with pytest.raises(InputError, match=r"Reference 0 .* dtype bool"):
        measure([one > 0], [one])
    with pytest.raises(InputError, match=r"Reference 0 .* shape \(4,\)"):
        measure(one, one)
    with pytest.raises(InputError, match="Prediction 0 holds -1"):
        measure([one], [-one])
    with pytest.raises(InputError, match="Reference 0 holds the id 4294967296"):
        measure([one * 2**32], [one])


@pytest.mark.parametrize("threshold", [0, -0.5, 1.5, float("nan")])
def test_impossible_thresholds_are_refused(threshold):
    one = np.ones((3, 4), int)
    with pytest.raises(InputError, match=f"Received: {threshold}"):
        metrics.average_precision([one], [one], [0.5, threshold])


def test_arguments_are_left_as_they_were():
    reference, prediction = some_pair(2)
    before = reference.copy(), prediction.copy()
    for measure in MEASURES:
        measure([reference], [prediction])
    for array, copy in zip((reference, prediction), before, strict=True):
        np.testing.assert_array_equal(array, copy)


def test_every_metric_is_between_zero_and_one():
    for seed, measure in itertools.product(range(5), MEASURES):
        reference, prediction = some_pair(seed)
        assert 0 <= measure([reference], [prediction]).value <= 1
