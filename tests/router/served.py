"""Who served an answer, and which cameras a canary took."""

from __future__ import annotations

from typing import Any


def served_by(response: Any) -> tuple[int, str, str]:
    return response.status, response.headers["x-served-by"], response.headers["x-served-version"]


def code(response: Any) -> str:
    return str(response.json()["error"]["code"])


CHAMPION = (200, "champion", "1")
CANDIDATE = (200, "candidate", "2")


async def canary_cameras(bench: Any, share: float) -> tuple[list[str], list[str]]:
    """See ten cameras, then route a canary: (its cameras, the others)."""
    await bench.route("champion")
    cameras = [f"cam{number:02d}" for number in range(10)]
    for camera in cameras:
        await bench.detect(camera)
    await bench.route("canary", share)
    taken = (await bench.get("/stats"))["canary_cameras"]
    return taken, [camera for camera in cameras if camera not in taken]
