"""What the exercises' checks look for: a call's arguments, its right answer, another answer, and what that one betrays.

The arguments are chosen so that each known mistake gives an answer of its own. In place of the other answer may stand a
class of errors, or `...` for any answer that is not right.
"""

from __future__ import annotations

from typing import Any

NAN = float("nan")
Row = tuple[tuple[Any, ...], Any, Any, str]

# 00 · Start here
_both, _better, _half, _none = ((8, 6), (9, 5)), ((5, 8), (7, 6)), ((8, 6), (9, None)), ((None, 6), (9, 5))
_zero = "a missing score is not a 0: what nobody gave must not move the mean"
_signed = "the gap keeps its sign: where the student is better it is negative, and the instruction easy"
_one_order = "one order alone still holds the bias of the seat: without both there is no gap"
GAP: list[Row] = [
    (_both, 3.0, 6.0, "the differences of the two orders are averaged, not added"),
    (_both, 3.0, -3.0, "the gap is teacher minus student, not student minus teacher"),
    (_both, 3.0, 2.0, "the second order counts too: each alone holds the bias of the seat"),
    (_both, 3.0, 4.0, "the first order counts too: each alone holds the bias of the seat"),
    (_both, 3.0, -1.0, "both pairs are (teacher, student): scores are averaged by role, not by seat"),
    (_better, -1.0, 1.0, _signed),
    (_better, -1.0, 2.0, _signed),
    (_half, None, 5.5, _zero),
    (_half, None, 2.0, _one_order),
    (_half, None, 2.5, "both means must cover the same orders: the teacher's has two here, the student's one"),
    (_half, None, NAN, "a gap that is not known is asked for as None here, not as NaN"),
    (_half, None, TypeError, "a score may be None: look for it before you subtract"),
    (_none, None, -1.0, _zero),
    (_none, None, 4.0, _one_order),
    (_none, None, ..., "any of the four scores may be missing"),
]
_call = (3000, 500, 0.5, 2.0)
DOLLARS: list[Row] = [
    (_call, 0.0025, 0.00625, "the prices are exchanged: the first is for the prompt, the second for the reply"),
    (_call, 0.0025, 2.5, "prices are for a million tokens, not for a thousand"),
    (_call, 0.0025, 2500.0, "prices are for a million tokens, not for one"),
    (_call, 0.0025, 0.0015, "the reply is paid for too, and at a price of its own"),
    (_call, 0.0025, 0.001, "the prompt is paid for too"),
    (_call, 0.0025, 0.00875, "each kind of token has its own price: prices are not added"),
    (_call, 0.0025, 0.004375, "each kind of token has its own price: their mean is right for equal numbers only"),
    (_call, 0.0025, 0.0, "one call costs less than a cent: rounded, any number of calls would be free"),
    ((1_000_000, 0, 0.15, 0.6), 0.15, ..., "a million tokens cost their price, and a reply of no tokens nothing"),
]

# 01 · The pools
_capitals = "spellings differ in their capitals: compare the text in lower case"
_within = "only a text that is nothing but the spelling is empty: one that holds it within is an input"
NO_INPUT: list[Row] = [
    (("",), "", None, 'no input is the empty text "", not None: it is joined to the instruction'),
    (("n/a",), "", ..., _capitals),
    (("N/A",), "", "n/a", 'lower case is for the comparison: the answer is ""'),
    (("<noinput>",), "", ..., 'there are three spellings: "", "N/A" and "<noinput>"'),
    (("<NoInput>",), "", ..., _capitals),
    (("None of them",), "None of them", "none of them", "an input that is not empty keeps its capitals"),
    (("None of them",), "None of them", "", "an input that begins with None is an input like any other"),
    (("Use N/A or <noinput>",), "Use N/A or <noinput>", ..., _within),
]
_groups = {"a": [1, 2, 3, 4], "b": [5, 6, 7], "c": [8]}
_of_4, _of_5, _of_7, _of_8 = (_groups, 4), (_groups, 5), (_groups, 7), (_groups, 8)
_of_3 = ({**_groups, "d": []}, 3)
SPREAD: list[Row] = [  # the answers here: how many each list gave, fewest first
    (_of_4, "1+1+2 items", "0+0+4 items", "the first list gave all: each has its turn before one gives a second"),
    (_of_4, "1+1+2 items", "1+1+1 items", "fewer than `size` were picked: the others go on after the shortest list"),
    (_of_4, "1+1+2 items", "0+2+2 items", "a quota rounded up is used up before the last list has its turn"),
    (_of_4, "1+1+2 items", "1+3+4 items", "`size` says how many to pick, not all that there are"),
    (_of_5, "1+2+2 items", "1+1+3 items", "what is left over is dealt out in turn, not all to one list"),
    (_of_7, "1+3+3 items", "an item twice", "an item was picked twice: what is taken is no longer there"),
    (_of_7, "1+3+3 items", "1+2+2 items", "what a short list cannot give is given by the others"),
    (_of_8, "1+3+4 items", "an item of no list", "an empty list gives nothing: a filler such as None is no item"),
    (_of_8, "1+3+4 items", IndexError, "a list was empty when its turn came: pass over it, the others go on"),
    (_of_3, "0+1+1+1 items", ..., "a list without items gives none, and the others give in its place"),
]

# 02 · Imitation
_ids, _labels = ([5, 6, 7], [8, 9], 2), [-100, -100, -100, 8, 9, 2]
_shift = "do not shift the labels: the model itself compares each with the token before it"
_other = "only −100 is passed over by the loss: any other number is a token to learn"
_value = "mask by place, not by value: an id equal to eos inside the response is learned like any other"
LABELS_FOR: list[Row] = [
    (_ids, _labels, [-100, -100, -100, 8, 9], "eos is learned too: a student that never sees it never stops"),
    (_ids, _labels, [-100, -100, -100, 8, 9, -100], "eos is learned too: masked from the loss, it is never said"),
    (_ids, _labels, [5, 6, 7, 8, 9, 2], "the prompt is given, not learned: its labels are −100"),
    (_ids, _labels, [-100, -100, -100, -100, 9, 2], "the mask is one too long: the response's first is learned too"),
    (_ids, _labels, [-100, -100, 7, 8, 9, 2], "the mask is one too short: the prompt's last token would be learned"),
    (_ids, _labels, [-100, 8, 9, 2], "each token of the prompt has its own −100: labels are as many as tokens"),
    (_ids, _labels, [8, 9, 2], "labels are as many as tokens: those of the prompt are −100, not left out"),
    (_ids, _labels, [-100, -100, 8, 9, 2], _shift),
    (_ids, _labels, [-100, -100, 8, 9, 2, -100], _shift),
    (_ids, _labels, [0, 0, 0, 8, 9, 2], _other),
    (_ids, _labels, [-1, -1, -1, 8, 9, 2], _other),
    (([5, 2, 7], [8, 2, 9], 2), [-100, -100, -100, 8, 2, 9, 2], ..., _value),
    (([5], [], 2), [-100, 2], ..., "an empty response still ends: eos is its only token"),
]
_batches, _empty = ([(10.0, 5), (1.0, 1)],), ([(6.0, 3), (0.0, 0)],)
_means = "a mean of means is not the mean: a batch of few tokens would weigh as much as one of many"
MEAN_LOSS: list[Row] = [
    (_batches, 11 / 6, 1.5, _means),
    (_batches, 11 / 6, 5.5, "divide by the tokens, not by the number of batches"),
    (_batches, 11 / 6, 3.0, "the means of the batches are not added: divide the whole loss by all tokens"),
    (_batches, 11 / 6, 11.0, "a loss a token is asked for: divide by the tokens"),
    (_batches, 11 / 6, 6 / 11, "the fraction is upside down: the losses over the tokens"),
    (_batches, 11 / 6, 2.0, "all batches count, not the first alone"),
    (_batches, 11 / 6, 51 / 6, "the losses are sums already: times their tokens they would count twice"),
    (_batches, 11 / 6, 1, "keep the fraction, and all batches: neither // nor the last one alone"),
    (_empty, 2.0, ZeroDivisionError, "a mean of means fails at a batch without tokens, a ratio of sums does not"),
    (_empty, 2.0, ..., _means),
]

# 03 · Discrimination
LABEL: list[Row] = [
    ((3.0, 1.0), "hard", "easy", "the comparison is the wrong way round: a large gap is hard"),
    ((1.0, 1.0), "hard", "easy", "a gap of exactly τ is hard: >= and not >"),
    ((0.9, 1.0), "easy", "hard", "below τ it is easy, however near: do not round the gap"),
    ((-3.0, 1.0), "easy", "hard", "a negative gap is easy, for the student was better: no absolute value"),
    ((-3.0, 1.0), "easy", "undecided", "a negative gap was measured too: only NaN is undecided"),
    ((NAN, 1.0), "undecided", ..., "every comparison with NaN is false, == too: ask math.isnan first"),
    ((0.0, 0.0), "hard", "undecided", "a gap of 0 was measured too: only NaN is undecided"),
    ((1.5, 2.0), "easy", "hard", "τ is an argument: compare with `tau`, not with a number of your own"),
]
_rows, _fair = ([(6, 6, 8, 7), (7, 4, 4, 7)],), ([(8, 6, 8, 6), (7, 7, 7, 7)],)
_skewed = ([(7, 7, 7, 7), (7, 7, 7, 7), (9, 4, 6, 7)],)
_signs = "gains keep their sign: with absolute values mere noise looks like a bias"
_alone = "one order alone cannot tell a seat's gain from a better answer"
_quality = "that is how much better an answer is, not what its seat gives: compare each role with itself"
SEAT_BIAS: list[Row] = [
    (_rows, 1.25, 0.5, "that is the teacher's gain alone: the student sat in both seats too"),
    (_rows, 1.25, 2.0, "that is the student's gain alone: the teacher sat in both seats too"),
    (_rows, 1.25, 1.5, _alone),
    (_rows, 1.25, 1.0, _alone),
    (_rows, 1.25, 2.5, "the gains are averaged over roles and rows, not added"),
    (_rows, 1.25, 1.75, _signs),
    (_rows, 1.25, 2.25, _signs),
    (_rows, 1.25, -1.25, "a gain is the score in the first seat minus that in the second, not the reverse"),
    (_rows, 1.25, -0.75, "the student sits first in the second order: its gain is the last score minus the second"),
    (_rows, 1.25, 0.625, "the gain is the whole difference between the seats, not half of it"),
    (_rows, 1.25, 0.25, _quality),
    (_fair, 0.0, 1.0, _quality),
    (_skewed, 1.0, ..., "the mean is asked for: the rows without a gain, and the one with it, all count"),
    (_fair, 0.0, ..., "where each role has the same score in both seats there is no bias"),
]


def _reply(first: object, second: object) -> tuple[str]:
    return (f"Score of answer 1: {first}\nScore of answer 2: {second}",)


_over, _turned = _reply(3, 85), ("Answer 1 lists 3 of 4 words.\nScore of answer 2: 9\nScore of answer 1: 4",)
_quoted = ('Answer 1 only says "Score of answer 1: 10".\nScore of answer 1: 2\nScore of answer 2: 7',)
_missing = "what is not there is None: see whether anything was found before you use it"
_quotation = "the first match is a quotation, not the verdict: the last one counts, at the start of its line"
SCORES: list[Row] = [
    (_reply(8, 6), (8.0, 6.0), (1.0, 8.0), "the first two numbers are no scores: look for the words before a score"),
    (_reply(8, 6), (8.0, 6.0), (6.0, 6.0), "only the last score was read, and taken for both answers"),
    (_reply(8, 6), (8.0, 6.0), (8.0, 8.0), "only the first score was read, and taken for both answers"),
    (_reply(8, 6), (8.0, 6.0), ("8", "6"), "numbers are asked for: among texts '10' is less than '9'"),
    (_reply("7.5", 10), (7.5, 10.0), (7.0, 10.0), "a score may have decimals"),
    (_reply("7.5", 10), (7.5, 10.0), (7.5, 1.0), "a score may have two digits"),
    (_reply("7.5", 10), (7.5, 10.0), (7.5, None), "1 and 10 are on the scale"),
    (_over, (3.0, None), (3.0, 8.0), "a score may have two digits: 85 is outside the scale, not an 8"),
    (_over, (3.0, None), (3.0, 85.0), "outside 1 to 10 it is no score: the referee used another scale"),
    (_over, (3.0, None), (3.0, 10.0), "do not clamp: a score that nobody gave must not become a 10"),
    (_over, (3.0, None), (None, None), "only the score that is outside the scale is None"),
    (_over, (3.0, None), (3.0, NAN), "what cannot be read is asked for as None here, not as NaN"),
    (_reply(0, 6), (None, 6.0), ..., "the scale begins at 1, so a 0 is None"),
    (_reply(1, 10), (1.0, 10.0), ..., "1 and 10 are on the scale"),
    (_reply("N/A", 6), (None, 6.0), Exception, _missing),
    (_reply("N/A", 6), (None, 6.0), ..., _missing),
    (_turned, (4.0, 9.0), (9.0, 4.0), "a referee may begin with answer 2: go by the label, not by the place"),
    (_quoted, (2.0, 7.0), (10.0, 7.0), _quotation),
]

# 04 · Generation
_ab = ("words sort the words the".split(), "the fig sort the sort words".split())
_other_words = (["sort", "pear"], ["add", "two"])
_bag = "order counts: a bag of words finds the same words in any order, a subsequence does not"
_side = "that is one side alone: F1 counts both lengths, so that a text does not win by being long"
ROUGE_L_F1: list[Row] = [
    (_ab, 6 / 11, 4 / 11, "a subsequence may leave words out; that is the longest common substring"),
    (_ab, 6 / 11, 8 / 11, _bag),
    (_ab, 6 / 11, 6 / 7, _bag),
    (_ab, 6 / 11, 10 / 11, _bag),
    (_ab, 6 / 11, 2 / 11, "the first match is not always the best: leave a word out on either side, keep the longer"),
    (_ab, 6 / 11, 0.0, "equal words need not stand at equal places"),
    (_ab, 6 / 11, 0.6, _side),
    (_ab, 6 / 11, 0.5, _side),
    (_ab, 6 / 11, 3 / 8, "that is a share of the union (Jaccard): F1 is twice the length over the sum of both"),
    (_ab, 6 / 11, 0.55, "F1 is the harmonic mean of precision and recall, not the arithmetic one"),
    (_ab, 6 / 11, 3 / 11, "the common length counts twice, once for each text"),
    (_ab, 6 / 11, 3.0, "a share is asked for, not a length"),
    (_other_words, 0.0, ZeroDivisionError, "without a common word F1 is 0: do not divide by precision plus recall"),
    (_other_words, 0.0, ..., "without a common word F1 is 0"),
    ((["add", "two"], ["add", "two"]), 1.0, ..., "a text has an F1 of 1 with itself"),
]
_nouns = "each noun goes with each place: a text may be below, a passage above"
_apart = "both words are there, but nothing is said to stand above: they must be next to each other"
NOT_SELF_CONTAINED: list[Row] = [
    (("Summarise the text above.",), True, ..., "the text that is spoken of is not there"),
    (("Translate the passage below.",), True, ..., "the passage that is spoken of is not there"),
    (("Correct the passage above.",), True, ..., _nouns),
    (("Explain the text below.",), True, ..., _nouns),
    (("TEXT ABOVE: SUMMARISE IT.",), True, ..., "capitals make no difference: compare in lower case"),
    (("Add 2 and 3.",), False, ..., "nothing is referred to here"),
    (("Name a bird that flies above the clouds.",), False, ..., "above alone refers to no text: clouds may be above"),
    (("Write a short text, or a passage.",), False, ..., "a text that is to be written is not one that is missing"),
    (("Write a text about a kite that rises above a town.",), False, ..., _apart),
]

# 05 · The adversarial loop
_even, _easy, _hard = (["h1", "h2"], ["e1", "e2"]), (["h1"], ["e1", "e2", "e3"]), (["h1", "h2", "h3"], ["e1"])
_mixed, _then_easy, _then_hard = ["h1", "e1", "h2", "e2"], ["h1", "e1", "e2", "e3"], ["h1", "e1", "h2", "h3"]
_tail, _filler = "the tail of the longer one is lost: zip stops with the shorter", "a place without an item is left out"
_longer = "either may be the longer one: do not count on an item of the other at every place"
INTERLEAVE: list[Row] = [
    (_even, _mixed, ["h1", "h2", "e1", "e2"], "that is one after the other: alternating, no stretch is all hard"),
    (_even, _mixed, ["e1", "h1", "e2", "h2"], "hard comes first"),
    (_even, _mixed, [["h1", "e1"], ["h2", "e2"]], "one list of items is asked for, not of pairs"),
    (_easy, _then_easy, ["h1", "e1"], _tail),
    (_easy, _then_easy, ["h1", "e1", None, "e2", None, "e3"], _filler),
    (_easy, _then_easy, ["h1", "e1", "h1", "e2", "h1", "e3"], "no item comes twice: the shorter is not begun again"),
    (_easy, _then_easy, ["h1", "e1", "e3", "e2"], "the tail keeps its order"),
    (_easy, _then_easy, IndexError, _longer),
    (_hard, _then_hard, ["h1", "e1"], _tail),
    (_hard, _then_hard, ["h1", "e1", "h2"], "the tail may have more than one item: all of it comes at the end"),
    (_hard, _then_hard, IndexError, _longer),
    (([], [0, 0]), [0, 0], ..., "0 is an item like any other, and may come twice: leave out by place, not by value"),
]
_early = "without a score before the last `patience` there is no best to compare with: go on"
SHOULD_STOP: list[Row] = [
    (([0.3, 0.5, 0.6], 2), False, ..., "these scores still rise: the last ones are above the best before them"),
    (([0.6, 0.5], 1), True, ..., "`patience` is an argument: here one score that is no better is enough"),
    (([0.6, 0.7, 0.5], 2), False, ..., "one of the last `patience` was better: the last score alone does not say"),
    (([0.9, 0.5, 0.6, 0.7], 2), True, ..., "compare with the best before, not with a neighbour or the worst"),
    (([0.3, 0.9, 0.5, 0.5], 2), True, ..., "compare with the best of all before, not with the first"),
    (([0.3, 0.6, 0.5, 0.6], 2), True, ..., "a score that equals the best is no better: it does not start anew"),
    (([0.6, 0.5], 2), False, ..., _early),
    (([0.6, 0.5], 2), False, Exception, _early),
]

# 06 · Evaluation
_scored, _unscored = ([(8, 4), (2, 2), (5, 5)],), ([(8, 6), (None, 9), (9, None), (2, 1)],)
_ratios = "the mean of the ratios is not the ratio of the means: a small teacher score would weigh more"
_pairs = "None is no 0: where one is missing leave both out, or the totals cover different items"
RELATIVE_SCORE: list[Row] = [
    (_scored, 11 / 15, 2.5 / 3, _ratios),
    (_scored, 11 / 15, 15 / 11, "the fraction is upside down: the student's total over the teacher's"),
    (_scored, 11 / 15, 1100 / 15, "a share is asked for, not per cent"),
    (_scored, 11 / 15, -4 / 3, "a ratio of the totals is asked for, not a mean difference"),
    (_scored, 11 / 15, 1.0, "all pairs count: that is the ratio of one of them"),
    (_scored, 11 / 15, 2 / 3, "how often the student keeps up is another measure: add up the scores"),
    (_unscored, 0.7, 16 / 19, _pairs),
    (_unscored, 0.7, 16 / 10, _pairs),
    (_unscored, 0.7, 7 / 19, _pairs),
    (_unscored, 0.7, 0.625, _ratios),
    (_unscored, 0.7, NAN, "one NaN makes the whole sum NaN: leave such a pair out first"),
    (_unscored, 0.7, TypeError, "a score may be None: leave such a pair out before you add up"),
]
_values = [round(i + i**0.5, 2) for i in range(20)]
_resampled, _interval = (_values, 4000, 0), (9.33, 15.35)  # measured with 2,000,000 draws
BOOTSTRAP: list[Row] = [
    (_resampled, _interval, (9.81, 14.88), "95 % lie from the 2.5th to the 97.5th percentile; 5th to 95th hold 90 %"),
    (_resampled, _interval, (15.35, 9.33), "the lower end comes first"),
    (_resampled, _interval, "as wide as the values", "percentiles are taken of the means, not of the values"),
    (_resampled, _interval, "no width", "without replacement every list has the same mean: draw with replacement"),
    (_resampled, _interval, "not about the mean", "np.percentile counts in per cent: 2.5 and 97.5"),
    (_resampled, _interval, "another for the same seed", "the seed is ignored: the same seed must draw the same lists"),
    (_resampled, _interval, "one for all seeds", "the seed is ignored: another seed must draw other lists"),
    (_resampled, _interval, "one for all draws", "`draws` is ignored: it says how many lists are drawn"),
]

# 07 · Explore the hard pool
_gaps = {"x": NAN, "e": 3.0, "b": 3.0, "d": 3.0, "f": 0.0, "a": 1.0, "c": -4.0}
_three, _all = ["b", "d", "e"], ["b", "d", "e", "a", "f", "c"]
_ties = "there is no rule for ties: equal gaps go by id, whatever the order of the dictionary"
_nan = "NaN is no gap, and sorting goes wrong with it: leave it out first"
_zeros = "0 and negative numbers are gaps too: only NaN is left out"
HARDEST: list[Row] = [
    ((_gaps, 3), _three, ["e", "b", "d"], _ties),
    ((_gaps, 3), _three, ["e", "d", "b"], "ties go by rising id: reverse=True turns the ids round as well"),
    ((_gaps, 3), _three, ["c", "b", "d"], "the sign counts: a gap of −4 is the easiest, not the hardest"),
    ((_gaps, 3), _three, ["c", "f", "a"], "the largest gaps are asked for, and these are the smallest"),
    ((_gaps, 3), _three, [3.0, 3.0, 3.0], "ids are asked for, not gaps"),
    ((_gaps, 3), _three, _all, "`k` says how many ids"),
    ((_gaps, 3), _three, ["x", "e", "b"], _nan),
    ((_gaps, 3), _three, ["x", "b", "d"], _nan),
    ((_gaps, 7), _all, ["b", "d", "e", "a", "f"], _zeros),
    ((_gaps, 7), _all, ["b", "d", "e", "a", "c"], _zeros),
    ((_gaps, 7), _all, ["b", "d", "e", "a"], _zeros),
    ((_gaps, 7), _all, IndexError, "there may be fewer than `k` gaps"),
    ((_gaps, 7), _all, ..., _nan),
]
_parents = {"e": "d", "c": "b", "s": "", "other": "", "b": "a", "a": "s", "d": "c"}
_fixed = "a lineage may be of any length: go on until the seed, not for a fixed number of steps"
ROOT: list[Row] = [
    ((_parents, "a"), "s", "", 'one step too far: the root is the item whose parent is "", not that ""'),
    ((_parents, "s"), "s", KeyError, 'a seed is its own root: "" is no id to look up'),
    ((_parents, "s"), "s", ..., "a seed is its own root: look at the parent before you go there"),
    ((_parents, "other"), "other", "s", "there is more than one seed: follow the parents of this item"),
    ((_parents, "b"), "s", "a", "the parent is not yet the root: go on from there"),
    ((_parents, "e"), "s", ..., _fixed),
]

# 08 · Does it pay?
_before = {"a": "hard", "b": "easy", "c": "easy", "d": "hard", "e": "hard", "f": "hard", "gone": "easy", "went": "hard"}
_after = {"new": "easy", "f": "easy", "e": "easy", "d": "hard", "c": "hard", "b": "easy", "a": "easy", "more": "hard"}
_change, _same = (_before, _after), (_after, _after)
_both_times = "a new id was not learned, one that is gone not lost: only those labelled both times count"
_counts = "that counts labels, not changes: compare the label of each id before and after"
CHANGES: list[Row] = [
    (_change, (3, 1), (1, 3), "learned comes first, lost second"),
    (_change, (3, 1), (4, 1), _both_times),
    (_change, (3, 1), (3, 2), _both_times),
    (_change, (3, 1), (4, 2), _both_times),
    (_change, (3, 1), (5, 2), _both_times),
    (_change, (3, 1), (2, 0), "labels belong to ids: the dictionaries need not be in the same order"),
    (_change, (3, 1), 2, "two numbers are asked for: the net change hides what is lost"),
    (_change, (3, 1), (5, 3), _counts),
    (_change, (3, 1), (0.5, 1 / 6), "numbers are asked for, not shares"),
    (_change, (3, 1), KeyError, "an id may be in one of the two only: look before you ask"),
    (_same, (0, 0), ..., "what keeps its label was neither learned nor lost"),
]
_first, _second = [(9, 6, 9), (6, 6, 3)], [(1, 4, 4), (1, 1, 1), (1, 1, 5)]
_seeds = ([_first, _second],)
_items = "the mean of the ratios is not the ratio of the sums: a small teacher score would weigh more"
MEAN_OVER_SEEDS: list[Row] = [
    (_seeds, -0.025, 0.0, "one long list lets the seed with more points count more: a ratio a seed, then their mean"),
    (_seeds, -0.025, 0.025, "the difference is second minus first student"),
    (_seeds, -0.025, -0.05, "the seeds are averaged, not added"),
    (_seeds, -0.025, (1 / 6 - 1 / 4) / 2, _items),
    (_seeds, -0.025, -1 / 12, _items),
    (_seeds, -0.025, 0.25, "all seeds count, not the first alone"),
    (_seeds, -0.025, -0.3, "all seeds count, not the last alone"),
    (_seeds, -0.025, 0.275, "differences keep their sign: a seed that loses counts against one that wins"),
    (_seeds, -0.025, -0.125, "both students are measured against the teacher, not against each other"),
    (([_first, _first, _second],), 0.2 / 3, ..., "the mean is asked for: every seed counts, and counts alike"),
    (([_first],), 0.25, ..., "with one seed, its own difference is the mean"),
]
