"""What a review of the labels says: its cases, worst first, and how far labels and reference agree."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

Kind = Literal["empty_frame", "missing", "wrong_class", "badly_located", "spurious"]
Corners = tuple[float, float, float, float]

KINDS: dict[Kind, str] = {
    "empty_frame": "Frames without a label that show vehicles",
    "missing": "Vehicles without a label",
    "wrong_class": "Labels that look like another class",
    "badly_located": "Labels that lie badly",
    "spurious": "Labels of nothing",
}


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Case(_Frozen):
    """One label, vehicle or frame that is probably wrong."""

    kind: Kind = Field(description="what is probably wrong")
    score: float = Field(ge=0, le=1, description="how probable; comparable within a kind")
    file: str = Field(description="label file, relative to the folder that holds the dataset")
    line: int = Field(description="line of the label; 0: there is none")
    image: str = Field(description="image, relative to the dataset")
    split: str
    camera: str
    label_class: str = Field(description="class of the label; empty: there is none")
    proposed_class: str = Field(description="class that the reference sees; empty: nothing is there")
    label_xyxy: Corners | None = Field(description="corners of the label, px")
    found_xyxy: tuple[Corners, ...] = Field(description="corners of what the reference found, px, surest first")
    sentence: str = Field(description="the case in words")


class ClassAgreement(_Frozen):
    """What becomes of the labels of one class."""

    class_name: str
    num_labels: int = Field(description="labels of the class")
    num_seen: int = Field(description="of them, those at which the reference clearly sees something")
    num_doubted: int = Field(description="of those seen, the ones that look like another class")
    doubted_share: float | None = Field(description="of those seen; null: it saw none")
    lower: float | None = Field(description="lower end of its 95 % interval (Wilson)")
    upper: float | None = Field(description="upper end")
    looks_like: dict[str, int] = Field(description="labels seen, by the class that the reference sees")
    threshold: float = Field(description="mean confidence in this class over its own labels: weaker claims count less")
    num_missing: int = Field(description="vehicles of the class without a label, empty frames included")


class Sight(_Frozen):
    """How well the reference sees the labels of one class and size."""

    class_name: str
    slice: str
    min_side_px: float = Field(description="least square root of the area, px of the reference's input")
    num_labels: int = Field(description="labels that others hide but little")
    num_not_found: int = Field(description="those without anything at their place")
    num_unsure: int = Field(description="those with something weak only")
    num_clips_not_found: int = Field(description="clips (images, where no clip is known) with labels not found")
    expected_clips_not_found: float = Field(description="those to expect, going by clips with labels hardly found")
    judged: bool = Field(description="whether missing a label there says anything")
    share_of_nothing: float = Field(description="of the labels not found, probably labels of nothing")


class Review(_Frozen):
    """Verdict, cases and figures of one review."""

    sentence: str = Field(description="the result in one sentence")
    reference: str = Field(description="name of the reference model")
    reference_key: str = Field(description="sha256, hex, of the model and how it was asked")
    classes: dict[str, tuple[str, ...]] = Field(description="classes of the reference by class of the data")
    classes_left_out: tuple[str, ...] = Field(description="classes of the data that the reference does not know")
    num_images: int = Field(description="frames reviewed")
    num_images_left_out: int = Field(description="frames that do not decode or whose label file has faults")
    num_empty: int = Field(description="reviewed frames without a label")
    num_labels: int = Field(description="labels on reviewed frames")
    num_labels_judged: int = Field(description="of them, those of classes that the reference knows")
    num_labels_seen: int = Field(description="of those judged, the ones at which the reference clearly sees something")
    num_cases: dict[Kind, int] = Field(description="cases by kind")
    agreement: tuple[ClassAgreement, ...] = Field(description="by class of the data")
    sights: tuple[Sight, ...] = Field(description="by class, slice and size")
    notes: tuple[str, ...] = Field(description="what a reader must know of the figures")
    cases: tuple[Case, ...] = Field(description="by kind, then by falling score")
    images: tuple[str, ...] = Field(exclude=True, description="the frames reviewed")

    def of(self, kind: Kind) -> tuple[Case, ...]:
        """The cases of one kind, surest first."""
        return tuple(case for case in self.cases if case.kind == kind)
