"""Names that are nearly right, and how errors read."""

from turnout import errors


def test_the_nearest_name_is_asked_for_and_a_far_one_is_not() -> None:
    assert errors.did_you_mean("wieght", ["weight", "control"]) == "Did you mean 'weight'?"
    assert errors.did_you_mean("xyz", ["weight", "control"], "There is weight.") == "There is weight."
    assert errors.did_you_mean("wieght", [], "There is nothing.") == "There is nothing."


def test_a_name_of_a_megabyte_is_compared_by_its_beginning_only() -> None:
    assert errors.nearest("a" * 2**20, ["a" * 63]) == "a" * 63


def test_an_error_reads_as_place_message_and_hint() -> None:
    error = errors.SpecError("no model 'rnak'.", path="pipelines.a", file="t.yaml", line=3, hint="Did you mean 'rank'?")
    assert str(error) == "t.yaml:3 pipelines.a: no model 'rnak'. Did you mean 'rank'?"
    assert str(errors.DocumentError([error])).splitlines()[0] == "the document has 1 error"
    assert str(errors.DocumentError([error, error])).splitlines()[0] == "the document has 2 errors"
