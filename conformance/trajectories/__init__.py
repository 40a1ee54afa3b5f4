"""Trainings of one small model, step by step beside the reference.

A softmax regression is trained by stochastic gradient descent on the same samples in the same order
(`points.py`) in each of three ways: by the reference, every operation correctly rounded
(`recursion.py`, `recipes.py`); by an op of a framework, the model and the step around it still
correctly rounded (`everything.py`, which begins all of them and records them as `records.py` says);
and by a framework alone, a program such as its users write (`alone.py` runs it,
`adapters/train_alone.py` is it). What is between them is measured and held against bounds that are
derived in `judge.py`. `squared.py` has squared error beside cross-entropy.
"""
