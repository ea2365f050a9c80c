"""One solution to each exercise of the notebooks, in their order; the tests run them through the checks.

After them what to predict of a run, and why: each takes the run, and answers as the notebook's own cell does.
"""

from __future__ import annotations

import math
import random
import re
from collections import defaultdict
from statistics import fmean

from safetensors.numpy import load_file

from lionkit import evaluate
from lionkit.novelty import NoveltyIndex
from lionkit.run import reading


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
    # What is thought aloud is no verdict, and a thought that was cut off has no end. The number is read whole and then
    # compared with the scale: 85 is no 8, and it is not a 10 either.
    reply, found = re.sub(r"<think>.*?(</think>|\Z)", "", reply, flags=re.DOTALL), []
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


# On your own run: what each prediction should come to, and why
def same_answer(run):
    """0: both seats hold the same text, so what the referee likes or dislikes about it counts for both alike."""
    return 0.0


def nothing_right(run):
    """1: the scale begins there, not at 0, so that even a student which knows nothing has a relative score of 1/9."""
    return 1.0


def near_twins(run):
    """Many: both sets were dealt from one pile, so the held-out score measures the familiar and not what is foreign."""
    index = NoveltyIndex(run.config.novelty)
    for item in reading.cache_pool(run, 1):
        index.add(item.text)
    return sum(index.nearest(item.text)[0] > run.config.novelty for item in reading.held_out(run))


def shared_opening(run):
    """Nearly all: offline each family has a few wordings, and what differs is the material after them."""
    begun = {" ".join(item.text.split()[:3]) for item in reading.cache_pool(run, 1)}
    return len([item for item in reading.held_out(run) if " ".join(item.text.split()[:3]) in begun])


def times_longer(run):
    """Several: a chat model wraps its answer in a sentence, the teacher gives it bare, and form is learned first."""
    before, after = (reading.read_evaluation(run, iteration).student for iteration in (0, 1))
    return sum(len(r.text.split()) for r in before) / sum(len(r.text.split()) for r in after)


def adapter_megabytes(run):
    """A few per cent of the model: rank × (inputs + outputs) numbers of 4 bytes a linear layer; all else stays."""
    tensors = load_file(reading.adapter_after(run, 1) / "adapter_model.safetensors").values()
    return sum(tensor.nbytes for tensor in tensors) / 1e6


def changed_sides(run):
    """Those whose gap lies from 1 to below 3: where the gaps are few and far apart, τ can move without any of them."""
    return sum(1 <= verdict.gap < 3 for verdict in reading.read_discrimination(run, 1).verdicts)


def one_order_only(run):
    """Offline none, since rules have no favourite seat; with a model as referee this is what a single order costs."""
    verdicts = reading.read_discrimination(run, 1).verdicts
    first = [v.teacher_first.teacher - v.teacher_first.student if v.teacher_first.scored else None for v in verdicts]
    alone = ["undecided" if gap is None else "hard" if gap >= run.config.tau else "easy" for gap in first]
    return sum(label != verdict.label(run.config.tau) for label, verdict in zip(alone, verdicts))


def lower_cut(run):
    """Most: a child of the same family repeats its wording, so the similarities crowd just below the cut."""
    accepted = [c for c in reading.read_candidates(run, 1) if c.status == "accepted"]
    return sum(c.similarity > run.config.novelty - 0.1 for c in accepted)


def seed_nearest(run):
    """Few: the pool holds so many of the same kind that another one is nearer, and a copy of the seed is refused."""
    texts = {item.id: item.text for item in reading.cache_pool(run, 1)}
    accepted = [c for c in reading.read_candidates(run, 1) if c.status == "accepted"]
    return 100 * sum(c.nearest == texts[c.seed_id] for c in accepted) / len(accepted)


def next_cache_pool(run):
    """The cache pool and all new ones: it only grows, and to examine on it costs more each time."""
    made = [c for c in reading.read_candidates(run, run.config.iterations) if c.status == "accepted"]
    return len(reading.cache_pool(run, run.config.iterations)) + len(made)


def lost_answers(run):
    """Some: new rows move what old answers rest on too, and a score that rises is what was gained less this."""
    first, last = (reading.read_evaluation(run, iteration) for iteration in (1, run.config.iterations))
    now = {r.instruction_id: r.text.split() for r in last.student}
    pairs = [(teacher.text.split(), student) for teacher, student in zip(first.teacher, first.student)]
    return sum(right == was.text.split() != now[was.instruction_id] for right, was in pairs)


def times_wider(run):
    """About two: an interval narrows with the root of the number of items, so half the width costs four times them."""
    verdicts = reading.read_evaluation(run, run.config.iterations).verdicts
    (low, high), (lowest, highest) = evaluate.relative_interval(verdicts), evaluate.relative_interval(verdicts[::4])
    return (highest - lowest) / (high - low)


def without_hardest(run):
    """A few points more: one category of many moves a total little, however badly the student does in it."""
    found = reading.read_evaluation(run, run.config.iterations)
    gaps = defaultdict(list)
    for item, verdict in zip(found.instructions, found.verdicts):
        gaps[item.category] += [verdict] if verdict.scored else []
    hardest = max(sorted(gaps), key=lambda category: fmean(v.gap for v in gaps[category]))
    return 100 * evaluate.relative_score(v for category in gaps if category != hardest for v in gaps[category]).score


def childless(run):
    """A good part: seeds are asked in turn until there are enough children, and many a proposal was refused."""
    pool = _last_pool(run)
    return len({item.id for item in pool if not item.parent} - {item.parent for item in pool})


def deepest(run):
    """As many as there were generations: children join the cache pool, and may be seeds of the next iteration."""
    parents, depth = {item.id: item.parent for item in _last_pool(run)}, 0
    level = set(parents)
    while level := {parents[item] for item in level} - {""}:
        depth += 1
    return depth


def _last_pool(run):
    last = run.config.iterations
    return reading.cache_pool(run, last + run.done(last, "generation"))


def half_known(run):
    """Few: a small student either has the form of a family or has it not, so the frontier arm has little to choose."""
    shares = [hard.count(True) / len(hard) for hard in _hard_by_family(run, 1).values()]
    return sum(0.25 <= share <= 0.75 for share in shares)


def untouched(run):
    """Some: hard is not learnable. A family that needs more than a form stays hard, however many rows it is given."""
    first, last = (_hard_by_family(run, iteration) for iteration in (1, run.config.iterations))
    return sum(any(first[f]) and all(now for was, now in zip(first[f], last[f]) if was) for f in first)


def _hard_by_family(run, iteration):
    gaps = {verdict.instruction_id: verdict.gap for verdict in reading.read_discrimination(run, iteration).verdicts}
    families = defaultdict(list)
    for seed in reading.cache_pool(run, 1):
        families[seed.category].append(gaps[seed.id] >= run.config.tau)
    return families
