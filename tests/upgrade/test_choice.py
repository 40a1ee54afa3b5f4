"""Which frameworks an upgrade audits: those that both sides have, and load."""

from __future__ import annotations

import pytest

from lossaudit import cli
from lossaudit.adapters.environments import Environment, UnusableEnvironment

SIDES = (Environment("", "/old/bin/python"), Environment("", "/new/bin/python"))


@pytest.fixture
def both(monkeypatch):
    """Choose between environments with these frameworks; some of which do not load."""

    def choose(names, old, new, broken=()):
        def availability(framework, environment):
            there = old if environment is SIDES[0] else new
            return "" if framework.name in there else f"{framework.name} not installed"

        def unloadable(names, *_):
            return {n: f"{n} of the new environment does not load" for n in names if n in broken}

        monkeypatch.setattr("lossaudit.adapters.environments.availability", availability)
        monkeypatch.setattr(cli, "_unloadable", unloadable)
        return cli._in_both(names, None, SIDES, "cpu")

    return choose


def test_all_that_both_have_is_audited_and_the_rest_is_said(both):
    chosen, notes = both(None, {"torch", "jax"}, {"torch", "tensorflow"})
    assert chosen == ["torch"]
    assert notes == [
        "tensorflow is not in the old environment, and so not compared",
        "jax is not in the new environment, and so not compared",
    ]


def test_what_is_asked_for_by_name_must_be_on_both_sides(both):
    with pytest.raises(UnusableEnvironment, match="jax of the new environment: jax not installed"):
        both(["torch", "jax"], {"torch", "jax"}, {"torch"})


def test_a_family_stands_for_those_of_its_members_that_are_there(both):
    chosen, _ = both(["keras"], {"keras", "keras-numpy"}, {"keras", "keras-jax", "torch"})
    assert chosen == ["keras"]


def test_nothing_in_common_is_said_with_what_there_is(both):
    with pytest.raises(UnusableEnvironment, match="in one of them: torch, jax"):
        both(None, {"torch"}, {"jax"})


def test_what_does_not_load_is_left_out_unless_it_was_asked_for(both):
    every = {"torch", "keras-numpy"}
    chosen, notes = both(None, every, every, broken=("keras-numpy",))
    assert (chosen, notes) == (["torch"], ["keras-numpy of the new environment does not load"])
    with pytest.raises(UnusableEnvironment, match="keras-numpy of the new environment"):
        both(["keras-numpy", "torch"], every, every, broken=("keras-numpy",))
    with pytest.raises(UnusableEnvironment, match="torch of the new environment"):
        both(None, {"torch"}, {"torch"}, broken=("torch",))
