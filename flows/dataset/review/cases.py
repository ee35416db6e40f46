"""Finds the labels, vehicles and frames that are probably wrong, each with its score.

The kinds are those of label errors in detection: overlooked, swapped and badly located (Tkachenko, Thyagarajan,
Mueller, "ObjectLab", 2023), here with the reference's reliability learnt from the set, and labels of nothing.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from flows.dataset.layout import Dataset
from flows.dataset.review.matching import MATCH_IOU, Comparison
from flows.dataset.review.objects import Bools, Floats
from flows.dataset.review.record import Case, Corners, Kind
from flows.dataset.review.trust import Trust

LOOSE_IOU = 0.6
"""Below this overlap with its detection a label may lie badly."""


@dataclass(frozen=True)
class Finder:
    """Finds the cases of a comparison; `judged` are the classes that the reference knows."""

    dataset: Dataset
    compared: Comparison
    trust: Trust
    judged: frozenset[int]
    min_conf: float

    def all_cases(self, nothing: Floats) -> list[Case]:
        """The cases of every kind; see `spurious` for `nothing`."""
        labels = [*self.wrong_classes(), *self.badly_located(), *self.spurious(nothing)]
        return [*self.empty_frames(), *self.missing(), *labels]

    def empty_frames(self) -> list[Case]:
        """Frames without a label on which the reference is sure of vehicles; one case a frame."""
        unlabelled, images = self.compared.unlabelled, self.compared.images
        scores = unlabelled.class_scores.max(axis=1, initial=0.0)
        cases = []
        for index in np.flatnonzero(images["num_boxes"].to_numpy() == 0):
            rows = np.flatnonzero((unlabelled.image_index == index) & (scores >= self.min_conf))
            if not len(rows):
                continue
            rows = rows[np.argsort(-scores[rows], kind="stable")]
            names = [self.dataset.classes[each] for each in unlabelled.class_scores[rows].argmax(axis=1)]
            counts = ", ".join(f"{names.count(name)} x {name}" for name in dict.fromkeys(names))
            cases.append(
                self._case(
                    "empty_frame",
                    int(index),
                    score=1 - float(np.prod(1 - scores[rows])),
                    found=unlabelled.boxes_xyxy[rows],
                    proposed=names[0],
                    sentence=f"no label, but the reference sees {counts}, the surest with {scores[rows[0]]:.2f}",
                )
            )
        return cases

    def missing(self) -> list[Case]:
        """Vehicles without a label on frames that have labels."""
        unlabelled = self.compared.unlabelled
        scores, called = unlabelled.class_scores.max(axis=1, initial=0.0), unlabelled.class_scores.argmax(axis=1)
        labelled = self.compared.images["num_boxes"].to_numpy()[unlabelled.image_index] > 0
        return [
            self._case(
                "missing",
                int(unlabelled.image_index[row]),
                score=float(scores[row] * (1 - unlabelled.covered[row])),
                found=unlabelled.boxes_xyxy[row : row + 1],
                proposed=self.dataset.classes[called[row]],
                sentence=f"the reference sees a {self.dataset.classes[called[row]]} ({scores[row]:.2f}): no label",
            )
            for row in np.flatnonzero(labelled & (scores >= self.min_conf))
        ]

    def wrong_classes(self) -> list[Case]:
        """Labels at whose place the reference sees another class; less than its usual confidence in it counts less."""
        labels, trust = self.compared.labels, self.trust
        scores, called = labels.class_scores.max(axis=1, initial=0.0), labels.class_scores.argmax(axis=1)
        differs = self._judged_labels() & trust.seen & (called != labels.class_ids)
        cases = []
        for row in np.flatnonzero(differs):
            usual = min(float(scores[row] / max(trust.thresholds[called[row]], self.min_conf)), 1.0)
            own = float(labels.class_scores[row, labels.class_ids[row]])
            lead = float(scores[row] - own) / float(labels.class_scores[row].sum())
            given, seen = self.dataset.classes[labels.class_ids[row]], self.dataset.classes[called[row]]
            doubt = f"{own:.2f}" if own else "nothing"
            cases.append(
                self._label_case(
                    "wrong_class",
                    int(row),
                    score=float(scores[row] * labels.iou[row] * trust.word[called[row]]) * lead * usual,
                    proposed=seen,
                    sentence=f"labelled {given}, looks like a {seen}: {scores[row]:.2f} against {doubt} for {given}",
                )
            )
        return cases

    def badly_located(self) -> list[Case]:
        """Labels that overlap little with what the reference found of their class, where its boxes mostly fit."""
        labels = self.compared.labels
        scores, called = labels.class_scores.max(axis=1, initial=0.0), labels.class_scores.argmax(axis=1)
        loose = (labels.iou >= MATCH_IOU) & (labels.iou < LOOSE_IOU) & (called == labels.class_ids)
        cases = []
        for row in np.flatnonzero(self._judged_labels() & loose & (scores >= self.min_conf)):
            name = self.dataset.classes[labels.class_ids[row]]
            looseness = (1 - labels.iou[row]) / (1 - MATCH_IOU)
            cases.append(
                self._label_case(
                    "badly_located",
                    int(row),
                    score=float(scores[row] * looseness * self.trust.fit[row]),
                    proposed=name,
                    sentence=f"the {name} that the reference sees ({scores[row]:.2f}) overlaps with the label by "
                    f"{labels.iou[row]:.0%} only",
                )
            )
        return cases

    def spurious(self, nothing: Floats) -> list[Case]:
        """Labels where the reference finds nothing though it finds others of the class and size.

        Args:
            nothing: Probability that each label is one of nothing, (L,).
        """
        labels = self.compared.labels
        return [
            self._label_case(
                "spurious",
                int(row),
                score=float(nothing[row]),
                proposed="",
                sentence=f"nothing is found where this {self.dataset.classes[labels.class_ids[row]]} of "
                f"{labels.side_px[row]:.0f} px should be, though others like it are",
            )
            for row in np.flatnonzero(nothing > 0)
        ]

    def _judged_labels(self) -> Bools:
        return np.isin(self.compared.labels.class_ids, sorted(self.judged))

    def _label_case(self, kind: Kind, row: int, *, score: float, proposed: str, sentence: str) -> Case:
        labels = self.compared.labels
        found = labels.partner_xyxy[row : row + 1] if labels.iou[row] > 0 else np.zeros((0, 4))
        return self._case(
            kind,
            int(labels.image_index[row]),
            score=score,
            found=found,
            proposed=proposed,
            sentence=sentence,
            line=int(labels.line[row]),
            label_class=self.dataset.classes[labels.class_ids[row]],
            label=_corners(labels.boxes_xyxy[row]),
        )

    def _case(
        self,
        kind: Kind,
        index: int,
        *,
        score: float,
        found: Floats,
        proposed: str,
        sentence: str,
        line: int = 0,
        label_class: str = "",
        label: Corners | None = None,
    ) -> Case:
        row = self.compared.images.iloc[index]
        return Case(
            kind=kind,
            score=min(max(score, 0.0), 1.0),
            file=str(row["file"]),
            line=line,
            image=str(row["image"]),
            split=str(row["split"]),
            camera=str(row["camera"]),
            label_class=label_class,
            proposed_class=proposed,
            label_xyxy=label,
            found_xyxy=tuple(_corners(each) for each in found),
            sentence=sentence,
        )


def _corners(box_xyxy: Floats) -> Corners:
    x1, y1, x2, y2 = (round(float(each), 1) for each in box_xyxy)
    return x1, y1, x2, y2
