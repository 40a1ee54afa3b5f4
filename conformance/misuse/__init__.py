"""What happens where a loss is called as it is not meant: closed forms, and what frameworks do.

`forms.py` is the mathematics, `catalogue.py` says what a user writes and sees, `measure.py` and
`training.py` ask real subjects. Nobody is accused here: a misuse is the caller's.
"""
