"""Can the referee be trusted? `audit` measures it in one table, from `pools.pool_table` or `pools.verdict_table`.

Seat bias: both orders show the same two answers, so (first seat - second seat) averaged over the orders is what a
seat is worth, whichever answer is better. The other measures are length bias, ties, mean scores, agreement of two
referees (or two runs of one), and how many instructions change sides when tau moves. Intervals are 95 %: Wilson for
shares (and through it for kappa), normal for means, Fisher for correlations. They cover the choice of instructions
only. A correlation of gap and length is no proof of bias: longer answers may be better. Agreement with people is not
measured.
"""

import math

import numpy as np
import pandas as pd

Z = 1.96
Row = tuple[str, float, float, float, int, str]
"""measure, value, low, high, n, how to read it"""
SEATS = ["teacher_first_teacher", "teacher_first_student", "student_first_teacher", "student_first_student"]


def audit(table: pd.DataFrame, tau: float = 1.0, other: pd.DataFrame | None = None) -> pd.DataFrame:
    """One row a measure. Columns: measure, value, low, high (95 % interval), n (pairs counted), reading.

    `other`: the same instructions judged by a second referee or in a second run, for agreement. Length bias needs
    pool_table's responses. A measure without data (one order only, say) is NaN with n = 0.
    """
    decided = table.dropna(subset="gap")
    one, two = _orders(decided)
    rows = [
        _share("undecided", table["gap"].isna(), "pairs with an unscored order; in no other measure"),
        _mean("seat bias", (one - two) / 2, "points by which the first seat is favoured; 0 is fair"),
        _share("label flips", (one >= tau) != (two >= tau), "hard in one order, easy in the other"),
        _share("winner flips", one * two < 0, "the better answer changes with the order"),
    ]
    if "teacher_response" in table:
        note = "correlation of gap and length difference"
        rows.append(_correlation("length bias", decided["gap"], length_difference(decided), note))
    rows.append(_share("ties", decided["gap"] == 0, "pairs scored equal; many ties mean a coarse scale"))
    rows.append(_mean("teacher's score", decided["teacher"], "close to 10 leaves no room above"))
    rows.append(_mean("student's score", decided["student"], ""))
    rows += [_sides(decided["gap"], tau, step) for step in (-0.5, 0.5)]
    rows += agreement(table, other, tau) if other is not None else []
    return pd.DataFrame(rows, columns=["measure", "value", "low", "high", "n", "reading"])


def seat_advantage(table: pd.DataFrame) -> pd.Series:
    """Points by which the first seat is favoured, a value for each pair scored in both orders, in [-9, 9]."""
    one, two = _orders(table)
    return (one - two) / 2


def length_difference(table: pd.DataFrame) -> pd.Series:
    """Teacher's minus student's length of a `pool_table`'s responses, in characters."""
    return table["teacher_response"].map(len) - table["student_response"].map(len)


def paired_gaps(table: pd.DataFrame, other: pd.DataFrame) -> pd.DataFrame:
    """Columns id, gap_x, gap_y: the gaps of instructions decided in both tables."""
    one, two = (t.rename(columns={"instruction_id": "id"})[["id", "gap"]].dropna() for t in (table, other))
    return one.merge(two, on="id")


def sides_by_tau(table: pd.DataFrame, tau: float = 1.0) -> pd.DataFrame:
    """What moving tau by up to 1 does, in tenths. Columns: tau, share (of decided pairs changing sides), low, high."""
    rows = [(round(tau + step, 6), *_sides(table["gap"].dropna(), tau, step)[1:4]) for step in np.arange(-10, 11) / 10]
    return pd.DataFrame(rows, columns=["tau", "share", "low", "high"])


def agreement(table: pd.DataFrame, other: pd.DataFrame, tau: float = 1.0) -> list[Row]:
    """Of two judgements of the same instructions: Cohen's kappa on hard/easy at tau, and correlation of the gaps."""
    both = paired_gaps(table, other)
    one, two = both["gap_x"], both["gap_y"]
    hard_one, hard_two = one >= tau, two >= tau
    chance = hard_one.mean() * hard_two.mean() + (1 - hard_one.mean()) * (1 - hard_two.mean())  # NaN for no pairs
    _, *observed, _, _ = _share("", hard_one == hard_two, "")
    kappa, low, high = ((share - chance) / (1 - chance) if chance < 1 else math.nan for share in observed)
    note = "agreement on hard/easy beyond chance; 1 is full, 0 is none"
    correlation = _correlation("agreement (gaps)", one, two, "correlation of the two gaps")
    return [("agreement (kappa)", kappa, low, high, len(both), note), correlation]


def _orders(table: pd.DataFrame) -> tuple[pd.Series, pd.Series]:
    """The gap (teacher - student) in each order, of the pairs scored in both."""
    both = table.dropna(subset=SEATS)
    return tuple((both[teacher] - both[student]).round(6) for teacher, student in (SEATS[:2], SEATS[2:]))


def _sides(gaps: pd.Series, tau: float, step: float) -> Row:
    other = round(tau + step, 6)
    moved = (gaps >= tau) != (gaps >= other)
    return _share(f"sides changed at tau {other:g}", moved, f"instructions whose label hangs on tau = {tau:g}")


def _share(measure: str, chosen: pd.Series, reading: str) -> Row:
    """Share with Wilson's interval, which stays in [0, 1] and is right for 0 of n."""
    n, share = len(chosen) or math.nan, float(chosen.mean())  # all are NaN for none
    spread = Z**2 / n
    middle = (share + spread / 2) / (1 + spread)
    margin = Z * math.sqrt(share * (1 - share) / n + spread / (4 * n)) / (1 + spread)
    low, high = np.clip([middle - margin, middle + margin], 0, 1)
    return measure, share, min(low, share), max(high, share), len(chosen), reading  # rounding may part them at 0 and 1


def _mean(measure: str, values: pd.Series, reading: str) -> Row:
    mean, margin = float(values.mean()), Z * float(values.sem())
    return measure, mean, mean - margin, mean + margin, len(values), reading


def _correlation(measure: str, one: pd.Series, two: pd.Series, reading: str) -> Row:
    """Pearson's r with Fisher's interval; NaN where a side does not vary."""
    n, r = len(one), one.corr(two, min_periods=4)
    at, margin = np.arctanh(np.clip(r, -1 + 1e-12, 1 - 1e-12)), Z / math.sqrt(max(n - 3, 1))
    return measure, r, float(np.tanh(at - margin)), float(np.tanh(at + margin)), n, reading
