"""What a report learns from the history of revisions in a real control store."""

from pathlib import Path

from turnout.cli import report_known
from turnout.stores import catalog, control

TEXT = """\
pipelines: {a: {code: "m:a"}, b: {code: "m:b"}}
endpoints: {reply: {pipeline: a, unit: user_id}}
experiments:
  structure: {endpoint: reply, ramp: RAMP, variants: {a: {weight: 1, control: true}, b: {pipeline: b, weight: 1}}}
"""


def test_versions_between_two_moments_and_the_one_in_force(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'events.db'}"
    store = catalog.open_control(url)
    number = 0
    texts = [TEXT.replace("RAMP", ramp) for ramp in ("1%", "5%", "20%", "50%")]
    for at, text in enumerate([*texts[:2], "experiments: {}", "no document: [", *texts[2:]]):
        record = control.RevisionRecord(revision=f"{at:064x}", at=float(at), document={"turnout.yaml": text})
        number = store.record(record, after=number)
    store.close()
    records = report_known.revisions(url)
    assert [record.at for record in records] == [0.0, 1.0, 2.0, 3.0, 4.0, 5.0]
    ask = report_known.versions(records, "structure")
    assert ask is not None
    assert [(each.at, each.spec.ramp) for each in ask(1.5, 4.5)] == [(1.0, 0.05), (4.0, 0.2)]
    other = report_known.versions(records, "another")
    assert other is not None
    assert other(0.0, 9.0) == []


def test_no_history_is_no_trouble(tmp_path: Path) -> None:
    assert report_known.revisions("parquet:somewhere") == []
    assert report_known.revisions(f"sqlite:///{tmp_path / 'nothing.db'}") == []
    assert report_known.versions([], "structure") is None
