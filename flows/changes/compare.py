"""Two states of the project side by side."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import yaml

from flows.changes.figures import HEADLINE, compare_figures
from flows.changes.report import DataChange, Difference, FigureChange, ParamChange, VerdictChange

STAGES = ("validate", "train", "export", "evaluate", "package")


@dataclass(frozen=True)
class ProjectState:
    """What one state of the project says of itself. `reports` lacks the stages whose report is not here."""

    name: str
    params: Mapping[str, Any]
    data_md5: str | None
    champion: str | None
    reports: Mapping[str, Mapping[str, Any]]
    report_md5s: Mapping[str, str]
    """md5 of each stage's report, also of one that is not here."""
    images: Mapping[str, str] | None = None
    """md5 by file below data/; None where the list of files is not here."""
    notes: Sequence[str] = field(default=())


def compare_states(before: ProjectState, after: ProjectState, stale: Mapping[str, Sequence[str]]) -> Difference:
    """Everything that differs. `stale` is what `dvc status` says of the later one."""
    params = tuple(compare_params(before.params, after.params))
    data = compare_data(before, after)
    verdicts = tuple(_verdicts(before, after, stale))
    figures = [
        row
        for stage in (one.stage for one in verdicts if not one.is_same)
        for row in compare_figures(stage, before.reports.get(stage), after.reports.get(stage))
    ]
    return Difference(
        sentence=_sentence(before, params, data, figures, verdicts),
        before=before.name,
        after=after.name,
        champion_before=before.champion,
        champion_after=after.champion,
        data=data,
        params=params,
        figures=tuple(figures),
        verdicts=verdicts,
        stale={stage: tuple(reasons) for stage, reasons in stale.items()},
        notes=(*before.notes, *after.notes, *_limits(before.reports, after.reports)),
    )


def compare_params(before: Mapping[str, Any], after: Mapping[str, Any]) -> Iterator[ParamChange]:
    """Every key that differs, in the order of the later file, then those that are gone."""
    old, new = ({key: _written(value) for key, value in _flat(side)} for side in (before, after))
    for key in [*new, *(key for key in old if key not in new)]:
        if old.get(key) != new.get(key):  # as text: 1 is not true, and .nan is .nan
            yield ParamChange(key=key, before=old.get(key), after=new.get(key))


def compare_data(before: ProjectState, after: ProjectState) -> DataChange:
    """Files by name and content; no frame is opened."""
    named = {"before": before.data_md5, "after": after.data_md5}
    if before.data_md5 == after.data_md5:
        return DataChange(**named, frames_added=0, frames_removed=0, frames_changed=0, labels_changed=0, note=None)
    if before.images is None or after.images is None:
        nothing = dict.fromkeys(("frames_added", "frames_removed", "frames_changed", "labels_changed"))
        return DataChange(**named, **nothing, note="the lists of files are not here (tca data pull fetches them)")
    old, new = before.images, after.images
    shared = [file for file in new if file in old and old[file] != new[file]]
    return DataChange(
        **named,
        frames_added=sum(file.startswith("images/") for file in new if file not in old),
        frames_removed=sum(file.startswith("images/") for file in old if file not in new),
        frames_changed=sum(file.startswith("images/") for file in shared),
        labels_changed=sum(file.startswith("labels/") for file in shared),
        note=None,
    )


def _verdicts(before: ProjectState, after: ProjectState, stale: Mapping[str, Any]) -> Iterator[VerdictChange]:
    for stage in STAGES:
        md5s = before.report_md5s.get(stage), after.report_md5s.get(stage)
        if md5s == (None, None):
            continue
        old, new = before.reports.get(stage), after.reports.get(stage)
        yield VerdictChange(
            stage=stage,
            before=None if old is None else str(old.get("sentence")),
            after=None if new is None else str(new.get("sentence")),
            passed=None if new is None else bool(new.get("passed")),
            is_same=md5s[0] == md5s[1],
            is_stale=stage in stale,
        )


def _sentence(
    before: ProjectState,
    params: Sequence[ParamChange],
    data: DataChange,
    figures: Sequence[FigureChange],
    verdicts: Sequence[VerdictChange],
) -> str:
    causes = [f"params ({len(params)} key{'s' if len(params) > 1 else ''})"] if params else []
    causes += ["data"] if data.before != data.after else []
    changed = [one.stage for one in verdicts if not one.is_same]
    stale = [one.stage for one in verdicts if one.is_stale]
    if not causes and not changed and not stale:
        return f"Nothing that defines a result differs from {before.name}."
    headline = next((one for one in figures if one.stage == "evaluate" and one.name == HEADLINE), None)
    if headline is not None and headline.before and headline.after:
        told = [f"mAP50-95 {headline.before} → {headline.after}"]
    elif headline is not None and headline.after:
        told = [f"mAP50-95 {headline.after}, nothing to compare it with"]
    else:
        told = [f"other results of {', '.join(changed)}"] if changed else ["the results are the same"]
    told.append(f"{' and '.join(causes)} differ" if causes else "neither params nor data differ")
    if stale:
        told.append(f"{', '.join(stale)} must run again")
    text = "; ".join(told)
    return f"{text[:1].upper() if text[:1] != 'm' else 'm'}{text[1:]}. Compared with {before.name}."


def _limits(before: Mapping[str, Mapping[str, Any]], after: Mapping[str, Mapping[str, Any]]) -> list[str]:
    frozen = [side.get("evaluate", {}).get("ground_truth_sha256") for side in (before, after)]
    if None not in frozen and frozen[0] != frozen[1]:
        return ["evaluate: the frozen frames or their labels differ, so its figures are not of the same frames"]
    return []


def _flat(tree: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in tree.items():
        if isinstance(value, Mapping) and value:
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def _written(value: Any) -> str:
    text = yaml.safe_dump(value, default_flow_style=True, width=10_000, sort_keys=False)
    return text.removesuffix("\n").removesuffix("\n...").strip()
