"""The accounting of reported defects: each is asked of the framework that is installed.

Where a law does not say any more what the entry says, the defect went away (or the law its sight).
"""

from __future__ import annotations

import re

import msgspec
import numpy as np
import pytest

from lossaudit.adapters.client import WorkerPool
from lossaudit.adapters.environments import availability
from lossaudit.adapters.in_process import InProcess
from lossaudit.adapters.registry import FRAMEWORKS, offered
from lossaudit.conformance.bench import Bench, Failed, Memory
from lossaudit.conformance.cell import FIRST_FINDING, recorded_case
from lossaudit.conformance.defects import Content, DefectsError, Found, Measured, load
from lossaudit.conformance.known import load as load_known
from lossaudit.conformance.law import NOT_JUDGED, finder
from lossaudit.conformance.laws.registry import law
from lossaudit.conformance.probe import FIELDS
from lossaudit.conformance.run import GRADES

DEFECTS = load()
ASKED = [
    (defect, entry, name)
    for defect in DEFECTS.defects
    for entry in (*defect.found, *defect.measured, *defect.content)
    for name in entry.on
]


def named(asked):
    defect, entry, name = asked
    return f"{defect.id}-{getattr(entry, 'law', '') or entry.field}-{name}"


@pytest.fixture(scope="module")
def benches():
    """Benches of the real subjects under the conventions that they declare, one worker each."""
    with WorkerPool() as pool:
        every, truths = {}, Memory()

        def bench(name, dtype):
            framework = name.partition(":")[0]
            if reason := availability(FRAMEWORKS[framework]):
                pytest.skip(reason)
            if framework not in every:
                every[framework] = offered(FRAMEWORKS[framework], "standard", "cpu")
            subject = next((s for s in every[framework] if s.name == name), None)
            assert subject is not None, f"{name} is no subject any more"
            others = finder(every[framework])(subject)
            return Bench(subject, dtype, pool, subject.semantics, others, truths)

        yield bench


def grades(bench, entry):
    """output -> the grades of its rows; of a call that did not return that of all outputs."""
    case = recorded_case(entry.case, bench.subject)
    case = case.take(np.tile(np.arange(case.rows), entry.copies))
    asked = law(entry.law)
    assert asked.applies(bench.subject), f"{entry.law} does not fit {bench.subject.name}"
    try:
        with np.errstate(all="ignore"):
            verdicts = asked.verdicts(bench, case)
    except Failed as failed:
        status = failed.outcome.status
        grade = status if status in ("crashed", "timed out") else "policy"
        return {output: {grade} for output in asked.judged(bench.subject)}
    judged = {}
    for verdict in verdicts:
        ranks = verdict.grade[verdict.grade != NOT_JUDGED]
        judged.setdefault(verdict.output, set()).update(GRADES[rank] for rank in ranks)
    return judged


def check(bench, defect, entry):
    """Fail where the subject is not as the entry says."""
    here = f"{defect.id} ({defect.title}) of {bench.subject.name}, versions {defect.versions}"
    match entry:
        case Found():
            seen = grades(bench, entry).get(entry.output, set())
            assert entry.kind in seen, (
                f"{here}: {entry.law} says {sorted(seen)} of the {entry.output}, and not "
                f"{entry.kind!r}: if the defect went away, say so in conformance/defects.toml"
            )
        case Content():
            seen = grades(bench, entry)
            assert any(seen.values()), f"{here}: {entry.law} judges nothing of this case"
            every = {grade for found in seen.values() for grade in found}
            worse = sorted(g for g in every if GRADES.index(g) >= FIRST_FINDING)
            assert not worse, f"{here}: it is back, {entry.law} says {worse}"
        case Measured():
            field = next(f for f in FIELDS if f.name == entry.field)
            assert field.fits(bench.subject)
            value = field.measure(bench).value
            assert value == entry.value, (
                f"{here}: {entry.field} is measured {value!r}, and not {entry.value!r}: "
                "say so in conformance/defects.toml"
            )


@pytest.mark.frameworks
@pytest.mark.parametrize("asked", ASKED, ids=map(named, ASKED))
def test_the_installed_framework_is_as_the_entry_says(benches, asked):
    defect, entry, name = asked
    dtype = "float32" if isinstance(entry, Measured) else entry.case.dtype
    check(benches(name, dtype), defect, entry)


@pytest.fixture
def stand_in(torch_subjects, mutants):
    """(key of a torch subject, name of a stand-in) -> its bench; torch is not asked."""

    def bench(key, name):
        every = list(torch_subjects.values())
        subject = torch_subjects[key]
        session = InProcess({s.name: mutants[name](s) for s in every})
        return Bench(
            subject, "float32", session, subject.semantics, finder(every)(subject), Memory()
        )

    return bench


def test_it_fails_where_a_defect_went_away_and_where_one_is_back(stand_in):
    gone, back = (
        next(d for d in DEFECTS.defects if d.id == wanted) for wanted in ("PT-01", "PT-28")
    )
    soft, binary = "cross_entropy.probabilities", "binary_cross_entropy_with_logits"
    check(stand_in(soft, "nan_times_zero"), gone, gone.found[0])
    with pytest.raises(AssertionError, match=r"PT-01 .*'exact'.*if the defect went away"):
        check(stand_in(soft, "right"), gone, gone.found[0])
    check(stand_in(binary, "right"), back, back.content[0])
    with pytest.raises(AssertionError, match=r"PT-28 .*it is back, value says \['violates'\]"):
        check(stand_in(binary, "scaled_loss"), back, back.content[0])


def test_it_fails_where_another_convention_is_measured(stand_in):
    defect = next(d for d in DEFECTS.defects if d.id == "PT-12")
    entry = msgspec.structs.replace(defect.measured[0], value="nan")
    check(stand_in("cross_entropy.index", "right"), defect, defect.measured[0])
    with pytest.raises(AssertionError, match="label_policy is measured 'raises', and not 'nan'"):
        check(stand_in("cross_entropy.index", "right"), defect, entry)


def test_each_known_finding_is_a_reported_defect_or_is_said_to_be_beyond():
    known = [entry.id for entry in load_known().entries]
    assert DEFECTS.unaccounted(known) == [], "say in conformance/defects.toml whose cause they are"
    assert DEFECTS.idle(known) == [], "patterns of conformance/defects.toml that no entry has"


def test_ids_are_told_apart():
    ids = [defect.id for defect in DEFECTS.defects]
    assert len(set(ids)) == len(ids) >= 35


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ((r'law = "value"', 'law = "valeu"'), "defect PT-01: 'valeu' is no law"),
        ((r'kind = "wrong kind"', 'kind = "exact"'), "defect PT-01: kind 'exact' is none of"),
        ((r"==2\.13\.\*", "2.13 or so"), "defect PT-01: Invalid specifier"),
        ((r'title = ".*"', "titel = 1"), "unknown field `titel`"),
        ((r"\[\[defect.found\]\](.|\n)*", ""), "no law, no convention, not gone"),
        ((r"versions", 'gone = "9"\nversions'), "gone, and no law that is content"),
        ((r"\.found(.|\n)*kind = .*", '.content]]\non = []\nlaw = "value"'), "neither 'gone' nor"),
    ],
)
def test_an_entry_that_says_nothing_is_refused(tmp_path, change, said):
    text = """
[[defect]]
id = "PT-01"
title = "a title"
where = "an op"
link = "no issue known"
versions = { torch = "==2.13.*" }
[[defect.found]]
on = ["torch:op[eager,cpu]"]
law = "value"
output = "loss"
kind = "wrong kind"
case = { operation = "cross_entropy", dtype = "float32", inputs = [["0.0"]], target = [0] }
"""
    path = tmp_path / "defects.toml"
    path.write_text(text)
    assert load(path).defects[0].found[0].copies == 1
    pattern, instead = change
    path.write_text(re.sub(pattern, instead, text, count=1))
    with pytest.raises(DefectsError, match=re.escape(said)):
        load(path)


def test_a_file_that_is_none_is_named(tmp_path):
    with pytest.raises(DefectsError, match=r"cannot read .*none\.toml"):
        load(tmp_path / "none.toml")
