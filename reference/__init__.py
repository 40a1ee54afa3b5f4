"""The mathematics: exact numbers, the true values of every operation, and the vocabulary.

Nothing here needs more than NumPy and the standard library, and nothing trusts the platform's libm.
"""
