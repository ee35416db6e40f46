"""The difference between two states of the project, as a frozen model."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

Direction = Literal["better", "worse"]


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", ser_json_inf_nan="null")


class ParamChange(_Frozen):
    """One key of params.yaml; a side is null where it has no such key."""

    key: str = Field(description="like train.epochs")
    before: str | None = Field(description="value as YAML writes it in one line")
    after: str | None = Field(description="the same")


class DataChange(_Frozen):
    """Which data the two states name."""

    before: str | None = Field(description="md5 that data.dvc names; null: none")
    after: str | None = Field(description="the same")
    frames_added: int | None = Field(description="images that only the later has; null: the lists are not here")
    frames_removed: int | None = Field(description="images that only the earlier has")
    frames_changed: int | None = Field(description="images of the same name with other content")
    labels_changed: int | None = Field(description="label files of the same name with other content")
    note: str | None = Field(description="why the numbers are null")


class FigureChange(_Frozen):
    """One figure of one report on both sides."""

    stage: str = Field(description="stage whose report holds it")
    name: str = Field(description="what it is, with its unit")
    before: str | None = Field(description="for people, with its interval where there is one; null: not there")
    after: str | None = Field(description="the same")
    change: float | None = Field(description="after minus before; null where that means nothing")
    change_text: str = Field(description="the same for people; empty where it means nothing")
    direction: Direction | None = Field(description="which way the sign points; it is no test. null: neither way")


class VerdictChange(_Frozen):
    """What a stage said on both sides."""

    stage: str = Field(description="name of the stage")
    before: str | None = Field(description="its sentence; null: no report")
    after: str | None = Field(description="the same")
    passed: bool | None = Field(description="whether the later one passed; null: no report")
    is_same: bool = Field(description="whether both sides have the very same report")
    is_stale: bool = Field(description="whether the later report is of other inputs than this tree has")


class Difference(_Frozen):
    """Everything that defines a result, and what came of it, on both sides."""

    sentence: str = Field(description="the difference in one sentence")
    before: str = Field(description="the earlier state, e.g. `main (3f1c9a2e)`")
    after: str = Field(description="the later state")
    champion_before: str | None = Field(description="version that reigned; null: none did")
    champion_after: str | None = Field(description="the same")
    data: DataChange = Field(description="which data")
    params: tuple[ParamChange, ...] = Field(description="every key that differs")
    figures: tuple[FigureChange, ...] = Field(description="figures that differ, and mAP50-95 in any case")
    verdicts: tuple[VerdictChange, ...] = Field(description="a row for each stage of either side")
    stale: dict[str, tuple[str, ...]] = Field(description="stages whose dvc.lock is not true of the later tree: why")
    notes: tuple[str, ...] = Field(description="what could not be read, and what limits the comparison")
