"""`tca ui`: one local page that leads to versions, promotions, reports and data docs.

The page is plain HTML in reports/index.html with relative links, so it opens from disk as well as over HTTP.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from flows.adapters.processes import is_alive, read_services
from flows.adapters.registry import ACCURACY, CHALLENGER, CHAMPION, PREVIOUS, Registry, read_pointer
from flows.console import Console
from flows.errors import ProjectError, TcaError
from flows.page import Markup, escape, page, table, write_page
from flows.pages_server import CARDS, PagesServer
from flows.serving import registry_of
from flows.settings import Project, read_settings
from flows.stages import REPORT_MODELS

INDEX = "index.html"
_DATA_DOCS = "data_docs/index.html"


@dataclass(frozen=True)
class ListedVersion:
    """A registered version as the page shows it."""

    version: str
    aliases: tuple[str, ...]
    digest: str
    accuracy: str
    data_md5: str
    git_commit: str


@dataclass(frozen=True)
class ListedPromotion:
    """What is left of one promotion: its name, its last recorded state and sentence, and its page if it has one."""

    name: str
    state: str
    sentence: str
    href: str


def write_index(project: Project, quiet: bool = False, makes_cards: bool = False) -> Path:
    """Write reports/index.html, whole or not at all, and return its path.

    With `makes_cards` whoever serves the page writes a card that is not there yet when it is asked for.
    """
    content = index_page(project, read_versions(project, quiet), makes_cards)
    path = project.reports / INDEX
    write_page(path, content)
    return path


def serve_pages(project: Project, port: int) -> None:
    """Serve the reports folder on this machine until Ctrl-C; the index is made anew whenever it is asked for.

    Raises:
        Conflict: The port is in use.
    """
    project.reports.mkdir(parents=True, exist_ok=True)
    with PagesServer(
        project.reports,
        port,
        lambda: write_index(project, quiet=True, makes_cards=True),
        lambda version: _make_card(project, version),
    ) as server:
        print(f"Look:  {server.address}   (Ctrl-C ends)", flush=True)
        with contextlib.suppress(KeyboardInterrupt):
            server.serve_forever()


def index_page(project: Project, versions: list[ListedVersion] | str, makes_cards: bool = False) -> str:
    """The page as HTML; `versions` may be the reason why they could not be read."""
    cards = {path.stem for path in (project.reports / CARDS).glob("*.html")}
    if makes_cards and not isinstance(versions, str):
        cards |= {one.version for one in versions}
    sentence, reigns = _verdict(project)
    parts = [
        "<h2>Model versions</h2>",
        _versions(versions, cards),
        "<h2>Promotions</h2>",
        _promotions(read_promotions(project.records)),
        "<h2>Reports</h2>",
        _reports(project),
        "<h2>Services</h2>",
        _services(project),
    ]
    return page(f"{project.root.name}: overview", sentence, True if reigns else None, "\n".join(parts))


def read_versions(project: Project, quiet: bool = False) -> list[ListedVersion] | str:
    """The registered versions, newest first, or why there are none to show. The first call imports MLflow (seconds)."""
    try:
        settings = read_settings(project)
        local = settings.tracking_uri == f"sqlite:///{project.home / 'mlflow.db'}"
        if local and not (project.home / "mlflow.db").is_file():
            return "No version is registered yet."
        with Console(quiet).step("reading the registry") as shown:
            found = _read_registry(registry_of(project))
            shown.done(f"{len(found)} versions")
        return found
    except TcaError as error:
        return f"The registry could not be read: {error}"


def read_promotions(folder: Path) -> list[ListedPromotion]:
    """The promotions recorded in `folder`, the last one first; records are JSON lines, pages lie beside them.

    A page that is missing or older than its record is made anew, unless the record is damaged.
    """
    _renew_pages(folder)
    records = {path.stem: path for path in folder.glob("*.jsonl")}
    pages = {path.stem for path in folder.glob("*.html")}
    names = sorted(records.keys() | pages, key=lambda name: (len(name), name), reverse=True)
    return [_promotion(name, records.get(name), name in pages) for name in names]


def _renew_pages(folder: Path) -> None:
    stale = [record for record in folder.glob("*.jsonl") if record.stem.isdecimal() and not _has_fresh_page(record)]
    if not stale:
        return
    from flows.promotion_records import write_page_of  # half a second of imports

    for record in stale:
        with contextlib.suppress(ProjectError):
            write_page_of(record)


def _has_fresh_page(record: Path) -> bool:
    page = record.with_suffix(".html")
    return page.exists() and page.stat().st_mtime_ns >= record.stat().st_mtime_ns


def _make_card(project: Project, version: str) -> None:
    from flows.cards.versions import card_of_version  # a second of imports

    card_of_version(project, version)


def _read_registry(registry: Registry) -> list[ListedVersion]:
    aliases: dict[str, list[str]] = {}
    for alias in (CHAMPION, CHALLENGER, PREVIOUS):
        if (named := registry.by_alias(alias)) is not None:
            aliases.setdefault(named.version, []).append(alias)
    return [
        ListedVersion(
            version=one.version,
            aliases=tuple(aliases.get(one.version, ())),
            digest=one.digest,
            accuracy=one.tags.get(ACCURACY, ""),
            data_md5=one.tags.get("tca.data_md5", ""),
            git_commit=one.tags.get("tca.git_commit", ""),
        )
        for one in reversed(registry.versions())
    ]


def _promotion(name: str, record: Path | None, has_page: bool) -> ListedPromotion:
    last = _last_line(record) if record is not None else {}
    state, sentence = (str(last.get(key) or "") for key in ("state", "sentence"))
    href = f"promotions/{name}.html" if has_page else f"promotions/{name}.jsonl"
    return ListedPromotion(name, state, sentence, href)


def _last_line(record: Path) -> dict[str, Any]:
    # A record that is being written may end in half a line: the last whole one counts.
    for line in reversed(record.read_text(encoding="utf-8", errors="replace").split("\n")):
        try:
            entry = json.loads(line)
        except ValueError:
            continue
        if isinstance(entry, dict):
            return entry
    return {}


def _verdict(project: Project) -> tuple[str, bool]:
    try:
        champion = read_pointer(project.champion_file)
    except TcaError as error:
        return str(error), False
    if champion is None:
        return "No champion reigns yet. Make one: tca release", False
    return f"Version {champion[0]} reigns, digest {champion[1][:12]}.", True


def _versions(versions: list[ListedVersion] | str, cards: set[str]) -> str:
    if isinstance(versions, str):
        return f"<p>{escape(versions)}</p>"
    headers = ("Version", "Card", "Role", "mAP50-95", "Digest", "Data", "Commit")
    rows = [
        (
            one.version,
            _link(f"{CARDS}/{one.version}.html", "card") if one.version in cards else _card_command(one.version),
            ", ".join(one.aliases),
            _unbroken(_three_digits(one.accuracy)),
            _code(one.digest[:8]),
            _code(one.data_md5[:8]),
            _code(one.git_commit[:8]),
        )
        for one in versions
    ]
    return table(headers, rows) if rows else "<p>No version is registered yet.</p>"


def _promotions(promotions: list[ListedPromotion]) -> str:
    if not promotions:
        return "<p>None recorded yet.</p>"
    rows = [(_link(one.href, one.name), one.state, one.sentence) for one in promotions]
    return table(("Promotion", "State", "Why"), rows)


def _reports(project: Project) -> str:
    rows = list(_report_rows(project.reports))
    if (project.reports / _DATA_DOCS).is_file():
        rows.append((_link(_DATA_DOCS, "data docs"), "", "Great Expectations: every check with its results", ""))
    return table(("Report", "Verdict", "In a sentence", "Finished"), rows) if rows else "<p>No stage has run yet.</p>"


def _report_rows(folder: Path) -> Iterator[tuple[object, ...]]:
    pages = {path.stem for path in folder.glob("*.html")} - {Path(INDEX).stem}
    stages = [name for name in REPORT_MODELS if name in pages or (folder / f"{name}.json").is_file()]
    for name in [*stages, *sorted(pages - set(stages))]:
        record = _read_json(folder / f"{name}.json")
        verdict = _unbroken("✓ passed" if record["passed"] else "✗ refused") if "passed" in record else ""
        target = f"{name}.html" if name in pages else f"{name}.json"
        yield (
            _link(target, name),
            verdict,
            record.get("sentence", ""),
            _unbroken(str(record.get("finished_at", "")).replace("T", " ")),
        )


def _services(project: Project) -> str:
    rows = []
    for one in read_services(project.home).values():
        http = one.address.startswith("http://")
        rows.append(
            (one.name, _link(one.address, one.address) if http else one.address, one.pid if is_alive(one) else "ended")
        )
    return table(("Service", "Address", "Process"), rows) if rows else "<p>None running. Start one: tca serve</p>"


def _read_json(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


def _three_digits(number: str) -> str:
    try:
        return f"{float(number):.3f}"
    except ValueError:
        return number


def _link(href: str, text: str) -> Markup:
    return Markup(f'<a href="{escape(href)}">{escape(text)}</a>')


def _card_command(version: str) -> Markup:
    """How to get the card that is not on this machine yet."""
    return _code(f"tca card {version}")


def _unbroken(text: str) -> Markup:
    return Markup(f'<span style="white-space:nowrap">{escape(text)}</span>')


def _code(text: str) -> Markup:
    return Markup(f'<code style="white-space:nowrap">{escape(text)}</code>')
