"""`${NAME}` and `secret:NAME`: filled in, placed, and never shown."""

import contextlib

import pytest
from tests.spec.conftest import Admit, Refuse

from turnout.errors import DocumentError
from turnout.spec import references, snapshot

BASE = """\
models:
  m: {{code: "a:B", params: {{value: {}}}}}
pipelines:
  p: {{code: predict, models: {{model: m}}}}
endpoints:
  e: {{pipeline: p}}
"""
HIDDEN = "hunter2-do-not-print"


def _value(admitted: snapshot.Snapshot) -> object:
    return admitted.document.models["m"].params["value"]


@pytest.mark.parametrize(
    ("written", "value"),
    [
        ("'${HOST}'", "db"),
        ("'http://${HOST}:${PORT}/x'", "http://db:80/x"),
        ("'$${HOST}'", "${HOST}"),
        ("'$${HOST} ${HOST}'", "${HOST} db"),
        ("$HOST", "$HOST"),
        ("'a $$ b'", "a $$ b"),
        ("'${EMPTY}'", ""),
        ("secret:token", "s3cret"),
        ("'${SNEAKY}'", "secret:token"),
        ("['${HOST}', {deep: '${PORT}'}]", ["db", {"deep": "80"}]),
    ],
)
def test_references_are_filled_in(admit: Admit, written: str, value: object) -> None:
    environment = {"HOST": "db", "PORT": "80", "EMPTY": "", "SNEAKY": "secret:token"}
    admitted = admit(BASE.format(written), environment=environment, read_secret={"token": "s3cret"}.get)
    assert _value(admitted) == value


@pytest.mark.parametrize(
    ("written", "message"),
    [
        ("'${HOTS}'", "environment variable HOTS is not set. Did you mean ${HOST}?"),
        ("'${OTHER}'", "environment variable OTHER is not set. Set it before the start: OTHER=..."),
        ("'${HOST'", "'${HOST' is not a reference."),
        (
            "'${a-b}'",
            "'${a-b}' is not a reference. Write ${NAME} with letters, digits and '_', or $${ for a literal ${.",
        ),
        ("'${}'", "'${}' is not a reference."),
        ("secret:absent", "secret 'absent' is not there."),
        ("secret:../etc/passwd", "'secret:../etc/passwd' is not a reference to a secret."),
        ("'secret:'", "'secret:' is not a reference to a secret."),
        ("{'${HOST}': 1}", "a key holds a reference."),
    ],
)
def test_wrong_reference_is_an_error_with_its_place(refuse: Refuse, written: str, message: str) -> None:
    errors = refuse(BASE.format(written), environment={"HOST": HIDDEN})
    assert errors[0].startswith("turnout.yaml:2 models.m.params.value")
    assert message in errors[0]
    assert HIDDEN not in "".join(errors)


def test_missing_reference_is_told_once(refuse: Refuse) -> None:
    text = BASE.format("1").replace("{pipeline: p}", "{pipeline: p, deadline: '${D}', unit: '${U} ${V}'}")
    assert [error.split(": ", 1)[1].split(".")[0] for error in refuse(text)] == [
        "environment variable D is not set",
        "environment variable U is not set",
        "environment variable V is not set",
    ]


@pytest.mark.parametrize(
    "text",
    [
        BASE.format("1").replace("{pipeline: p}", "{pipeline: p, deadline: '${X}'}"),
        BASE.format("1").replace("{pipeline: p}", "{pipeline: '${X}'}"),
        BASE.format("1").replace("{pipeline: p}", "{pipeline: 'secret:x', fallback: 'secret:x'}"),
        BASE.format("1").replace('"a:B"', "'${X}'"),
        BASE.format("1").replace('code: "a:B"', "runtime: '${X}'"),
        BASE.format("1").replace('code: "a:B"', "source: '${X}'"),
        BASE.format("1").replace(
            'code: "a:B"', "code: 'a:B', threads: '${X}', digest: 'secret:x', timeout: 'secret:x'"
        ),
        BASE.format("1").replace("predict", "'secret:x'"),
        BASE.format("1").replace("{model: m}", "{model: 'secret:x'}"),
        BASE.format("1") + "experiments: {x: {endpoint: e, winner: 'secret:x', seed: 'secret:x', ramp: 'secret:x', "
        "on_missing_unit: 'secret:x', variants: {a: {weight: 'secret:x', overrides: ['secret:x', 'secret:x'], "
        "models: {k: 'secret:x'}}, b: {weight: 1}}}}",
    ],
    ids=range(10),
)
def test_filled_in_values_show_in_no_error(text: str) -> None:
    def no_artifact(source: str) -> str:
        raise FileNotFoundError(2, "No such file", source)

    with pytest.raises(DocumentError) as caught:
        snapshot.admit(
            {"turnout.yaml": text}, environment={"X": HIDDEN}, read_secret=lambda name: HIDDEN, digests=no_artifact
        )
    assert HIDDEN not in str(caught.value)
    assert HIDDEN not in repr(caught.value.__context__)
    assert all(HIDDEN not in f"{error.hint} {error.message} {error.path}" for error in caught.value.errors)


def test_filled_in_values_show_in_no_repr(admit: Admit) -> None:
    admitted = admit(BASE.format("secret:x"), read_secret=lambda name: HIDDEN)
    assert _value(admitted) == HIDDEN
    parts = (admitted, admitted.document, admitted.document.models["m"], admitted.root)
    shown = " ".join(f"{part!r} {part}" for part in parts)
    assert HIDDEN not in shown


def test_revision_does_not_know_what_was_filled_in(admit: Admit) -> None:
    revisions = {admit(BASE.format("'${X}'"), environment={"X": value}).revision for value in ("1", "2")}
    assert len(revisions) == 1


def test_unit_in_a_reference_is_read(admit: Admit) -> None:
    text = BASE.format("1").replace("{pipeline: p}", "{pipeline: p, deadline: '${D}'}")
    assert admit(text, environment={"D": "3s"}).document.endpoints["e"].deadline_s == 3.0


def test_reference_to_a_huge_value_is_refused(refuse: Refuse) -> None:
    errors = refuse(BASE.format("'${X}'"), environment={"X": "x" * 70_000})
    assert errors == ["turnout.yaml:2 models.m.params.value: the value is longer than 65,536 characters."]


def test_reference_gives_text_where_a_number_is_needed(refuse: Refuse) -> None:
    text = BASE.format("1").replace('code: "a:B"', "code: 'a:B', threads: '${N}'")
    assert refuse(text, environment={"N": "4"}) == [
        "turnout.yaml:2 models.m.threads: found '${N}'; expected a whole number. "
        "It is filled in from a reference, which always gives text."
    ]


@pytest.mark.parametrize("wanted", ["code: 'a:B', digest: '${X}'", "code: '${X}'"])
def test_no_stand_in_fits_everything(wanted: str, refuse: Refuse) -> None:
    text = BASE.format("1").replace('code: "a:B"', wanted)
    for environment, read_secret in references.stand_ins({}):
        assert refuse(text, environment=environment, read_secret=read_secret)


@pytest.mark.parametrize("wanted", ["deadline: '${X}'", "description: 'secret:x'"])
def test_one_of_the_stand_ins_fits_a_key_of_any_common_kind(wanted: str) -> None:
    files = {"turnout.yaml": BASE.format("1").replace("{pipeline: p}", f"{{pipeline: p, {wanted}}}")}
    fitting = []
    for environment, read_secret in references.stand_ins({}):
        with contextlib.suppress(DocumentError):
            fitting.append(snapshot.admit(files, environment=environment, read_secret=read_secret))
    assert fitting


def test_what_is_there_needs_no_stand_in() -> None:
    for environment, read_secret in references.stand_ins({"HOST": "db"}, {"token": "s3cret"}.get):
        assert (environment["HOST"], read_secret("token")) == ("db", "s3cret")
        assert environment["PORT"] == read_secret("other") in references.STAND_INS
        assert "PORT" in environment
        assert list(environment) == ["HOST"]
