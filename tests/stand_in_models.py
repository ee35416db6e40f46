"""Frames with painted vehicles, and model directories whose engine finds what is painted, for flows that compare."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from PIL import Image, ImageDraw

from bentos.detector.contract import EngineSpec, InputSpec, ModelSpec, Thresholds, file_sha256, read_spec, write_spec
from flows.adapters.registry import ModelVersion
from flows.dataset.layout import Frame, write_data_yaml, write_frames
from flows.errors import ProjectError
from flows.params_file import read_params
from flows.progress import silent
from flows.settings import Project

ROOT = Path(__file__).resolve().parents[1]
CLASSES = ("car", "truck")
SIZE_WH = (128, 64)
BOXES = ((10, 10, 40, 30), (70, 20, 110, 50))  # a red car and a green truck in every frame
COLOURS = ((255, 0, 0), (0, 255, 0))


def write_project(root: Path, cameras: int = 6, frames: int = 2) -> Project:
    """params.yaml, and a split test in which every frame holds a car and a truck."""
    (root / "params.yaml").write_text((ROOT / "params.yaml").read_text(encoding="utf-8"), encoding="utf-8")
    listed = [
        Frame(f"images/test/cam{camera}_{number}.png", "test", f"cam{camera}", f"clip{camera}", "", "day")
        for camera in range(cameras)
        for number in range(frames)
    ]
    for frame in listed:
        for path in (root / "data" / frame.image, root / "data" / frame.label):
            path.parent.mkdir(parents=True, exist_ok=True)
        picture = Image.new("RGB", SIZE_WH, (90, 90, 90))
        lines = []
        for class_id, (x1, y1, x2, y2) in enumerate(BOXES):
            ImageDraw.Draw(picture).rectangle((x1, y1, x2 - 1, y2 - 1), fill=COLOURS[class_id])
            centre = (x1 + x2) / 2 / SIZE_WH[0], (y1 + y2) / 2 / SIZE_WH[1]
            lines.append(f"{class_id} {centre[0]} {centre[1]} {(x2 - x1) / SIZE_WH[0]} {(y2 - y1) / SIZE_WH[1]}")
        picture.save(root / "data" / frame.image)
        (root / "data" / frame.label).write_text("\n".join(lines) + "\n", encoding="utf-8")
    write_data_yaml(root / "data", CLASSES)
    write_frames(root / "data", listed)
    return Project(root)


def write_model(
    folder: Path,
    name: str,
    *,
    sees_trucks: bool = True,
    classes: tuple[str, ...] = CLASSES,
    size_wh: tuple[int, int] = SIZE_WH,
) -> Path:
    """A model that finds every vehicle exactly, or only the cars; `name` makes its digest differ."""
    folder.mkdir(parents=True)
    (folder / "fake.json").write_text("{}")
    top_k = 4 if sees_trucks else 1
    write_spec(
        folder,
        ModelSpec(
            name=name,
            classes=classes,
            input=InputSpec(size_wh=size_wh),
            thresholds=Thresholds(conf=0.25, iou=0.6, max_det=top_k),
            top_k=top_k,
            engine=EngineSpec(kind="fake", file="fake.json"),
            files={"fake.json": file_sha256(folder / "fake.json")},
        ),
    )
    return folder


@dataclass
class StandInRegistry:
    """Registered versions as folders, and their aliases."""

    root: Path
    aliases: dict[str, str] = field(default_factory=dict)
    numbers: list[str] = field(default_factory=list)

    def add(self, number: str, *aliases: str, sees_trucks: bool = True) -> None:
        """Register a version under the aliases."""
        write_model(self.root / number / "model", f"version {number}", sees_trucks=sees_trucks)
        self.numbers.append(number)
        self.aliases |= dict.fromkeys(aliases, number)

    def get(self, version: str) -> ModelVersion:
        """See `Registry.get`."""
        if version not in self.numbers:
            raise ProjectError(f"there is no version {version}", "See: tca status")
        return ModelVersion(version, read_spec(self.root / version / "model").digest, f"run{version}", {})

    def by_alias(self, alias: str) -> ModelVersion | None:
        """See `Registry.by_alias`."""
        return self.get(self.aliases[alias]) if alias in self.aliases else None

    def reigning(self) -> ModelVersion | None:
        """See `Registry.reigning`."""
        return self.by_alias("champion")

    def download(self, version: ModelVersion) -> Path:
        """See `Registry.download`."""
        return self.root / version.version

    def register(self, run_id: str, artifact_dir: Path, digest: str, tags: Mapping[str, str]) -> ModelVersion:
        """See `Registry.register`: a digest that is known becomes the challenger."""
        [version] = [one for one in map(self.get, self.numbers) if one.digest == digest]
        assert artifact_dir == self.download(version)
        self.aliases["challenger"] = version.version
        return version


def stand_in_run(project: Project, registry: StandInRegistry, *overrides: str) -> Any:
    """What the bodies of `evaluate` and `compare` use of a StageRun."""

    def step(function: Callable[..., Any], *, retries: int = 0) -> Callable[..., Any]:
        return function

    return SimpleNamespace(
        project=project,
        params=read_params(project.params_file, overrides),
        registry=lambda: registry,
        step=step,
        progress=silent,
        table=lambda rows: None,
    )
