"""Every row of the verdict's table, and the order in which they match."""

import itertools
from collections.abc import Mapping
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from turnout.experiments import samples, sequences, statistics
from turnout.reports import tables, verdict

DAY = 86_400.0
INTERVALS = {"higher": (0.01, 0.05), "lower": (-0.05, -0.01), "unclear": (-0.01, 0.03)}
ORDER = ("INVALID", "HARMFUL", "BETTER", "WORSE", "EQUIVALENT", "UNDECIDED")


def compared(
    variant: str = "new",
    reading: str = "unclear",
    *,
    direction: str = "up",
    fixed: tuple[float, float] | None = None,
    estimate: float = 0.02,
) -> tables.Comparison:
    low, high = INTERVALS[reading]
    better = None if reading == "unclear" else (reading == "higher") == (direction == "up")
    interval = samples.Interval(*fixed) if fixed else None
    return tables.Comparison(
        variant=variant,
        estimate=estimate,
        fixed=statistics.Difference(
            estimate=estimate, se=0.01, df=100.0, interval=interval, p_value=None, lift=None, lift_interval=None
        ),
        always_valid=sequences.Sequence(interval=samples.Interval(low, high), p_value=0.01),
        reading=reading,  # type: ignore[arg-type]
        better=better,
    )


def metric(*comparisons: tables.Comparison, **more: Any) -> tables.MetricTable:
    given: dict[str, Any] = {
        "name": "primary",
        "role": "primary",
        "outcome": "kept",
        "label": "kept",
        "scale": "ratio",
        "kind": "conversion",
        "window_s": DAY,
        "closed_ratio": 1.0,
        "outcomes": 100,
        "estimates": tuple(
            tables.Estimate(variant=name, units=500, total=50.0, mean=0.1, closed=500, value=0.1)
            for name in ("old", *(each.variant for each in comparisons))
        ),
        "comparisons": comparisons,
    }
    return tables.MetricTable(**{**given, **more})


def guardrail(state: str, variant: str = "new") -> tables.MetricTable:
    harm = tables.Harm(state=state, margin=0.01, estimate=0.02, low=0.011, high=0.03)  # type: ignore[arg-type]
    bare = tables.Comparison(variant=variant, fixed=None, always_valid=None, reading="unclear", harm=harm)
    return metric(bare, name="errors", role="guardrail", label="errors", margin=0.01)


def report(primary: tables.MetricTable | None = None, **more: Any) -> tables.Report:
    primary = metric(compared()) if primary is None else primary
    names = ["old", *(each.variant for each in primary.comparisons)]
    given: dict[str, Any] = {
        "experiment": "structure",
        "endpoint": "reply",
        "description": "",
        "state": "running",
        "winner": "",
        "unit": "user_id",
        "control": "old",
        "ramp_ratio": 1.0,
        "revision": "r",
        "phase": "p",
        "current": True,
        "as_of": 10 * DAY,
        "first_ts": 0.0,
        "last_ts": 9 * DAY,
        "builds": ("b1",),
        "variants": tuple(
            tables.VariantRow(
                name=name,
                control=name == "old",
                weight=1.0,
                units=500,
                unit_ratio=0.5,
                expected_units=500.0,
                serving=tables.Serving(requests=1000),
            )
            for name in names
        ),
        "units": 500 * len(names),
        "crossed": 0,
        "reasons": {"SPLIT": 1000},
        "sample_ratio": tables.SampleRatio(chi2=0.0, df=1, p_value=1.0, sequential_p=1.0, verdict="fine"),
        "metrics": (primary,),
        "plan": tables.Plan(units=2000, alpha=0.05, tightest_at=2000.0, complete=False),
        "outcomes": (),
        "other_phases": (),
        "dropped": {},
    }
    return tables.Report(**{**given, **more})


COMPLETE = tables.Plan(units=1000, alpha=0.05, tightest_at=1000.0, complete=True)


@pytest.mark.parametrize(
    ("made", "kind", "advice"),
    [
        pytest.param(report(metric(compared(reading="higher"))), "BETTER", "ship", id="higher is better"),
        pytest.param(report(metric(compared(reading="lower"))), "WORSE", "stop", id="lower is worse"),
        pytest.param(
            report(metric(compared(reading="lower", direction="down"), direction="down")),
            "BETTER",
            "ship",
            id="down is better",
        ),
        pytest.param(
            report(metric(compared(reading="higher", direction="down"), direction="down")),
            "WORSE",
            "stop",
            id="up is worse",
        ),
        pytest.param(report(), "UNDECIDED", "keep going", id="holds 0"),
        pytest.param(
            report(metric(compared(reading="higher")), guardrails=(guardrail("safe"),)), "BETTER", "ship", id="safe"
        ),
        pytest.param(
            report(metric(compared(reading="higher")), guardrails=(guardrail("safe"), guardrail("inconclusive"))),
            "UNDECIDED",
            "keep going",
            id="inconclusive is not safe",
        ),
        pytest.param(
            report(metric(compared(reading="higher")), guardrails=(guardrail("harmful"),)),
            "HARMFUL",
            "stop",
            id="harmful",
        ),
        pytest.param(
            report(metric(compared(reading="lower")), guardrails=(guardrail("inconclusive"),)),
            "WORSE",
            "stop",
            id="worse",
        ),
        pytest.param(
            report(metric(compared(fixed=(-0.01, 0.03)), effect=0.04), plan=COMPLETE), "EQUIVALENT", "stop", id="small"
        ),
        pytest.param(
            report(metric(compared(fixed=(-0.01, 0.03)), effect=0.03), plan=COMPLETE),
            "UNDECIDED",
            "keep going",
            id="not small",
        ),
        pytest.param(
            report(metric(compared(fixed=(-0.01, 0.03)), effect=0.04)),
            "UNDECIDED",
            "keep going",
            id="small, plan not complete",
        ),
        pytest.param(report(metrics=()), "UNDECIDED", "keep going", id="no primary metric"),
    ],
)
def test_the_first_row_that_matches_decides(made: tables.Report, kind: str, advice: str) -> None:
    found = verdict.decide(made)
    assert (found.kind, found.advice) == (kind, advice)
    assert found.reasons
    assert found.headline


BROKEN = [
    pytest.param(
        {"sample_ratio": tables.SampleRatio(chi2=99.0, df=1, p_value=1e-9, sequential_p=1e-6, verdict="mismatch")},
        "sample-ratio",
        "retrieval",
        id="sample ratio mismatch",
    ),
    pytest.param({"crossed": 11}, "crossed", "1.1 %", id="over 1 % crossed"),
    pytest.param(
        {"crossed": 90, "units": 100_000, "crossed_from": {"old": 80, "new": 10}}, "crossed", "first in", id="uneven"
    ),
    pytest.param({"dropped": {"exposure new": 40, "exposure old": 2}}, "dropped", "not equally", id="uneven drops"),
]


@pytest.mark.parametrize(("more", "code", "_words"), BROKEN)
def test_a_broken_condition_comes_before_everything(more: Mapping[str, Any], code: str, _words: str) -> None:
    made = report(metric(compared(reading="higher")), guardrails=(guardrail("harmful"),), **more)
    found = verdict.decide(made)
    assert (found.kind, found.advice, found.checks[0].code, found.checks[0].state) == (
        "INVALID",
        "broken",
        code,
        "broken",
    )
    assert found.reasons == (found.checks[0].text,)
    assert "begin again" in found.needed.words[0]


@pytest.mark.parametrize(
    ("more", "code", "state", "words"),
    [
        ({"reasons": {"SPLIT": 950, "NO_UNIT": 50}}, "no-unit", "warning", "5.0 %"),
        ({"reasons": {"SPLIT": 995, "NO_UNIT": 5}}, "no-unit", "fine", "1 %"),
        ({"reasons": {"SPLIT": 999, "ERROR": 1}}, "assignment-error", "warning", "1 assignments failed"),
        ({"builds": ("b1", "b2")}, "mixed-builds", "warning", "2 builds"),
        ({"ramps": ((0.0, 0.5), (DAY, 1.0), (2 * DAY, 0.2))}, "ramp", "warning", "lowered 1970-01-03"),
        ({"ramps": ((0.0, 0.5), (DAY, 1.0))}, "ramp", "fine", "never lowered"),
        ({"dropped": {"prediction new": 5, "prediction old": 5}}, "dropped", "warning", "prediction new 5"),
        ({"as_of": 3 * DAY}, "duration", "warning", "less than 7 full days"),
        ({"sample_ratio": None, "current": False}, "sample-ratio", "unknown", "no longer in the document"),
        ({"metrics": (metric(compared(), closed_ratio=0.75),)}, "open-windows", "open", "25.0 %"),
        ({}, "plan", "open", "1,000 of 2,000 planned units"),
        ({"plan": msgspec.structs.replace(COMPLETE, complete=False, left_s=DAY)}, "duration", "open", "24 hours"),
        ({"plan": msgspec.structs.replace(COMPLETE, units=None, complete=None)}, "plan", "unknown", "plan.units"),
        ({"outcomes": (tables.OutcomeCount(name="kept", count=9, unmatched=3),)}, "unmatched", "warning", "3 of 9"),
    ],
)
def test_every_other_check_is_named_and_breaks_nothing(
    more: Mapping[str, Any], code: str, state: str, words: str
) -> None:
    found = verdict.decide(report(**more))
    (check,) = [check for check in found.checks if check.code == code]
    assert check.state == state
    assert words in check.text
    assert found.kind == "UNDECIDED"
    assert (check.text in found.reasons) == (state in ("warning", "open"))


def test_much_fallback_dilutes() -> None:
    made = report()
    serving = tables.Serving(requests=100, fallbacks=9, fallback_ratio=0.09)
    old, new = made.variants
    made = msgspec.structs.replace(made, variants=(old, msgspec.structs.replace(new, serving=serving)))
    (check,) = [check for check in verdict.decide(made).checks if check.code == "fallback"]
    assert (check.state, "9.0 % of the requests of new" in check.text) == ("warning", True)


def test_nothing_ships_before_the_shortest_duration() -> None:
    plan = tables.Plan(
        units=2000, alpha=0.05, tightest_at=2000.0, complete=False, min_duration_s=14 * DAY, left_s=4 * DAY
    )
    better, worse = (report(metric(compared(reading=reading)), plan=plan) for reading in ("higher", "lower"))
    assert verdict.decide(better).kind == "UNDECIDED"
    assert "4.0 days" in " ".join(verdict.decide(better).needed.words)
    assert verdict.decide(worse).kind == "WORSE"


def test_of_several_better_variants_the_best_ships() -> None:
    primary = metric(
        compared("good", "higher", estimate=0.02), compared("best", "higher", estimate=0.04), compared("bad", "lower")
    )
    found = verdict.decide(report(primary))
    assert (found.kind, found.variant) == ("BETTER", "best")
    assert found.by_variant == {"good": "BETTER", "best": "BETTER", "bad": "WORSE"}
    assert found.headline == "best is better than old on kept."


def test_a_harmful_variant_stops_an_undecided_one_not() -> None:
    primary = metric(compared("one"), compared("two"))
    found = verdict.decide(report(primary, guardrails=(guardrail("harmful", "two"),)))
    assert (found.kind, found.variant) == ("HARMFUL", "two")
    assert found.by_variant == {"one": "UNDECIDED", "two": "HARMFUL"}
    assert "beyond the margin of 1.00 pp" in found.reasons[0]


def test_the_planned_end_comes_from_the_flow() -> None:
    flow = tuple(tables.Flow(start=day * DAY, units={"old": 50, "new": 50}) for day in range(10))
    found = verdict.decide(report(flow=flow)).needed
    assert found.units_left == 1000
    assert found.ends_ts == pytest.approx(21 * DAY)  # 10 more days of 100 units, and the window of a day
    assert found.days_left == pytest.approx(11.0)


def test_units_that_would_decide_do_when_they_are_there() -> None:
    half = 0.01 * sequences.width(1000, tightest_at=2000.0, alpha=0.05)
    always = sequences.Sequence(interval=samples.Interval(0.02 - half, 0.02 + half), p_value=0.5)
    made = report(metric(msgspec.structs.replace(compared(estimate=0.02), always_valid=always)))
    more = verdict.decide(made).needed.units_at_effect
    assert more is not None
    for extra, decided in ((0, False), (int(more * 0.9), False), (more, True)):
        units = 1000 + extra
        se = 0.01 * (1000 / units) ** 0.5
        width = sequences.width(units, tightest_at=2000.0, alpha=0.05)
        assert (width * se < 0.02) is decided


flags = st.booleans()


@given(
    st.builds(
        verdict.Facts,
        broken=flags,
        harmful=flags,
        safe=flags,
        better=st.none() | flags,
        ripe=flags,
        complete=flags,
        small=flags,
    )
)
def test_what_is_graver_matches_first(facts: verdict.Facts) -> None:
    holds = {
        "INVALID": facts.broken,
        "HARMFUL": facts.harmful,
        "BETTER": facts.better is True and facts.safe and facts.ripe,
        "WORSE": facts.better is False,
        "EQUIVALENT": facts.complete and facts.small,
        "UNDECIDED": True,
    }
    assert verdict.kind_of(facts) == next(kind for kind in ORDER if holds[kind])


@given(st.lists(st.sampled_from(ORDER), max_size=4))
def test_the_verdict_on_all_does_not_depend_on_their_order(kinds: list[tables.Outcome]) -> None:
    found = {verdict.of_all(order) for order in itertools.permutations(kinds)}
    assert len(found) == 1
    if "INVALID" in kinds:
        assert found == {"INVALID"}
