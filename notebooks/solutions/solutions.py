"""One solution to each exercise of the notebooks, in their order; the tests run them through the checks."""

from __future__ import annotations

import math
import random
import re
from itertools import zip_longest


# 00 · Start here
def gap(teacher_first, student_first):
    if None in (*teacher_first, *student_first):
        return None
    return (teacher_first[0] + student_first[0]) / 2 - (teacher_first[1] + student_first[1]) / 2


def dollars(prompt_tokens, reply_tokens, price_prompt, price_reply):
    return (prompt_tokens * price_prompt + reply_tokens * price_reply) / 1_000_000


# 01 · The pools
def no_input(text):
    return "" if text.strip().lower() in ("", "n/a", "<noinput>") else text


def spread(groups, size):
    left, chosen = [list(group) for group in groups.values()], []
    while len(chosen) < size and any(left):
        for group in left:
            if group and len(chosen) < size:
                chosen.append(group.pop(0))
    return chosen


# 02 · Imitation
def labels_for(prompt_ids, response_ids, eos):
    return [-100] * len(prompt_ids) + list(response_ids) + [eos]


def mean_loss(batches):
    return sum(total for total, _ in batches) / sum(tokens for _, tokens in batches)


# 03 · Discrimination
def label(gap, tau):
    if math.isnan(gap):
        return "undecided"
    return "hard" if gap >= tau else "easy"


def seat_bias(rows):
    # teacher1 is the teacher's score in the first seat, student2 the student's in the second, and so on.
    gains = [(teacher1 - teacher2 + student1 - student2) / 2 for teacher1, student2, teacher2, student1 in rows]
    return sum(gains) / len(gains)


def scores(reply):
    found = []
    for seat in (1, 2):
        match = re.search(rf"Score of answer {seat}: (\d+(?:\.\d+)?)", reply)
        value = float(match[1]) if match else None
        found.append(value if value is not None and 1 <= value <= 10 else None)
    return tuple(found)


# 04 · Generation
def rouge_l_f1(a, b):
    row = [0] * (len(b) + 1)
    for x in a:
        diagonal = 0
        for j, y in enumerate(b, start=1):
            diagonal, row[j] = row[j], diagonal + 1 if x == y else max(row[j], row[j - 1])
    return 2 * row[-1] / (len(a) + len(b))


def not_self_contained(text):
    return re.search(r"\b(text|passage|paragraph|article|table) (above|below)\b", text.lower()) is not None


# 05 · The adversarial loop
def interleave(hard, easy):
    return [item for pair in zip_longest(hard, easy) for item in pair if item is not None]


def should_stop(scores, patience):
    return len(scores) > patience and max(scores[-patience:]) <= max(scores[:-patience])


# 06 · Evaluation
def relative_score(pairs):
    both = [(teacher, student) for teacher, student in pairs if teacher is not None and student is not None]
    return sum(student for _, student in both) / sum(teacher for teacher, _ in both)


def bootstrap(values, draws, seed):
    rng = random.Random(seed)
    means = sorted(sum(rng.choices(values, k=len(values))) / len(values) for _ in range(draws))
    return means[int(0.025 * draws)], means[int(0.975 * draws)]


# 07 · Explore the hard pool
def hardest(gaps, k):
    known = [(-value, item) for item, value in gaps.items() if not math.isnan(value)]
    return [item for _, item in sorted(known)[:k]]


def root(parents, item):
    while parents[item]:
        item = parents[item]
    return item


# 08 · Does it pay?


def changes(before, after):
    """Only instructions labelled both times count: a new one was neither learned nor lost."""
    both = [(before[item], after[item]) for item in before if item in after]
    return both.count(("hard", "easy")), both.count(("easy", "hard"))


def mean_over_seeds(seeds):
    """A ratio of sums for each seed, then the mean: one long list would let the seed with more points count more."""

    def difference(scores):
        second, first, teacher = (sum(column) for column in zip(*scores))
        return (second - first) / teacher

    return sum(map(difference, seeds)) / len(seeds)
