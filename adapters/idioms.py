"""How code of one's own is written with each framework: what ported losses are composed of.

A port (`reports/porting.py`) makes one op give what another gave: it smooths, weighs, masks and
divides by hand where the two differ. What it must do follows from the conventions that were
measured, and is the same everywhere; how a row is picked or a class axis moved is the framework's,
and is here as text, as the scripts of findings are. A run carries the texts of its frameworks.

Each text is a template whose braces hold expressions; K is the last axis wherever there is one.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Dict, Tuple  # noqa: UP035


@dataclass(frozen=True)
class OpCall:
    """An op called without a reduction.

    Attributes:
        text: of the call, with {x} for the inputs, {y} for the target, {options} for the keywords
            passed beside them, and {pos_weight} where one must be passed.
        keywords: the options that it takes itself, each with the text that passes it.
    """

    text: str = ""
    keywords: Tuple[Tuple[str, str], ...] = ()  # noqa: UP006

    def passing(self) -> Dict[str, str]:  # noqa: UP006
        return dict(self.keywords)


@dataclass(frozen=True)
class Idioms:
    """The texts of one framework.

    Attributes:
        head: the imports.
        array: of a nested list of numbers.
        number: {a}, of truth values, in the dtype of {b}.
        where: {a} chooses between {b} and {c}, either of which may be a number.
        moved: the axis {b} of {a} moved to {c}.
        total, mean: over all of {a}.
        row_sum, row_mean: over the last axis; row_mass keeps it.
        log_softmax: over the last axis.
        pick: of {a} (..., K) the entry of each label {b} (...).
        of_label: of {a} (K,) the entry of each label {b}.
        log, log1p: of {a}.
        clip: {a} into [{b}, {c}]; at_least: {a}, and {b} where it is less.
        ones, zeros: of the shape of {a}.
    """

    head: str
    array: str
    number: str
    where: str
    moved: str
    total: str
    mean: str
    row_sum: str
    row_mean: str
    row_mass: str
    log_softmax: str
    pick: str
    of_label: str
    log: str
    log1p: str
    clip: str
    at_least: str
    ones: str
    zeros: str


TORCH = Idioms(
    head="import torch\nimport torch.nn.functional as F",
    array="torch.tensor({a})",
    number="{a}.to({b}.dtype)",
    where="torch.where({a}, {b}, {c})",
    moved="torch.movedim({a}, {b}, {c})",
    total="torch.sum({a})",
    mean="torch.mean({a})",
    row_sum="torch.sum({a}, -1)",
    row_mean="torch.mean({a}, -1)",
    row_mass="torch.sum({a}, -1, keepdim=True)",
    log_softmax="F.log_softmax({a}, -1)",
    pick="torch.take_along_dim({a}, {b}[..., None], -1)[..., 0]",
    of_label="{a}[{b}]",
    log="torch.log({a})",
    log1p="torch.log1p({a})",
    clip="torch.clamp({a}, {b}, {c})",
    at_least="torch.clamp({a}, min={b})",
    ones="torch.ones_like({a})",
    zeros="torch.zeros_like({a})",
)

TENSORFLOW = Idioms(
    head="import tensorflow as tf",
    array="tf.constant({a})",
    number="tf.cast({a}, {b}.dtype)",
    where="tf.where({a}, {b}, {c})",
    moved="tf.experimental.numpy.moveaxis({a}, {b}, {c})",
    total="tf.reduce_sum({a})",
    mean="tf.reduce_mean({a})",
    row_sum="tf.reduce_sum({a}, -1)",
    row_mean="tf.reduce_mean({a}, -1)",
    row_mass="tf.reduce_sum({a}, -1, keepdims=True)",
    log_softmax="tf.nn.log_softmax({a})",
    pick="tf.gather({a}, {b}, batch_dims=len({b}.shape))",
    of_label="tf.gather({a}, {b})",
    log="tf.math.log({a})",
    log1p="tf.math.log1p({a})",
    clip="tf.clip_by_value({a}, {b}, {c})",
    at_least="tf.maximum({a}, {b})",
    ones="tf.ones_like({a})",
    zeros="tf.zeros_like({a})",
)

JAX = Idioms(
    head="import jax\nimport jax.numpy as jnp\nimport optax",
    array="jnp.array({a})",
    number="{a}.astype({b}.dtype)",
    where="jnp.where({a}, {b}, {c})",
    moved="jnp.moveaxis({a}, {b}, {c})",
    total="jnp.sum({a})",
    mean="jnp.mean({a})",
    row_sum="jnp.sum({a}, -1)",
    row_mean="jnp.mean({a}, -1)",
    row_mass="jnp.sum({a}, -1, keepdims=True)",
    log_softmax="jax.nn.log_softmax({a})",
    pick="jnp.take_along_axis({a}, {b}[..., None], -1)[..., 0]",
    of_label="{a}[{b}]",
    log="jnp.log({a})",
    log1p="jnp.log1p({a})",
    clip="jnp.clip({a}, {b}, {c})",
    at_least="jnp.maximum({a}, {b})",
    ones="jnp.ones_like({a})",
    zeros="jnp.zeros_like({a})",
)


def keras(backend: str) -> Idioms:
    """Keras on one backend, in its own functions, which are the same on each."""
    return Idioms(
        head=f'import os\n\nos.environ["KERAS_BACKEND"] = "{backend}"\nimport keras',
        array="keras.ops.convert_to_tensor({a})",
        number="keras.ops.cast({a}, {b}.dtype)",
        where="keras.ops.where({a}, {b}, {c})",
        moved="keras.ops.moveaxis({a}, {b}, {c})",
        total="keras.ops.sum({a})",
        mean="keras.ops.mean({a})",
        row_sum="keras.ops.sum({a}, -1)",
        row_mean="keras.ops.mean({a}, -1)",
        row_mass="keras.ops.sum({a}, -1, keepdims=True)",
        log_softmax="keras.ops.log_softmax({a})",
        pick="keras.ops.take_along_axis({a}, {b}[..., None], -1)[..., 0]",
        of_label="keras.ops.take({a}, {b}, axis=0)",
        log="keras.ops.log({a})",
        log1p="keras.ops.log1p({a})",
        clip="keras.ops.clip({a}, {b}, {c})",
        at_least="keras.ops.maximum({a}, {b})",
        ones="keras.ops.ones_like({a})",
        zeros="keras.ops.zeros_like({a})",
    )
