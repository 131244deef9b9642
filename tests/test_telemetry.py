"""Metrics: what is recorded, merged over processes, and exposed as prometheus_client reads it."""

import math

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import parser

from turnout import telemetry


def parsed(registry: telemetry.Registry) -> dict[str, dict[tuple[str, tuple[tuple[str, str], ...]], float]]:
    return read(telemetry.render(registry.snapshot()))


def read(text: bytes) -> dict[str, dict[tuple[str, tuple[tuple[str, str], ...]], float]]:
    families = parser.text_string_to_metric_families(text.decode())
    return {
        family.name: {(sample.name, tuple(sorted(sample.labels.items()))): sample.value for sample in family.samples}
        for family in families
    }


def test_a_counter_counts_per_label_set() -> None:
    registry = telemetry.Registry()
    family = registry.counter(telemetry.REQUESTS, "Requests.", ("endpoint", "code"))
    family.labels("reply", "200").inc()
    family.labels("reply", "200").inc(2)
    family.labels("reply", "500").inc()
    samples = parsed(registry)["turnout_requests"]
    assert samples["turnout_requests_total", (("code", "200"), ("endpoint", "reply"))] == 3
    assert samples["turnout_requests_total", (("code", "500"), ("endpoint", "reply"))] == 1


def test_the_same_family_is_given_to_all_who_ask_and_another_shape_is_refused() -> None:
    registry = telemetry.Registry()
    first = registry.counter("a_total", "A.")
    assert registry.counter("a_total", "A.") is first
    with pytest.raises(ValueError, match="a_total is already defined otherwise"):
        registry.gauge("a_total", "A.")
    with pytest.raises(ValueError, match="has the labels"):
        first.labels("x")


def test_a_gauge_is_set_or_followed() -> None:
    registry = telemetry.Registry()
    level = 1.0
    registry.gauge("set_level", "S.").labels().set(4.5)
    registry.gauge("followed_level", "F.").labels().follow(lambda: level)
    level = 7.0
    samples = parsed(registry)
    assert samples["set_level"]["set_level", ()] == 4.5
    assert samples["followed_level"]["followed_level", ()] == 7.0


def test_a_child_can_be_removed() -> None:
    registry = telemetry.Registry()
    family = registry.gauge(telemetry.SNAPSHOT_APPLIED, "S.", ("revision",))
    family.labels("old").set(1)
    family.remove("old")
    family.labels("new").set(1)
    assert [sample.labels for sample in family.snapshot().samples] == [("new",)]
    family.clear()
    assert registry.snapshot() == []


@given(st.lists(st.floats(allow_nan=False, allow_infinity=False, width=32)))
def test_a_histogram_counts_cumulatively_and_its_bounds_belong_to_their_bucket(values: list[float]) -> None:
    registry = telemetry.Registry()
    histogram = registry.histogram("h_seconds", "H.", buckets=(0.0, 1.0, 10.0)).labels()
    for value in values:
        histogram.observe(value)
    samples = parsed(registry)["h_seconds"]
    for bound, text in ((0.0, "0"), (1.0, "1"), (10.0, "10"), (math.inf, "+Inf")):
        assert samples["h_seconds_bucket", (("le", text),)] == sum(value <= bound for value in values)
    assert samples["h_seconds_count", ()] == len(values)
    assert samples["h_seconds_sum", ()] == pytest.approx(sum(values))


@pytest.mark.parametrize("buckets", [(), (1.0, 1.0), (2.0, 1.0), (1.0, math.inf)])
def test_buckets_that_do_not_rise_are_refused(buckets: tuple[float, ...]) -> None:
    with pytest.raises(ValueError, match="must be finite and rise"):
        telemetry.Registry().histogram("h", "H.", buckets=buckets)


@given(st.text(), st.text())
def test_any_label_value_and_help_survive_the_exposition(value: str, text: str) -> None:
    registry = telemetry.Registry()
    registry.counter("x_total", text, ("label",)).labels(value).inc()
    exposed = telemetry.render(registry.snapshot()).decode()
    # the parser splits at every line break Unicode knows; the format only at \n
    if len(exposed.splitlines()) == exposed.count("\n"):
        samples = read(exposed.encode())["x"]
        assert samples == {("x_total", (("label", value),)): 1.0}


@pytest.mark.parametrize("value", [0.0, 1.5, 1e300, -2.0, 123456789.0, 1e-9, math.inf, -math.inf])
def test_any_number_survives_the_exposition(value: float) -> None:
    registry = telemetry.Registry()
    registry.gauge("x", "X.").labels().set(value)
    assert parsed(registry)["x"]["x", ()] == value


def test_nan_is_exposed_as_such() -> None:
    registry = telemetry.Registry()
    registry.gauge("x", "X.").labels().set(math.nan)
    assert math.isnan(parsed(registry)["x"]["x", ()])


def test_label_sets_beyond_the_limit_go_to_other_and_are_counted() -> None:
    registry = telemetry.Registry(label_sets=2)
    family = registry.counter("x_total", "X.", ("a", "b"))
    for number in range(5):
        family.labels(str(number), "b").inc()
    samples = parsed(registry)
    assert samples["x"]["x_total", (("a", "other"), ("b", "other"))] == 3
    assert len(samples["x"]) == 3
    overflow = samples["turnout_metrics_overflow"]
    assert overflow["turnout_metrics_overflow_total", (("metric", "x_total"),)] == 3


def process(requests: int, level: float) -> list[telemetry.FamilySnapshot]:
    registry = telemetry.Registry()
    registry.counter("requests_total", "R.", ("code",)).labels("200").inc(requests)
    registry.counter("requests_total", "R.", ("code",)).labels(str(requests)).inc()
    for merge in ("sum", "max", "min"):
        registry.gauge(f"{merge}_level", "L.", merge=merge).labels().set(level)
    registry.histogram("h", "H.", buckets=(1.0, 2.0)).labels().observe(level)
    return registry.snapshot()


def test_processes_are_merged() -> None:
    travelled = [
        msgspec.msgpack.decode(msgspec.msgpack.encode(one), type=list[telemetry.FamilySnapshot])
        for one in (process(10, 1.0), process(20, 2.0))
    ]
    samples = read(telemetry.render(telemetry.merge(travelled)))
    assert samples["requests"]["requests_total", (("code", "200"),)] == 30
    assert samples["requests"]["requests_total", (("code", "10"),)] == 1
    assert [samples[f"{merge}_level"][f"{merge}_level", ()] for merge in ("sum", "max", "min")] == [3.0, 2.0, 1.0]
    assert samples["h"]["h_bucket", (("le", "1"),)] == 1
    assert samples["h"]["h_bucket", (("le", "2"),)] == 2


def test_merging_nothing_gives_nothing() -> None:
    assert telemetry.render(telemetry.merge([])) == b""


def test_families_that_differ_between_processes_are_left_out_and_counted() -> None:
    one, two = telemetry.Registry(), telemetry.Registry()
    one.histogram("h", "H.", buckets=(1.0,)).labels().observe(0.5)
    two.histogram("h", "H.", buckets=(2.0,)).labels().observe(0.5)
    samples = read(telemetry.render(telemetry.merge([one.snapshot(), two.snapshot()])))
    assert samples["h"]["h_count", ()] == 1
    assert samples[telemetry.METRICS_MISMATCHED][telemetry.METRICS_MISMATCHED, ()] == 1
