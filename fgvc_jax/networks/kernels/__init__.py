"""Operations that the platforms compute each in its own way, one idea a file.

Each says what it buys and where, as a share of a step or, for an accelerator, of the bytes that a
step moves, in a program compiled for it (`scripts/bench.py compiled`). What buys less than 5 % of
one has no place here.
"""
