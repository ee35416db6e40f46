"""How far a reference model can be believed, learnt from the set under review itself.

A model that is no better than the labels must not correct them where it is weak. So each claim is measured against how
the model does on the other labels: how sure it usually is of a class (the class thresholds of confident learning:
Northcutt, Jiang, Chuang, "Confident learning", 2021), how often its word for a class is what people wrote, how well its
boxes fit, and how many real vehicles of a size it does not see.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from flows.dataset.review.matching import Comparison, Labels
from flows.dataset.review.objects import LOW_CONF, Bools, Floats, Ints
from flows.dataset.review.record import Sight

SAME_PLACE_IOU = 0.5
"""From here on a detection may say what class a label has."""
WELL_LOCATED_IOU = 0.7
SIZE_EDGES_PX = (0.0, 12.0, 16.0, 24.0, 32.0, 48.0, 64.0, 96.0)
HIDDEN_SHARE = 0.3
"""A label of which others cover more is not expected to be found."""
_SURE, _HARDLY = 4 * LOW_CONF, 2 * LOW_CONF
_Z95 = 1.96
_CHANCE = 0.005


@dataclass(frozen=True)
class Trust:
    """What the reference is worth on these labels.

    Attributes:
        seen: Labels at which it clearly sees something, (L,).
        thresholds: By class, its mean confidence in the class over the labels of the class, (num_classes,).
        word: By class, the share of its clear calls of the class that are labelled so, (num_classes,).
        fit: By label, the share of seen labels of that class and size that its boxes fit well, (L,).
    """

    seen: Bools
    thresholds: Floats
    word: Floats
    fit: Floats


def learn_trust(labels: Labels, num_classes: int, min_conf: float) -> Trust:
    """Learn from all labels how far the reference can be believed; unlikely shares are pulled towards one half."""
    best, called = labels.class_scores.max(axis=1, initial=0.0), labels.class_scores.argmax(axis=1)
    placed = labels.iou >= SAME_PLACE_IOU
    seen = placed & (best >= min_conf)
    thresholds, word = np.zeros(num_classes), np.zeros(num_classes)
    for index in range(num_classes):
        own = labels.class_scores[placed & (labels.class_ids == index), index]
        thresholds[index] = own.mean() if len(own) else 0.0
        calls = labels.class_ids[seen & (called == index)]
        word[index] = _share(int((calls == index).sum()), len(calls))
    return Trust(seen, thresholds, word, _fit(labels, best >= min_conf))


def size_bins(side_px: Floats) -> Ints:  # (L,) -> (L,)
    """Index of the size that each label has, of SIZE_EDGES_PX."""
    return np.digitize(side_px, SIZE_EDGES_PX[1:]).astype(np.int64)


def measure_sight(
    compared: Comparison, classes: tuple[str, ...], judged_ids: frozenset[int], min_labels: int, min_sure_share: float
) -> tuple[list[Sight], Floats]:
    """How many labels of each class, slice and size the reference misses, and how many of these are nothing.

    Real vehicles that are just not found fade out: about as many are missed as are hardly found, with a confidence
    from the least one kept to twice that. What is missed beyond that number is no fading out, and the share of it
    among all missed is the probability that a missed label is one of nothing: a local false discovery rate (Efron,
    "Large-scale inference", 2010), with the fading tail as the null. A vehicle that is missed all through a clip counts
    once, and the excess must be more than chance (an exact test of two counts). Where the reference is rarely sure
    there is no tail to go by, and nothing is claimed.

    Returns:
        The sights, and for each label the probability that it is one of nothing, (L,): 0 for those found, hidden, or
        of a kind that is not judged.
    """
    labels = compared.labels
    bins, groups = size_bins(labels.side_px), _groups(compared)
    slices = compared.images["slice"].to_numpy(dtype=str)[labels.image_index]
    open_to_view = labels.hidden <= HIDDEN_SHARE
    sights, nothing = [], np.zeros(len(bins))
    for class_id in sorted(judged_ids):
        for name in sorted(set(slices)):
            for size in range(len(SIZE_EDGES_PX)):
                rows = open_to_view & (labels.class_ids == class_id) & (slices == name) & (bins == size)
                if rows.any():
                    kind = (classes[class_id], name, SIZE_EDGES_PX[size])
                    sight = _sight(labels.support[rows], groups[rows], kind, min_labels, min_sure_share)
                    sights.append(sight)
                    nothing[rows & (labels.support == 0)] = sight.share_of_nothing
    return sights, nothing


def _groups(compared: Comparison) -> Ints:  # (L,)
    """What each label has in common with others: the clip of its camera, or the image where no clip is known."""
    images = compared.images
    names = [
        (camera, clip) if clip else (image, "")
        for image, camera, clip in zip(images["image"], images["camera"], images["clip"], strict=True)
    ]
    numbers = {name: number for number, name in enumerate(dict.fromkeys(names))}
    return np.array([numbers[name] for name in names], dtype=np.int64)[compared.labels.image_index]


def wilson_interval(num_hits: int, num_all: int) -> tuple[float, float]:
    """95 % interval of a share (Wilson 1927). Raises ValueError for no trials."""
    if num_all < 1:
        raise ValueError(f"an interval needs at least one trial, not {num_all}")
    share, square = num_hits / num_all, _Z95**2
    centre = (share + square / (2 * num_all)) / (1 + square / num_all)
    reach = _Z95 / (1 + square / num_all) * math.sqrt(share * (1 - share) / num_all + square / (4 * num_all**2))
    return max(centre - reach, 0.0), min(centre + reach, 1.0)


def _sight(
    support: Floats, groups: Ints, kind: tuple[str, str, float], min_labels: int, min_sure_share: float
) -> Sight:
    class_name, slice_name, min_side_px = kind
    found = support > 0
    num_found, num_unsure = int(found.sum()), int((found & (support < _SURE)).sum())
    # those hardly found span as much confidence as lies below LOW_CONF, the unsure ones three times as much
    hardly, unsure, missed = (
        len(set(groups[rows].tolist())) for rows in (found & (support < _HARDLY), found & (support < _SURE), ~found)
    )
    expected = max(hardly, unsure / 3)
    judged = len(support) >= min_labels and num_found > 0 and 1 - num_unsure / num_found >= min_sure_share
    exceeds = judged and _chance_of_excess(missed, math.ceil(expected)) < _CHANCE
    return Sight(
        class_name=class_name,
        slice=slice_name,
        min_side_px=min_side_px,
        num_labels=len(support),
        num_not_found=len(support) - num_found,
        num_unsure=num_unsure,
        num_clips_not_found=missed,
        expected_clips_not_found=expected,
        judged=judged,
        share_of_nothing=max(1 - (expected + 1) / missed, 0.0) if exceeds else 0.0,
    )


def _chance_of_excess(number: int, other: int) -> float:
    """Probability that of two counts with the same mean the first is that much larger, given their sum."""
    total = number + other
    return float(sum(math.comb(total, each) for each in range(number, total + 1)) / 2**total)


def _fit(labels: Labels, clear: Bools) -> Floats:
    bins = size_bins(labels.side_px)
    fit = np.zeros(len(bins))
    kinds = np.unique(np.column_stack([labels.class_ids, bins]), axis=0)
    for class_id, size in kinds:
        rows = (labels.class_ids == class_id) & (bins == size)
        matched = labels.iou[rows & clear & (labels.iou > 0)]
        fit[rows] = _share(int((matched >= WELL_LOCATED_IOU).sum()), len(matched))
    return fit


def _share(hits: int, number: int) -> float:
    """A share of few, pulled towards one half (Laplace)."""
    return (hits + 1) / (number + 2)
