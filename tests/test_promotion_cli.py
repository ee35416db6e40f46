"""`tca promotion` on records of simulated promotions, and on what it is given."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import Result
from typer.testing import CliRunner

from flows.cli.promotion import app
from flows.errors import InputError, ProjectError
from flows.promotion_records import verify_promotion
from flows.promotions import keep_report, report_of
from flows.rollout.report import PromotionReport
from flows.settings import Project
from tests.rollout.conftest import Rollout, small_params

Tca = Callable[..., Result]


class InProject(Rollout):
    """A promotion whose journal and record lie where those of a project do."""

    @property
    def journal_path(self) -> Path:
        return Project(self.folder).journal

    @property
    def records(self) -> Path:
        return Project(self.folder).records


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Project:
    for name in ("params.yaml", "dvc.yaml"):
        (tmp_path / name).touch()
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("TCA_APPROVAL_KEY", raising=False)
    monkeypatch.delenv("TCA_APPROVAL_TOKEN", raising=False)
    return Project(tmp_path)


@pytest.fixture
def tca(project: Project) -> Tca:
    def run(*arguments: str, stdin: str = "") -> Result:
        return CliRunner().invoke(app, list(arguments), input=stdin)

    return run


@pytest.fixture
def promoted(project: Project) -> PromotionReport:
    report = InProject(project.root).run()
    keep_report(project, report)
    return report


def test_what_happened_is_told(promoted: PromotionReport, tca: Tca) -> None:
    told = tca("show").stdout.splitlines()
    assert told == tca("show", "1").stdout.splitlines()
    assert "version 2 challenges" in told[0]
    assert promoted.sentence in told[-1]
    assert sum("verdict: advance" in line for line in told) == 4
    assert any("agreement: mean" in line for line in told)


def test_the_page_is_written_where_tca_ui_finds_it(promoted: PromotionReport, tca: Tca, project: Project) -> None:
    (project.records / "1.html").unlink()
    assert tca("show", "--html").stdout.strip() == "reports/promotions/1.html"
    assert promoted.sentence in (project.records / "1.html").read_text()


def test_a_record_that_holds(promoted: PromotionReport, tca: Tca) -> None:
    result = tca("verify")
    assert (result.exit_code, "every hash and verdict holds" in result.stdout) == (0, True)
    assert "9 transitions, 0 approvals" in result.stdout
    assert "not checked" not in result.stdout


def test_a_report_that_says_otherwise(promoted: PromotionReport, tca: Tca, project: Project) -> None:
    path = project.records / "1.json"
    path.write_text(promoted.model_copy(update={"lost": 7}).model_dump_json())
    result = tca("verify")
    assert result.exit_code == 1
    assert "does not hold: the report 1.json says lost 7, by the record it is 0" in result.stdout


def test_a_report_that_is_none(promoted: PromotionReport, tca: Tca, project: Project) -> None:
    (project.records / "1.json").write_text('{"passed"')
    result = tca("verify")
    assert (result.exit_code, "1.json is not the report of a promotion" in result.stdout) == (1, True)


@pytest.mark.parametrize("left", [None, "", '{"passed": tr'])
def test_a_report_that_was_never_finished_is_made_anew(
    promoted: PromotionReport, project: Project, left: str | None
) -> None:
    """Killed between the end of the promotion and its report, which must not lead to a second promotion."""
    path = project.records / "1.json"
    path.unlink() if left is None else path.write_text(left)
    assert report_of(project, 1) == promoted
    assert verify_promotion(project, 1).passed
    path.unlink()
    path.with_suffix(".jsonl").unlink()
    assert report_of(project, 1) is None


def test_the_report_of_an_earlier_hold_is_no_lie(project: Project) -> None:
    one = InProject(project.root, options={"num_cameras": 0})
    keep_report(project, one.run())
    one.traffic.num_cameras = 8
    assert one.run().outcome == "promoted"
    assert verify_promotion(project, 1).passed


def test_without_a_journal_it_says_what_is_not_checked(promoted: PromotionReport, tca: Tca, project: Project) -> None:
    project.journal.unlink()
    result = tca("verify", "1")
    assert result.exit_code == 0
    assert "not checked: whether the end was cut off" in result.stdout


def test_a_damaged_record(promoted: PromotionReport, tca: Tca, project: Project) -> None:
    record = project.records / "1.jsonl"
    record.write_text(record.read_text().replace('"decision":"advance"', '"decision":"rollback"', 1))
    result = tca("verify")
    assert (result.exit_code, "the chain is broken here" in result.stdout) == (1, True)
    record.write_text('{"kind": "opened", "at": "never"}\n')
    found = tca("show", "1", "--html").exception
    assert isinstance(found, ProjectError)
    assert "the record of promotion 1 is damaged" in str(found)


def test_approving_from_a_shell(project: Project, tca: Tca, monkeypatch: pytest.MonkeyPatch) -> None:
    one = InProject(project.root, params=small_params(approval="canary", approval_deadline_s=0.0))
    assert one.run().awaits_approval == "canary"
    monkeypatch.setenv("TCA_APPROVAL_KEY", str(project.root / "ci.key"))
    assert tca("key", "ci.key").exit_code == 0
    token = tca("token", "--by", "release job", "--valid", "10m").stdout.strip()
    assert token.count(".") == 2
    assert tca("approve", "--token", "-", stdin=token).stdout.strip() == (
        "promotion 1: release job agreed to CANARY (token)"
    )
    assert tca("approve", "1", "--by", "anna").stdout.strip() == "promotion 1: anna agreed to CANARY (cli)"
    assert one.run().outcome == "promoted"
    found = verify_promotion(project, 1)
    assert (found.passed, found.unchecked) == (True, ())


def test_refusing_from_a_shell(project: Project, tca: Tca) -> None:
    one = InProject(project.root, params=small_params(approval="canary", approval_deadline_s=0.0))
    one.run()
    assert "did not agree" in tca("approve", "--refuse", "--by", "anna").stdout
    assert one.run().outcome == "aborted"


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        (("show",), ProjectError, "there has been no promotion yet"),
        (("verify", "7"), ProjectError, "there is no record of promotion 7"),
        (("approve", "--by", "anna"), ProjectError, "no promotion is open"),
        (("approve", "--token", "x"), ProjectError, "no promotion is open"),
        (("token",), ProjectError, "no promotion is open"),
        (("token", "--digest", "d"), InputError, "TCA_APPROVAL_KEY in the environment names no key"),
        (("token", "--valid", "soon"), InputError, "'soon' is no duration"),
        (("key", "params.yaml"), InputError, "params.yaml exists already"),
    ],
)
def test_what_is_missing_is_named(tca: Tca, arguments: tuple[str, ...], error: type[Exception], message: str) -> None:
    found = tca(*arguments).exception
    assert isinstance(found, error)
    assert message in str(found)


def test_a_list_as_json(promoted: PromotionReport, tca: Tca) -> None:
    assert [one["state"] for one in json.loads(tca("list", "--json").stdout)] == ["DONE"]


def test_a_token_and_a_name_at_once_are_refused(tca: Tca) -> None:
    error = tca("approve", "--token", "a.b.c", "--by", "anna").exception
    assert isinstance(error, InputError) and "--token" in str(error)
