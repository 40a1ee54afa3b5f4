"""The code that makes one op give what another gave, composed of small pieces.

What is done follows from the conventions that the run measured: the loss of each row is taken from
the new op, unreduced; whatever the old op does to targets, probabilities, rows and means, and the
new one does not, or does otherwise, is written by hand. How that is written with a framework are
texts of the run (`adapters/idioms.py`): nothing here knows a framework.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from ..conformance.run import Convention

FORMULAS = ("eps/K", "eps/(K-1)", "toward 1/2")
MEANS = ("weights", "valid", "rows")
AXES = ("second", "last")
OF_ELEMENTS = "mean of elements"
PORTED = (
    "cross_entropy",
    "cross_entropy_probabilities",
    "binary_cross_entropy_with_logits",
    "binary_cross_entropy",
    "kl_divergence",
)
PLAIN = Convention(subject="", field="", declared="", measured="", agrees=None, evidence="")


class NoSnippet(Exception):
    """No code is composed; the text says why."""


@dataclass(frozen=True)
class Op:
    """An op in the modes in which nothing differs: what a reader chooses.

    Attributes:
        framework, op, modes, operation, target: as in SubjectRecord.
        subjects: the names of those that it stands for.
        conventions: what was measured of it, or why nothing was, by field.
        options, reductions: what it takes.
        call, keywords: as in SubjectRecord.
    """

    framework: str
    op: str
    modes: tuple[str, ...]
    operation: str
    target: str
    subjects: tuple[str, ...]
    conventions: Mapping[str, Convention]
    options: frozenset[str]
    reductions: tuple[str, ...]
    call: str = ""
    keywords: Mapping[str, str] = field(default_factory=dict)

    @property
    def name(self) -> str:
        return f"{self.framework} {self.op}"

    def says(self, field_name: str) -> str:
        """What was measured of a field; "" where nothing was, or the op has no such thing."""
        return self.conventions.get(field_name, PLAIN).measured

    @property
    def smooths(self) -> bool:
        return "label_smoothing" in self.options and self.says("smoothing") in FORMULAS

    @property
    def ignores(self) -> bool:
        return "ignore_index" in self.options

    @property
    def reduces(self) -> bool:
        return any(name != "none" for name in self.reductions)

    @property
    def unasked(self) -> str:
        """The label that it ignores unasked just as one that it is told to ignore; "" for none."""
        label = self.says("ignore_index")
        alike = self.says("unasked_mean") == "left out" or not self.reduces
        return label if self.ignores and alike and label.lstrip("-").isdigit() else ""


def guard_of(text: str) -> tuple[str, str]:
    """("clip", "1e-07") of "clip at 1e-07", ("clamp", "-100") of "log >= -100", else (text, "")."""
    for words, name in (("clip at ", "clip"), ("log >= ", "clamp")):
        if text.startswith(words):
            return name, str(float(text[len(words) :]))
    return text, ""


@dataclass(frozen=True)
class Port:
    """From an op to another: which parts the new one does itself, and the code."""

    old: Op
    new: Op
    texts: Mapping[str, str]

    def _say(self, idiom: str, a: str, b: str = "", c: str = "") -> str:
        """An idiom of the framework, filled in at once, so that no text is filled twice."""
        pieces = {"{a}": a, "{b}": b, "{c}": c}
        return filled(self.texts[idiom], pieces)

    # --- what the new op does as the old one did

    def same(self, name: str) -> bool:
        return self.old.says(name) == self.new.says(name)

    @property
    def passes_weight(self) -> bool:
        return "weight" in self.old.options and "weight" in self.new.keywords and not self._by_class

    @property
    def _by_class(self) -> bool:
        """Whether the row's weight comes after all else, as a factor of it."""
        return self.old.says("weighted_smoothing") == "label" and self.smooths_by_hand

    @property
    def smooths_by_hand(self) -> bool:
        if not self.old.smooths:
            return False
        alike = self.same("smoothing") and "label_smoothing" in self.new.keywords
        # Of shares that sum to 1, eps/K is another part than of their mass.
        alike = alike and not self.by_mass
        if "weight" in self.old.options:
            weighs = "weight" in self.new.keywords and self.same("weighted_smoothing")
            # Smoothed by the op and weighed by hand, each term would have the weight of the label.
            alike = alike and weighs
        return not alike

    @property
    def passes_smoothing(self) -> bool:
        return self.old.smooths and not self.smooths_by_hand

    @property
    def passes_pos_weight(self) -> bool:
        taken = "pos_weight" in self.new.keywords or "{pos_weight}" in self.new.call
        return "pos_weight" in self.old.options and taken and self.same("pos_weight")

    @property
    def turns(self) -> bool:
        """Whether inputs of three dimensions are turned, so that both see their own class axis."""
        axes = self.old.says("class_axis"), self.new.says("class_axis")
        return set(axes) <= set(AXES) and (axes[0] != axes[1] or self._by_hand_over_classes)

    @property
    def _by_hand_over_classes(self) -> bool:
        if self.old.target == "binary":
            return False
        weighs = self.old.target == "distribution" and "weight" in self.old.options
        by_hand = weighs and not self.passes_weight
        return by_hand or self.smooths_by_hand or self.by_mass or self.guards_by_hand

    @property
    def by_mass(self) -> bool:
        """Whether the new gradient is that of targets that sum to 1, and the old one is not."""
        return self.old.says("soft_gradient") == "sum(q) p - q" and not self.same("soft_gradient")

    @property
    def guards_by_hand(self) -> bool:
        """Whether the new guard stands in the way of the old one: the loss is then written out."""
        if self.same("guard") and self.same("renormalise"):
            return False
        return self.old.says("guard") != "" and not self.clips_first

    @property
    def clips_first(self) -> bool:
        """Whether probabilities that are clipped before the call never come to the new guard."""
        if self.same("guard") or self.old.target != "binary":
            return False
        (old, eps), (new, limit) = (guard_of(op.says("guard")) for op in (self.old, self.new))
        if old != "clip":
            return False
        return (
            new == "none"
            or (new == "clip" and float(limit) <= float(eps))
            # log(eps) > -100: eps > 4e-44, which every guard of a format above it is.
            or (new == "clamp" and float(eps) > 2.0 ** float(limit))
        )

    # --- the code

    def code(self) -> str:
        """A function that takes what the old op takes, and a call of it.

        Raises:
            NoSnippet: where there is none, and why.
        """
        self._demand()
        body = [*self._prepared(), *self._rows(), *self._reduced()]
        head = [
            self.texts["head"],
            "",
            "",
            f"def ported({', '.join((*self._arrays, *self._parameters()))}):",
            *(f"    {line}" for line in body),
        ]
        return "\n".join([*head, "", "", *self._example()]) + "\n"

    def _demand(self) -> None:
        old, new = self.old, self.new
        if old.operation not in PORTED:
            raise NoSnippet(f"No snippet is composed for {old.operation}: see what differs.")
        if not new.call or not self.texts:
            where = f"{new.name} ({', '.join(new.modes)})"
            raise NoSnippet(f"This run has no call of {where} that a snippet could be made of.")
        if not old.options and not old.reductions:
            raise NoSnippet(f"This run does not say what {old.name} takes.")
        unknown = ""
        if {"weight", "label_smoothing"} <= old.options and old.target == "index":
            unknown = "" if old.says("weighted_smoothing") else "weighs smoothed labels"
        if "label_smoothing" in old.options and not old.smooths:
            unknown = "smooths labels"
        if "pos_weight" in old.options and not old.says("pos_weight"):
            unknown = "takes pos_weight"
        if old.says("guard") == "" and "probabilities" in old.operation:
            unknown = "guards probabilities"
        if guard_of(old.says("guard"))[0] not in ("", "none", "clip", "clamp"):
            unknown = "guards probabilities"
        if old.target == "binary":
            for op in (old, new):
                if op.says("last_axis") not in ("kept", "mean"):
                    raise NoSnippet(f"What {op.name} does with a last axis was not measured.")
        means = old.reduces and old.operation != "kl_divergence"
        if means and "mean" in old.reductions and old.says("mean") not in MEANS:
            unknown = "divides its mean"
        if unknown:
            raise NoSnippet(f"How {old.name} {unknown} is not known from this run.")

    @property
    def _x(self) -> str:
        if self.old.operation == "kl_divergence":
            return "log_p"
        return "z" if self.old.operation in (PORTED[0], PORTED[2]) else "p"

    @property
    def _y(self) -> str:
        return "q" if self.old.target == "distribution" else "y"

    @property
    def _arrays(self) -> tuple[str, str]:
        return self._x, self._y

    def _parameters(self) -> list[str]:
        old, found = self.old, []
        if "weight" in old.options:
            found.append("weight=None")
        if "pos_weight" in old.options:
            found.append("pos_weight=1.0")
        if old.smooths:
            found.append("label_smoothing=0.0")
        if old.ignores:
            found.append(f"ignore_index={old.unasked or None}")
        if "sample_weight" in old.options:
            found.append("sample_weight=None")
        if old.reduces:
            found.append(f'reduction="{self._default}"')
        return found

    @property
    def _default(self) -> str:
        says = self.old.says("default_reduction")
        return says if says in (*self.old.reductions, OF_ELEMENTS) else "none"

    def _prepared(self) -> list[str]:
        """The inputs and the target as the new op is to see them."""
        y, lines = self._y, []
        if self.turns and self.old.says("class_axis") == "second":
            lines += [f"{n} = {self._say('moved', n, '1', '-1')}" for n in self._with_classes]
        if self.old.ignores:
            lines += [
                f"kept = ({y} == {y}) if ignore_index is None else ({y} != ignore_index)",
                f"{y} = {self._say('where', 'kept', y, '0')}",
            ]
        if self.smooths_by_hand and self.old.target != "index":
            lines += ["if label_smoothing:", f"    {y} = {self._smoothed_target()}"]
        by_hand = "weight" in self.old.options and not self.passes_weight
        if by_hand and self.old.target == "distribution":
            lines += ["if weight is not None:", f"    {y} = {y} * weight"]
        if self.clips_first or self.guards_by_hand:
            lines += self._guarded()
        return lines

    @property
    def _with_classes(self) -> list[str]:
        return [self._x, self._y] if self.old.target == "distribution" else [self._x]

    def _smoothed_target(self) -> str:
        y, formula = self._y, self.old.says("smoothing")
        own = f"(1 - label_smoothing) * {y} + label_smoothing"
        if formula == "toward 1/2":
            return f"{own} / 2"
        if formula == "eps/K":
            return f"{own} / {y}.shape[-1]"
        others = f"({self._say('row_mass', y)} - {y})"
        return f"{own} / ({y}.shape[-1] - 1) * {others}"

    def _guarded(self) -> list[str]:
        """Probabilities as the old op took their logarithm."""
        x, (guard, number) = self._x, guard_of(self.old.says("guard"))
        whole = [f"{x} = {x} / {self._say('row_mass', x)}"]
        lines = whole if self.old.says("renormalise") == "before" else []
        if guard == "clip":
            lines = [*lines, f"{x} = {self._say('clip', x, number, f'1 - {number}')}"]
        return [*lines, *whole] if self.old.says("renormalise") == "after" else lines

    def _rows(self) -> list[str]:
        if self.guards_by_hand:
            return self._written_out()
        if self.old.target == "index":
            return self._rows_of_labels()
        if self.old.target == "binary":
            return self._rows_of_pairs()
        if not self.by_mass:
            return self._called("rows", self._x, self._y)
        y = self._y
        return [
            f"mass = {self._say('row_mass', y)}  # the op takes targets that sum to 1",
            f"share = {y} / {self._say('where', 'mass == 0', '1.0', 'mass')}",
            *self._called("rows", self._x, "share"),
            "rows = rows * mass[..., 0]",
        ]

    def _rows_of_labels(self) -> list[str]:
        x, y = self._x, self._y
        lines = self._called("rows", x, y)
        weighs = "weight" in self.old.options
        weighed = [
            "if weight is not None:",
            f"    rows = rows * {self._say('of_label', 'weight', y)}",
        ]
        if weighs and not self.passes_weight and not self._by_class:
            lines += weighed
        if self.smooths_by_hand:
            lines += self._smoothed_rows()
        if weighs and self._by_class:
            lines += weighed
        return lines

    def _smoothed_rows(self) -> list[str]:
        """(1 - eps) of the loss of the label, and eps of those of all classes."""
        each = [f"    each = -{self._say('log_softmax', self._x)}"]
        if "weight" in self.old.options and not self._by_class:
            each += ["    if weight is not None:", "        each = each * weight"]
        spread, classes = self._say("row_sum", "each"), f"{self._x}.shape[-1]"
        if self.old.says("smoothing") == "eps/(K-1)":
            spread, classes = f"({spread} - rows)", f"({classes} - 1)"
        share = f"label_smoothing / {classes} * {spread}"
        return ["if label_smoothing:", *each, f"    rows = (1 - label_smoothing) * rows + {share}"]

    def _rows_of_pairs(self) -> list[str]:
        x, y = self._x, self._y
        lines, a, b = [], x, y
        if self.new.says("last_axis") == "mean":  # each element as a row of its own
            lines, a, b = [f"wide, target = {x}[..., None], {y}[..., None]"], "wide", "target"
        if "pos_weight" not in self.old.options or self.passes_pos_weight:
            return [*lines, *self._called("rows", a, b), *self._last()]
        if self.old.says("pos_weight") == "both terms":
            return [*lines, *self._called("rows", a, b), "rows = pos_weight * rows", *self._last()]
        return [
            *lines,
            *self._called("positive", a, self._say("ones", b)),
            *self._called("negative", a, self._say("zeros", b)),
            f"rows = pos_weight * {y} * positive + (1 - {y}) * negative",
            *self._last(),
        ]

    def _last(self) -> list[str]:
        if self.old.says("last_axis") != "mean":
            return []
        return [f"rows = {self._say('row_mean', 'rows')}"]

    def _called(self, name: str, x: str, y: str) -> list[str]:
        """The line that calls the new op, in the layout that it takes."""
        lines = []
        if self.turns and self.new.says("class_axis") == "second":
            moved = [self._say("moved", n, "-1", "1") for n in (x, y)]
            if self.old.target == "distribution":
                lines, x, y = [f"inputs, target = {', '.join(moved)}"], "inputs", "target"
            else:
                lines, x = [f"inputs = {moved[0]}"], "inputs"
        passed = (
            ("weight", self.passes_weight),
            ("label_smoothing", self.passes_smoothing),
            ("pos_weight", self.passes_pos_weight and "pos_weight" in self.new.keywords),
        )
        options = "".join(f", {self.new.keywords[option]}" for option, is_so in passed if is_so)
        pieces = {
            "{x}": x,
            "{y}": y,
            "{options}": options,
            "{pos_weight}": "pos_weight" if self.passes_pos_weight else "1.0",
        }
        return [*lines, f"{name} = {filled(self.new.call, pieces)}"]

    def _written_out(self) -> list[str]:
        """The loss from its logarithms, where the new op would guard them in its own way."""
        x, y, (guard, floor) = self._x, self._y, guard_of(self.old.says("guard"))

        def guarded(log: str) -> str:
            return self._say("at_least", log, floor) if guard == "clamp" else log

        if self.old.target == "index":
            picked = self._say("pick", x, y)
            return [f"rows = -{guarded(self._say('log', picked))}"]
        terms = [(y, guarded(self._say("log", x)))]
        if self.old.target == "binary":
            terms += [(f"(1 - {y})", guarded(self._say("log1p", f"-{x}")))]
        products = [f"{share} * {log}" for share, log in terms]
        if guard == "none":  # a share of 0 costs nothing, at p = 0 too
            products = [
                self._say("where", f"{share} == 0", "0.0", product)
                for (share, _), product in zip(terms, products, strict=True)
            ]
        if self.old.target == "binary":
            return [f"rows = -({' + '.join(products)})", *self._last()]
        return [f"rows = -{self._say('row_sum', products[0])}"]

    def _reduced(self) -> list[str]:
        old, lines = self.old, []
        if old.ignores:
            lines.append(f"rows = {self._say('where', 'kept', 'rows', '0.0')}")
        if "sample_weight" in old.options:
            lines += ["if sample_weight is not None:", "    rows = rows * sample_weight"]
        if "sum" in old.reductions:
            lines += ['if reduction == "sum":', f"    return {self._say('total', 'rows')}"]
        if self._default == OF_ELEMENTS:
            over = f"{self._say('mean', 'rows')} / {self._x}.shape[-1]"
            lines += [f'if reduction == "{OF_ELEMENTS}":', f"    return {over}"]
        elif "mean" in old.reductions and old.operation != "kl_divergence":
            lines += ['if reduction == "mean":', *(f"    {line}" for line in self._mean())]
        return [*lines, "return rows"]

    def _mean(self) -> list[str]:
        old, total = self.old, self._say("total", "rows")
        weighs = "weight" in old.options and old.target == "index"
        by_weight = old.says("mean") == "weights" and weighs
        if old.says("mean") == "rows" or not (by_weight or old.ignores):
            return [f"return {self._say('mean', 'rows')}"]
        kept = self._say("number", "kept", "rows") if old.ignores else self._say("ones", "rows")
        lines = [f"counted = {kept}"]
        if by_weight:
            weighed = f"counted * {self._say('of_label', 'weight', self._y)}"
            lines += ["if weight is not None:", f"    counted = {weighed}"]
        lines.append(f"count = {self._say('total', 'counted')}")
        if old.says("all_ignored") == "zero":
            lines.append(f"count = {self._say('where', 'count == 0', '1.0', 'count')}")
        return [*lines, f"return {total} / count"]

    def _example(self) -> list[str]:
        """A call on two small rows, with all that the old op takes."""
        x, y = EXAMPLE[self._x, self.old.target]
        named = dict(zip(self._arrays, (x, y), strict=True))
        if self.old.ignores:
            named[self._y] = "[0, 1]"
        values = {name: self._say("array", text) for name, text in named.items()}
        given = [*self._arrays]
        if "weight" in self.old.options:
            given.append(f"weight={self._say('array', '[4.0, 1.0, 2.0]')}")
        if "pos_weight" in self.old.options:
            given.append("pos_weight=4.0")
        if self.old.smooths:
            given.append("label_smoothing=0.25")
        if self.old.ignores:
            given.append("ignore_index=1")
        lines = [f"{name} = {value}" for name, value in values.items()]
        return [*lines, f"print(ported({', '.join(given)}))"]


EXAMPLE = {
    ("z", "index"): ("[[1.0, 0.0, 4.0], [4.0, 1.0, 0.0]]", "[0, 2]"),
    ("p", "index"): ("[[0.5, 0.375, 0.125], [0.125, 0.5, 0.375]]", "[0, 2]"),
    ("z", "distribution"): (
        "[[1.0, 0.0, 4.0], [4.0, 1.0, 0.0]]",
        "[[0.125, 0.375, 0.5], [0.5, 0.375, 0.125]]",
    ),
    ("p", "distribution"): (
        "[[0.5, 0.375, 0.125], [0.125, 0.5, 0.375]]",
        "[[0.125, 0.375, 0.5], [0.5, 0.375, 0.125]]",
    ),
    ("log_p", "distribution"): (
        "[[-0.5, -1.5, -2.0], [-2.0, -0.5, -1.5]]",
        "[[0.125, 0.375, 0.5], [0.5, 0.375, 0.125]]",
    ),
    ("z", "binary"): ("[[1.0], [-2.0]]", "[[1.0], [0.25]]"),
    ("p", "binary"): ("[[0.25], [0.375]]", "[[1.0], [0.25]]"),
}
"""Short numbers for each kind of inputs and target."""


def filled(text: str, pieces: Mapping[str, str]) -> str:
    """A template with its places filled; other braces, and those of a piece, stay as they are."""
    return _filled(text, tuple(pieces.items()))


def _filled(text: str, pieces: tuple[tuple[str, str], ...]) -> str:
    if not pieces:
        return text
    (place, piece), rest = pieces[0], pieces[1:]
    return piece.join(_filled(part, rest) for part in text.split(place))
