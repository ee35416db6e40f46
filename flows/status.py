"""`tca status`: what reigns, what runs, what is stale and why; from files alone, so that it answers at once."""

from __future__ import annotations

from typing import Any

from flows.adapters import versioning
from flows.adapters.processes import is_alive, read_services
from flows.adapters.registry import read_pointer
from flows.errors import TcaError
from flows.provenance import read_data_md5
from flows.rollout.journal import latest_promotions
from flows.settings import Project
from flows.stages import TRACKED_STAGES
from flows.standing import Standing, read_standing, standing_lines

SHOWN_PROMOTIONS = 3


def read_status(project: Project) -> dict[str, Any]:
    """Champion, the last promotions, where an open one stands, services, data version and stale stages."""
    champion = read_pointer(project.champion_file)
    promotions = latest_promotions(project.journal, SHOWN_PROMOTIONS)
    services = read_services(project.home).values()
    return {
        "project": str(project.root),
        "champion": None if champion is None else {"version": champion[0], "digest": champion[1]},
        "promotions": [one | {"standing": _standing(project, one)} for one in promotions],
        "services": [
            {"name": one.name, "address": one.address, "pid": one.pid, "alive": is_alive(one), "log": one.log}
            for one in services
        ],
        "data_version": read_data_md5(project.root),
        "stale": _staleness(project),
    }


def status_text(found: dict[str, Any]) -> str:
    """The same for a person."""
    champion = found["champion"]
    lines = [
        f"champion    version {champion['version']}  digest {champion['digest'][:12]}"
        if champion
        else "champion    none yet: tca release",
        f"data        version {(found['data_version'] or 'none')[:8]}",
    ]
    for one in found["promotions"]:
        if one["standing"]:
            lines += standing_lines(one["id"], one["challenger"], Standing.model_validate(one["standing"]))
        else:
            lines.append(f"promotion   {one['id']}: version {one['challenger']} {one['state']}  {one['sentence']}")
    for one in found["services"]:
        state = f"process {one['pid']}" if one["alive"] else "not running (it ended by itself; see its log)"
        lines.append(f"service     {one['name']:<20} {one['address']:<30} {state}")
    if not found["services"]:
        lines.append("service     none running: tca serve")
    stale = found["stale"]
    if isinstance(stale, str):
        lines.append(f"stages      unknown: {stale}")
    elif not stale:
        lines.append("stages      all current")
    else:
        lines += [f"stale       {name:<12} {'; '.join(reasons[:3])}" for name, reasons in stale.items()]
    return "\n".join(lines)


def _standing(project: Project, promotion: dict[str, Any]) -> dict[str, Any] | None:
    if promotion["closed"]:
        return None
    found = read_standing(project, promotion["id"], promotion["challenger"])
    return None if found is None else found.model_dump(mode="json")


def _staleness(project: Project) -> dict[str, list[str]] | str:
    try:
        return versioning.read_staleness(project.root, TRACKED_STAGES[-1])
    except TcaError as error:
        return str(error)
