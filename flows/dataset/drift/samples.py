"""The two sides of a drift measurement: frames of a split, of a folder that is not imported yet, or recorded ones."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from bentos.detector.recorder import WARM_UP_CAMERA, FeatureRecord, read_records
from flows.dataset.formats.framing import UNKNOWN_CAMERA
from flows.dataset.manifest.manifest import Manifest
from flows.errors import DataError

if TYPE_CHECKING:
    import pandas as pd

IMAGE_COLUMNS = {
    "brightness": "mean grey, 0 to 255",
    "contrast": "standard deviation of grey",
    "sharpness": "variance of the Laplacian",
    "underexposed": "share of pixels that are almost black",
    "overexposed": "share of pixels that are almost white",
}
BOX_COLUMNS = {
    "num_boxes": "boxes in a frame",
    "mean_box_share": "mean area of a box, share of the frame",
    "box_centre_y": "mean centre of boxes, share of the height from the top",
    "box_aspect": "mean width over height of boxes",
}
CLASS_PREFIX = "share of "
"""A column "share of car" is the share of cars among the boxes of a frame; missing in frames without boxes."""
FACTS = ("image", "sha256", "camera", "unit", "slice")


@dataclass(frozen=True)
class Sample:
    """One side: a row per readable frame, and their thumbnails and files where there are any.

    `frames` has the columns of `FACTS` (`unit` names the clip that a frame is part of, empty where it is not known) and
    any of `IMAGE_COLUMNS`, `BOX_COLUMNS` and class shares; figures that a frame does not have are missing.
    """

    name: str
    frames: pd.DataFrame
    thumbnails: npt.NDArray[np.uint8] | None = None  # (num_frames, 54, 96), grey
    paths: tuple[Path, ...] | None = None
    notes: tuple[str, ...] = field(default=())

    @property
    def columns(self) -> list[str]:
        """Names of the figures that frames of this sample may have."""
        return [name for name in self.frames.columns if name not in FACTS]

    def with_columns(self, added: pd.DataFrame) -> Sample:
        """The same with more figures, in the order of `frames`."""
        return replace(self, frames=self.frames.assign(**{str(name): added[name].to_numpy() for name in added}))


def split_sample(manifest: Manifest, split: str, root: Path) -> Sample:
    """The readable frames of one split of the dataset at `root`."""
    chosen = ((manifest.images["split"] == split) & manifest.images["readable"]).to_numpy()
    images = manifest.images[chosen]
    return Sample(
        name=split,
        frames=describe_frames(images, manifest.boxes),
        thumbnails=manifest.thumbnails[chosen],
        paths=tuple(root / image for image in images["image"]),
    )


def describe_frames(images: pd.DataFrame, boxes: pd.DataFrame) -> pd.DataFrame:
    """The table of a `Sample` from those of a manifest; boxes of other images do not count."""
    import pandas as pd

    frames = images.set_index("image")
    ours = boxes[boxes["image"].isin(frames.index)]
    size = frames[["width", "height"]].reindex(ours["image"]).to_numpy(dtype=np.float64)  # (num_boxes, 2)
    figures = pd.DataFrame(
        {
            "mean_box_share": (ours["width_px"] * ours["height_px"]).to_numpy() / size.prod(axis=1),
            "box_centre_y": (ours["y1"] + ours["y2"]).to_numpy() / 2 / size[:, 1],
            "box_aspect": (ours["width_px"] / ours["height_px"].clip(lower=1e-6)).to_numpy(),
        }
    )
    means = figures.groupby(ours["image"].to_numpy()).mean().reindex(frames.index)
    counts = pd.crosstab(ours["image"], ours["class_name"]).reindex(frames.index)  # missing without boxes
    shares = counts.div(counts.sum(axis=1), axis=0).add_prefix(CLASS_PREFIX)
    unit = (frames["camera"] + "/" + frames["clip"]).where(frames["clip"] != "", "")
    table = frames[["sha256", "camera"]].assign(unit=unit, slice=frames["slice"])
    table = pd.concat([table, frames[[*IMAGE_COLUMNS, "num_boxes"]].astype("float64"), means, shares], axis=1)
    return table.rename_axis("image").reset_index()


def record_sample(folder: Path, block_s: float) -> Sample:
    """What serving recorded in `folder`; frames of a camera within `block_s` seconds are one unit.

    Raises:
        DataError: There is no such folder, or it holds a line that is no record.
    """
    import pandas as pd

    if not folder.is_dir():
        raise DataError(
            f"no production frames are recorded in {folder}",
            "Serve with recording on (tca serve does; elsewhere set DETECTOR_RECORD_DIR), or name the folder",
        )
    try:
        rows = [_row(record, block_s) for record in read_records(folder) if record.camera != WARM_UP_CAMERA]
    except (ValueError, OSError) as error:
        reason = str(error).splitlines()[0]
        raise DataError(f"{folder} holds a line that is no record: {reason}", "Move that file away") from None
    frames = pd.DataFrame(rows, columns=None if rows else [*FACTS, *_RECORDED])
    figures = [name for name in frames.columns if name not in FACTS]
    return Sample(
        "production",
        frames.astype({**dict.fromkeys(FACTS, "str"), **dict.fromkeys(figures, "float64")}),
        notes=("production records hold no images: embeddings and views were not compared",),
    )


_RECORDED = ("brightness", "contrast", "sharpness", "num_boxes", "mean_box_share")


def _row(record: FeatureRecord, block_s: float) -> dict[str, object]:
    camera = record.camera or UNKNOWN_CAMERA
    block = int(datetime.fromisoformat(record.time).timestamp() // block_s)
    total = sum(record.class_counts.values())
    shares = {CLASS_PREFIX + name: count / total for name, count in record.class_counts.items()} if total else {}
    return {
        **{"image": "", "sha256": "", "camera": camera, "unit": f"{camera}/{block}", "slice": ""},
        **record.model_dump(include=set(_RECORDED)),
        "num_boxes": record.num_detections,
        **shares,
    }
