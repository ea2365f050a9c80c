"""One solution to each exercise of the notebooks, in their order; the tests run them through the checks."""

from __future__ import annotations

import math
import random
import re


# 00 · Start here
def gap(teacher_first, student_first):
    # A judge's seat bias has the opposite sign in the two orders, so it cancels only where both are there.
    if None in (*teacher_first, *student_first):
        return None
    return (teacher_first[0] + student_first[0]) / 2 - (teacher_first[1] + student_first[1]) / 2


def dollars(prompt_tokens, reply_tokens, price_prompt, price_reply):
    # Not rounded: one call costs a fraction of a cent, and a run makes thousands.
    return (prompt_tokens * price_prompt + reply_tokens * price_reply) / 1_000_000


# 01 · The pools
def no_input(text):
    # The whole text is compared, in lower case; what is handed on is the text as it was.
    return "" if text.strip().lower() in ("", "n/a", "<noinput>") else text


def spread(groups, size):
    # One from each in turn. The lists are copied first, since what is picked is taken out of them.
    left, chosen = [list(group) for group in groups.values()], []
    while len(chosen) < size and any(left):
        for group in left:
            if group and len(chosen) < size:
                chosen.append(group.pop(0))
    return chosen


# 02 · Imitation
def labels_for(prompt_ids, response_ids, eos):
    # Masked by place: an id equal to eos inside the response, and the eos at its end, are learned.
    return [-100] * len(prompt_ids) + list(response_ids) + [eos]


def mean_loss(batches):
    # Two sums, one division: so each token weighs the same, in whatever batch it stands.
    return sum(total for total, _ in batches) / sum(tokens for _, tokens in batches)


# 03 · Discrimination
def label(gap, tau):
    # NaN >= tau is false, so without the first question what was not measured would be easy.
    if math.isnan(gap):
        return "undecided"
    return "hard" if gap >= tau else "easy"


def seat_bias(rows):
    # teacher1 is the teacher's score in the first seat, student2 the student's in the second, and so on.
    # Each role is compared with itself, so how good the answers are cancels and the seat remains.
    gains = [(teacher1 - teacher2 + student1 - student2) / 2 for teacher1, student2, teacher2, student1 in rows]
    return sum(gains) / len(gains)


def scores(reply):
    # A verdict is a line of its own, and the last one counts: before it the referee may quote an answer or think aloud.
    # The number is read whole and then compared with the scale: 85 is no 8, and it is not a 10 either.
    found = []
    for seat in (1, 2):
        values = re.findall(rf"^Score of answer {seat}: *(\d+(?:\.\d+)?)", reply, flags=re.MULTILINE)
        found.append(float(values[-1]) if values and 1 <= float(values[-1]) <= 10 else None)
    return tuple(found)


# 04 · Generation
def rouge_l_f1(a, b):
    # row[j] is the longest common subsequence of what was read of `a` and the first j words of `b`.
    # Equal words lengthen the one before both (the diagonal); else a word is left out, on the side that keeps more.
    row = [0] * (len(b) + 1)
    for x in a:
        diagonal = 0
        for j, y in enumerate(b, start=1):
            diagonal, row[j] = row[j], diagonal + 1 if x == y else max(row[j], row[j - 1])
    return 2 * row[-1] / (len(a) + len(b))


def not_self_contained(text):
    # Noun and place must stand together: birds fly above clouds, and a text may be asked for.
    return re.search(r"\b(text|passage|paragraph|article|table) (above|below)\b", text.lower()) is not None


# 05 · The adversarial loop
def interleave(hard, easy):
    # zip ends with the shorter one, so the rest of both is added: of one of them it is empty.
    paired = min(len(hard), len(easy))
    alternating = [item for pair in zip(hard, easy) for item in pair]
    return alternating + list(hard[paired:]) + list(easy[paired:])


def should_stop(scores, patience):
    # The best of the last ones against the best before them; where nothing is before them, there is no best to miss.
    return len(scores) > patience and max(scores[-patience:]) <= max(scores[:-patience])


# 06 · Evaluation
def relative_score(pairs):
    # Both totals over the same items, and one division: in a mean of ratios a small teacher score would weigh more.
    both = [(teacher, student) for teacher, student in pairs if teacher is not None and student is not None]
    return sum(student for _, student in both) / sum(teacher for teacher, _ in both)


def bootstrap(values, draws, seed):
    # `choices` draws with replacement, and from a generator of its own, so that the seed alone decides the interval.
    rng = random.Random(seed)
    means = sorted(sum(rng.choices(values, k=len(values))) / len(values) for _ in range(draws))
    return means[int(0.025 * draws)], means[int(0.975 * draws)]


# 07 · Explore the hard pool
def hardest(gaps, k):
    # The negative gap sorts the largest first and leaves equal ones to rising ids; NaN would break the sorting.
    known = [(-value, item) for item, value in gaps.items() if not math.isnan(value)]
    return [item for _, item in sorted(known)[:k]]


def root(parents, item):
    # A loop, since a lineage is as long as the run; a seed has no parent and so is returned at once.
    while parents[item]:
        item = parents[item]
    return item


# 08 · Does it pay?


def changes(before, after):
    # Only instructions labelled both times count: a new one was neither learned nor lost.
    both = [(before[item], after[item]) for item in before if item in after]
    return both.count(("hard", "easy")), both.count(("easy", "hard"))


def mean_over_seeds(seeds):
    # A ratio of sums for each seed, then the mean: one long list would let the seed with more points count more.
    def difference(scores):
        second, first, teacher = (sum(column) for column in zip(*scores))
        return (second - first) / teacher

    return sum(map(difference, seeds)) / len(seeds)
