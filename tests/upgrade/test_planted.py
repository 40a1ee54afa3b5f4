"""Upgrades of a tiny framework with one change each: told as what it is, and nothing beside it."""

from __future__ import annotations

import pytest

from lossaudit.cli import MOVED, NOTHING_NEW, REGRESSED, upgrade_code
from lossaudit.conformance.compare import compare
from lossaudit.conformance.comparison import Comparison
from lossaudit.conformance.engine import NOT_ASKED
from lossaudit.conformance.records import from_record

CE = "tiny:cross_entropy[eager,cpu]"
BCE = "tiny:binary_cross_entropy[eager,cpu]"

# --- the changes ----------------------------------------------------------------------------------

SPREAD_OVER_THE_OTHERS = (
    "+ label_smoothing / classes",
    "+ (1 - hot) * label_smoothing / max(classes - 1, 1)",
)
REFUSED = """\
    if ((y < 0) | (y >= classes)).any():
        raise IndexError(f"a label is not in [0, {classes})")
"""
NAN_FOR_A_WRONG_LABEL = (
    REFUSED,
    """\
    wrong = (y < 0) | (y >= classes)
    if wrong.any():
        loss, gradient = cross_entropy(z, np.where(wrong, 0, y), label_smoothing)
        loss[wrong], gradient[wrong] = np.nan, np.nan
        return loss, gradient
""",
)
ANOTHER_EXCEPTION = ("raise IndexError", "raise ValueError")
OTHER_WORDS = ("a label is not in [0", "labels must be in [0")
WARNS = (
    "    q = hot",
    """\
    if label_smoothing:
        import warnings
        warnings.warn("label_smoothing is slow here", RuntimeWarning, stacklevel=2)
    q = hot""",
)
NUDGED = (
    "    return loss.astype(z.dtype), gradient.astype(z.dtype)",
    """\
    loss = loss.astype(z.dtype)
    # Where an ulp is a smaller part of the value than in the lower half of the binade.
    upper = (loss > 1.5) & (loss < 2)
    loss = np.where(upper, np.nextafter(loss, z.dtype.type(np.inf)), loss)
    return loss, gradient.astype(z.dtype)""",
)
NO_BINARY = ("def binary_cross_entropy(", "def _binary_cross_entropy(")
BINARY_REFUSES = (
    "    z, dtype = z.astype(float), z.dtype",
    "    raise NotImplementedError('use cross_entropy')",
)
NO_SMOOTHING = (
    "def cross_entropy(z, y, label_smoothing=0.0):",
    "def cross_entropy(z, y):\n    label_smoothing = 0.0",
)
WITHOUT_THE_SHIFT = (
    "        return terms.sum(axis=1), e",
    """\
        lost = np.isposinf(np.exp(z)).any(axis=1) & np.isfinite(z).all(axis=1)
        terms = np.where(lost[:, None], np.nan, terms)
        return terms.sum(axis=1), e""",
)
CALLED = "    classes = z.shape[1]\n"


def dies(end: str, where: str) -> tuple[str, str]:
    return (CALLED, f"{CALLED}    import os\n    if {where}:\n        os.{end}\n")


WITH_FLOAT16 = ('["float32"]', '["float32", "float16"]')
REFUSES_FLOAT16 = (
    CALLED,
    f"{CALLED}    if z.dtype == np.float16:\n        raise TypeError('no float16')\n",
)
CHANGES_ITS_INPUTS = (
    "    loss, gradient = _rows(z.astype(float), q)",
    "    wide = z.astype(float)\n    z += 1\n    loss, gradient = _rows(wide, q)",
)

# --- what is said of them -------------------------------------------------------------------------


def kinds(found: Comparison) -> dict[str, set[str]]:
    """The kinds that changed, and the subject and dtypes of each."""
    said: dict[str, set[str]] = {}
    for compared in found.compared:
        for kind in compared.kinds:
            said.setdefault(kind, set()).add(f"{compared.subject} {compared.dtype}")
    return said


def conventions(found: Comparison) -> set[tuple[str, str, str, str]]:
    return {(c.subject, c.field, c.old, c.new) for c in found.conventions}


def presence(found: Comparison) -> set[tuple[str, str, str]]:
    return {(p.subject, p.part, p.state) for p in found.presence}


def regions(found: Comparison, kind: str) -> set[str]:
    return {c.region for c in found.changes if c.kind == kind}


def codes(found: Comparison) -> tuple[int, int, int]:
    """The exit codes under each value of `--fail-on`."""
    moved, regressed, never = (
        upgrade_code(found.verdict, fail_on) for fail_on in ("moved", "regressed", "never")
    )
    return moved, regressed, never


def check_counts(found: Comparison) -> None:
    """Every row is the same or has a kind, and a regression is said by the exit code."""
    for compared in found.compared:
        assert compared.rows == compared.same + sum(compared.kinds.values())
    for change in found.changes:
        assert 0 < change.rows <= change.of
    expected = {
        "nothing moved": (NOTHING_NEW, NOTHING_NEW, NOTHING_NEW),
        "moved": (MOVED, NOTHING_NEW, NOTHING_NEW),
        "regressed": (REGRESSED, REGRESSED, NOTHING_NEW),
    }
    assert codes(found) == expected[found.verdict]
    assert found.complete


IN_FLOAT32 = {f"{CE} float32"}


def test_the_same_version_does_not_move(upgraded):
    found = upgraded(search=True)
    check_counts(found)
    assert found.verdict == "nothing moved"
    assert (kinds(found), conventions(found), presence(found)) == ({}, set(), set())
    assert (found.changes, found.laws, found.notes) == ([], [], [])
    assert found.rows == found.same > 2000
    assert {(d.subject, d.dtype, d.output) for d in found.searched} == {
        (subject, "float32", output) for subject in (CE, BCE) for output in ("loss", "gradient")
    }
    for searched in found.searched:
        assert (searched.kind, searched.differing, searched.largest) == ("", 0, None)
        assert searched.cases
        assert searched.rows
        assert searched.regions


def test_another_smoothing_is_another_convention(upgraded):
    found = upgraded(SPREAD_OVER_THE_OTHERS)
    check_counts(found)
    assert found.verdict == "regressed"
    assert conventions(found) == {(CE, "smoothing", "eps/K", "eps/(K-1)")}
    assert kinds(found) == {"convention": IN_FLOAT32}
    assert presence(found) == set()
    for change in found.changes:
        smoothed = from_record(change.case).options.label_smoothing
        assert smoothed
        assert change.old != change.new
        assert change.old_grade == change.new_grade == "exact", "each is right by its own formula"


def test_a_label_that_is_no_longer_refused_is_another_policy(upgraded):
    found = upgraded(NAN_FOR_A_WRONG_LABEL)
    check_counts(found)
    assert found.verdict == "regressed"
    assert conventions(found) == {(CE, "label_policy", "raises", "nan")}
    assert kinds(found) == {"policy": IN_FLOAT32}
    assert presence(found) == set()
    assert regions(found, "policy") == {"invalid-label", "far-label"}
    assert {c.message for c in found.changes} == {
        "raised IndexError: a label is not in [0, 3) before, returned now"
    }


def test_another_type_of_exception_is_another_policy(upgraded):
    found = upgraded(ANOTHER_EXCEPTION)
    check_counts(found)
    assert found.verdict == "regressed"
    assert kinds(found) == {"policy": IN_FLOAT32}
    assert (conventions(found), presence(found)) == (set(), set())


def test_a_warning_where_it_was_silent_is_another_policy(upgraded):
    found = upgraded(WARNS)
    check_counts(found)
    assert found.verdict == "regressed"
    assert kinds(found) == {"policy": IN_FLOAT32}
    assert (conventions(found), presence(found)) == (set(), set())
    assert {c.message for c in found.changes} == {
        "silent before, RuntimeWarning: label_smoothing is slow here now"
    }


def test_the_same_refusal_in_other_words_is_none(upgraded):
    found = upgraded(OTHER_WORDS)
    check_counts(found)
    assert found.verdict == "nothing moved"
    assert kinds(found) == {"reworded": IN_FLOAT32}
    assert (conventions(found), presence(found)) == (set(), set())


def test_a_drift_of_an_ulp_within_the_bounds_has_moved(upgraded):
    found = upgraded(NUDGED, search=True)
    check_counts(found)
    assert found.verdict == "moved"
    assert kinds(found) == {"moved": IN_FLOAT32}
    assert (conventions(found), presence(found)) == (set(), set())
    for change in found.changes:
        assert (change.output, change.largest, change.move) == ("loss", 1.0, 1.0)
        assert change.farther == change.rows, "what was correctly rounded is farther away"
        assert change.old == change.right != change.new
    told = {(d.subject, d.output) for d in found.searched if d.kind}
    assert told == {(CE, "loss")}, "the search finds it too"
    assert {d.kind for d in found.searched} == {"", "moved"}


def test_an_op_that_is_gone_is_a_lost_subject_and_a_new_one_is_none(upgraded):
    found = upgraded(NO_BINARY)
    check_counts(found)
    assert found.verdict == "regressed"
    assert presence(found) == {(BCE, "", "gone")}
    assert (kinds(found), conventions(found)) == ({}, set())


def test_an_op_that_only_raises_is_gone(upgraded):
    found = upgraded(BINARY_REFUSES, search=True)
    check_counts(found)
    assert found.verdict == "regressed"
    assert presence(found) == {(BCE, "", "gone")}
    assert found.presence[0].reason == "NotImplementedError: use cross_entropy"
    assert (kinds(found), conventions(found)) == ({}, set())
    assert BCE not in {d.subject for d in found.searched}, "there is nothing to search"


def test_an_option_that_is_refused_is_gone(upgraded):
    found = upgraded(NO_SMOOTHING)
    check_counts(found)
    assert found.verdict == "regressed"
    assert presence(found) == {(CE, "label_smoothing", "gone")}
    assert "unexpected keyword argument 'label_smoothing'" in found.presence[0].reason
    assert (kinds(found), conventions(found)) == ({}, set())


def test_an_option_that_is_not_declared_any_more_is_gone(upgraded, direct):
    found = upgraded(NO_SMOOTHING, adapter=direct)
    check_counts(found)
    assert found.verdict == "regressed"
    name = "direct:cross_entropy[eager,cpu]"
    assert presence(found) == {(name, "label_smoothing", "gone")}
    assert (kinds(found), conventions(found)) == ({}, set())


def test_a_new_option_is_no_regression(upgraded, version, direct):
    found = upgraded(old=version(NO_SMOOTHING), adapter=direct)
    check_counts(found)
    assert found.verdict == "nothing moved"
    name = "direct:cross_entropy[eager,cpu]"
    assert presence(found) == {(name, "label_smoothing", "new")}
    assert (kinds(found), conventions(found)) == ({}, set())


@pytest.mark.parametrize("changes", [(), (WITH_FLOAT16, REFUSES_FLOAT16)])
def test_a_dtype_that_is_not_offered_or_refused_is_gone(upgraded, version, changes):
    found = upgraded(*changes, old=version(WITH_FLOAT16), search=True)
    check_counts(found)
    assert found.verdict == "regressed"
    assert presence(found) == {(CE, "float16", "gone")}
    assert (kinds(found), conventions(found)) == ({}, set())
    assert (CE, "float16") not in {(d.subject, d.dtype) for d in found.searched}
    assert {d.kind for d in found.searched} == {""}


def test_a_row_that_leaves_its_bounds_is_worse(upgraded):
    found = upgraded(WITHOUT_THE_SHIFT)
    check_counts(found)
    assert found.verdict == "regressed"
    assert kinds(found) == {"worse": IN_FLOAT32}
    assert (conventions(found), presence(found)) == (set(), set())
    assert regions(found, "worse") == {"huge", "large-offset"}
    for change in found.changes:
        assert (change.output, change.new, change.new_grade) == ("loss", ["nan"], "wrong kind")
        assert change.old == change.right
        assert change.largest is None, "no ulps lead to a NaN"


def test_mending_it_is_better(upgraded, version):
    found = upgraded(old=version(WITHOUT_THE_SHIFT))
    check_counts(found)
    assert found.verdict == "moved"
    assert kinds(found) == {"better": IN_FLOAT32}
    assert (conventions(found), presence(found)) == (set(), set())
    assert regions(found, "better") == {"huge", "large-offset"}


@pytest.mark.parametrize(
    ("end", "said"),
    [("_exit(7)", "ended with exit status 7"), ("abort()", "was killed by SIGABRT")],
)
def test_a_crash_in_one_region_is_a_crash_there_alone(upgraded, end, said):
    found = upgraded(dies(end, "np.isnan(z).any()"))
    check_counts(found)
    assert found.verdict == "regressed"
    assert kinds(found) == {"crashed": IN_FLOAT32}
    assert (conventions(found), presence(found), found.notes) == (set(), set(), [])
    (change,) = found.changes
    assert (change.region, change.message) == (
        "nan",
        f"returned before, crashed the worker {said} now",
    )


def test_what_is_not_asked_after_many_crashes_is_said_and_not_called_gone(upgraded, version):
    """The third crash ends the audit of a subject: of the rest nothing is known."""
    crash = dies("abort()", "z.dtype == np.float32 and (z[:, 0] > 2).any()")
    found = upgraded(WITH_FLOAT16, crash, old=version(WITH_FLOAT16), search=True)
    check_counts(found)
    assert found.verdict == "regressed"
    assert kinds(found) == {"crashed": IN_FLOAT32}
    assert (conventions(found), presence(found)) == (set(), set())
    left_out = sorted(note for note in found.notes if "too many calls" in note)
    for note, dtype in zip(left_out, ("float16", "float32"), strict=True):
        assert note.startswith(f"{CE} {dtype}: ")
        assert NOT_ASKED in note
    crashed = [d for d in found.searched if d.kind]
    assert {(d.subject, d.dtype, d.kind) for d in crashed} == {(CE, "float32", "crashed")}
    for searched in crashed:
        assert searched.largest is None
        assert searched.case is not None
        case = from_record(searched.case)
        assert case.rows == 1, "one row that kills the new version alone"
        assert case.inputs[0, 0] > 2
        assert searched.old
        assert not searched.new


def test_a_crash_with_a_wrong_label_is_a_crash(workshop, version, tmp_path):
    change = (REFUSED, REFUSED.replace("raise IndexError", "import os; os._exit(1); raise"))
    work, old, new = workshop.upgrade(tmp_path / "upgrade", version(), version(change))
    work.close(done=True)
    found = compare(old, new)
    check_counts(found)
    assert found.verdict == "regressed"
    assert set(kinds(found)) == {"crashed"}
    assert regions(found, "crashed") <= {"invalid-label", "far-label"}
    assert presence(found) == set()
    assert not [i for i in new.incidents if i.message.startswith("internal:")]


def test_inputs_that_are_changed_are_told(upgraded):
    found = upgraded(CHANGES_ITS_INPUTS)
    check_counts(found)
    assert found.verdict == "regressed"
    assert set(kinds(found)) == {"policy"}
    assert all("silent before" in c.message for c in found.changes)


def test_two_changes_at_once_are_told_apart(upgraded):
    found = upgraded(SPREAD_OVER_THE_OTHERS, NUDGED, OTHER_WORDS, NO_BINARY)
    check_counts(found)
    assert found.verdict == "regressed"
    assert set(kinds(found)) == {"convention", "moved", "reworded"}
    assert conventions(found) == {(CE, "smoothing", "eps/K", "eps/(K-1)")}
    assert presence(found) == {(BCE, "", "gone")}
    for change in found.changes:
        if change.kind == "convention":
            assert from_record(change.case).options.label_smoothing
