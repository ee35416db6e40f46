"""What the best checkpoint of a training does on the validation split, frame by frame; made by a flow, shown here."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

BoxXYXY = tuple[float, float, float, float]
Fate = Literal["right", "confused", "alone"]
"""A box has a partner of its class, a partner of another class, or none: then it was missed, or is false."""


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class JudgedPart(_Frozen):
    """The figures of a part of the split: COCO's average precision, precision and recall at the served confidence."""

    kind: Literal["all", "class", "slice", "camera", "size"] = Field(description="what the part is cut by")
    name: str = Field(description="class, slice word, camera, or COCO object size")
    num_images: int = Field(description="frames that hold an object of the part")
    num_objects: int = Field(description="labelled objects of the part")
    map50_95: float | None = Field(description="mAP50-95 (AP50-95 of a class); null: no object")
    lower: float | None = Field(description="one-sided lower bound; null: too few units to tell")
    upper: float | None = Field(description="one-sided upper bound; null: too few units to tell")
    unit: str = Field(description="what the interval is resampled by: camera, clip, block")
    num_units: int = Field(description="units that it rests on")
    precision: float | None = Field(description="right among the found; null: nothing found, or not known of this part")
    recall: float | None = Field(description="right among the labelled; null: not known of this part")


class JudgedBox(_Frozen):
    """A label or a detection."""

    box_xyxy: BoxXYXY = Field(description="corners, px of the frame as stored")
    class_id: int = Field(description="index of its class")
    score: float | None = Field(description="confidence; null: it is a label")
    fate: Fate = Field(description="what the other side says of it")


class JudgedFrame(_Frozen):
    """A frame to look at."""

    image: str = Field(description="path below the data folder")
    camera: str = Field(description="camera of the frame")
    slice: str = Field(description="slice word of the frame")
    num_right: int = Field(description="objects found as what they are")
    num_confused: int = Field(description="objects found as another class")
    num_missed: int = Field(description="objects not found")
    num_false: int = Field(description="detections of nothing that is labelled")
    labels: tuple[JudgedBox, ...] = Field(description="labelled objects")
    found: tuple[JudgedBox, ...] = Field(description="detections at the served confidence")

    @property
    def num_errors(self) -> int:
        """Objects missed or confused, and false detections."""
        return self.num_confused + self.num_missed + self.num_false


class JudgedValidation(_Frozen):
    """One checkpoint on every frame of a split, run by PyTorch."""

    split: str = Field(description="split of the frames")
    conf: float = Field(description="confidence of all but average precision: what serving uses")
    iou: float = Field(description="overlap from which a detection and a label are partners")
    alpha: float = Field(description="one-sided error of each bound")
    classes: tuple[str, ...] = Field(description="by class id")
    num_images: int = Field(description="frames judged")
    num_objects: int = Field(description="labelled objects in them")
    num_detections: int = Field(description="detections at that confidence")
    parts: tuple[JudgedPart, ...] = Field(description="the whole first, then classes, slices, cameras, object sizes")
    confusion: tuple[tuple[int, ...], ...] = Field(
        description="objects of a class (row) found as a class (column); last column: missed; last row: false"
    )
    worst: tuple[JudgedFrame, ...] = Field(description="frames of most errors, most first")
    best: tuple[JudgedFrame, ...] = Field(description="frames of most objects found, less the errors")

    def of_kind(self, kind: str) -> list[JudgedPart]:
        """The parts that are cut by `kind`."""
        return [part for part in self.parts if part.kind == kind]
