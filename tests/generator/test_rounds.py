"""The generation stage: counts met 1:1 or a stop that says why, all candidates, and lineage over iterations."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

import server
from lionkit import progress
from lionkit.client import ChatClient, ChatRequest, Completion, Usage
from lionkit.config import SANDBOX_URL, ApiConfig
from lionkit.errors import LionkitError, StageStopped
from lionkit.generator import PROBE, Generation, GenerationStopped, generate, lineage, rounds
from lionkit.novelty import rouge_l
from lionkit.pools import Split, grow
from lionkit.records import Candidate, Instruction
from lionkit.sandbox.app import create_app

WORDS = [f"word{i}" for i in range(4000)]


def sentence(number: int) -> str:
    return "Explain " + " ".join(random.Random(number).sample(WORDS, 6))


SEEDS = [Instruction(sentence(10_000 + i), category=f"c{i % 3}") for i in range(30)]
SPLIT = Split(SEEDS[:10], SEEDS[10:25], SEEDS[25:])


class Fake:
    """Answers with `reply(number of the call)`, a text or (status, text), and keeps what it was asked."""

    def __init__(self, reply: Callable[[int], str | tuple[str, str]]) -> None:
        self.reply, self.asked, self.labels, self.batches = reply, [], [], []  # type: ignore[var-annotated]

    def map(
        self, requests: Sequence[ChatRequest], *, progress: bool | str = True, batch: bool | None = None
    ) -> list[Completion]:
        self.batches.append(batch)
        self.labels.append(progress)
        answers = []
        for request in requests:
            reply = self.reply(len(self.asked))
            self.asked.append(request)
            status, text = reply if isinstance(reply, tuple) else ("ok", reply)
            cause, status = ("outage", "failed") if status == "outage" else ("", status)
            call = f"call{len(self.asked)}"
            answers.append(Completion(status, text, Usage(), False, "HTTP 503", call, "fake", cause))  # type: ignore[arg-type]
        return answers


def run(reply: Callable[[int], Any], split: Split = SPLIT, **settings: Any) -> tuple[Generation, Fake]:
    client = Fake(reply)
    settings = {"hard_size": 12, "easy_size": 12, **settings}
    return generate(client, split, SEEDS, **settings), client  # type: ignore[arg-type]


def stopped(reply: Callable[[int], Any], split: Split = SPLIT, **settings: Any) -> tuple[GenerationStopped, Fake]:
    client = Fake(reply)
    with pytest.raises(GenerationStopped) as caught:
        generate(client, split, SEEDS, **{"hard_size": 12, "easy_size": 12, **settings})  # type: ignore[arg-type]
    return caught.value, client


def test_both_counts_are_met_with_provenance() -> None:
    made, client = run(sentence, iteration=3)
    assert Counter(i.source for i in made.instructions) == {"hard": 12, "easy": 12}
    assert [i.source for i in made.instructions] == ["hard"] * 12 + ["easy"] * 12
    seeds = {s.id: s for s in SEEDS}
    for item in made.instructions:
        assert item.iteration == 3
        assert item.category == seeds[item.parent].category
        assert seeds[item.parent] in (SPLIT.hard if item.source == "hard" else SPLIT.easy)
    assert len(made.candidates) == len(client.asked) == 24
    assert {c.instruction_id for c in made.candidates} == {i.id for i in made.instructions}


def test_seeds_take_turns_and_undecided_ones_are_never_asked() -> None:
    made, _ = run(sentence, hard_size=25, easy_size=25)
    hard = Counter(c.seed_id for c in made.candidates if c.kind == "hard")
    assert set(hard) == {s.id for s in SPLIT.hard}
    assert set(hard.values()) == {2, 3}
    assert not {s.id for s in SPLIT.undecided} & {c.seed_id for c in made.candidates}


def test_the_same_inputs_give_the_same_result_whatever_the_order_of_the_seeds() -> None:
    def reply(call: int) -> str:
        return "" if call % 3 == 0 else sentence(call)

    first = run(reply)[0]
    backwards = Split(SPLIT.hard[::-1], SPLIT.easy[::-1], SPLIT.undecided)
    assert run(reply, backwards)[0].instructions == first.instructions
    assert run(reply, seed=1)[0].instructions != first.instructions


def test_no_slot_is_used_twice_for_one_prompt_nor_in_two_iterations() -> None:
    def reply(call: int) -> str:
        return "" if call % 2 else sentence(call)

    keys = [
        (r.messages[0]["content"], r.slot) for iteration in (1, 2) for r in run(reply, iteration=iteration)[1].asked
    ]
    assert len(set(keys)) == len(keys)


def test_candidates_name_the_rule_the_neighbour_and_the_score() -> None:
    replies = [
        "",
        "I'm sorry, but I can't help with that.",
        ("truncated", "Explain the long"),
        ("filtered", ""),
        SEEDS[3].text,
        SEEDS[3].text + " again",
        "New instruction: " + sentence(1),
        sentence(1),
    ]
    made, _ = run(lambda call: replies[call] if call < len(replies) else sentence(call), hard_size=8, easy_size=1)
    rows = made.candidates[:8]
    assert [c.rule for c in rows][:4] == ["empty", "refusal", "cut", "filtered"]
    assert rows[4].rule in ("duplicate", "same as seed")
    assert (rows[5].rule, rows[5].nearest) == ("not novel", SEEDS[3].text)
    assert rows[5].similarity == pytest.approx(2 * 7 / 15)
    assert (rows[6].status, rows[6].text, rows[6].raw) == ("accepted", sentence(1), replies[6])
    assert rows[7].rule == "duplicate"
    assert [c.call_id for c in rows] == [f"call{i}" for i in range(1, 9)]


def test_a_seed_has_at_most_twice_its_even_share() -> None:
    fruitful = SPLIT.hard[0]
    client = Fake(sentence)
    client.map = (
        lambda requests, **_: Fake(  # type: ignore[method-assign]
            lambda call: (
                sentence(int(str(requests[call].slot)[2:]))
                if fruitful.text in requests[call].messages[0]["content"]
                else ""
            )
        ).map(requests)
    )
    split = Split(SPLIT.hard[:4], SPLIT.easy, [])
    with pytest.raises(GenerationStopped) as caught:
        generate(client, split, SEEDS, hard_size=8, easy_size=0)  # type: ignore[arg-type]
    made = caught.value.result.instructions
    assert [item.parent for item in made] == [fruitful.id] * 4  # of eight, four seeds have two each
    assert "4 of 8 hard" in str(caught.value)


@pytest.mark.parametrize(
    ("reply", "rule"),
    [
        (SEEDS[0].text, "duplicate"), ("I cannot assist with that.", "refusal"), ("", "empty"),
        (("refused", ""), "refused"),
        (("failed", ""), "failed"), (("truncated", "Explain how"), "cut"),
    ],
)  # fmt: skip
def test_a_hopeless_generator_ends_the_stage_early_with_the_reason(reply: Any, rule: str) -> None:
    error, client = stopped(lambda _: reply, hard_size=3000, easy_size=3000)
    assert len(client.asked) == 2 * PROBE
    assert f"0 of 3000 hard from {PROBE} calls (rejected: {rule}" in str(error)
    assert "0 of 3000 easy" in str(error)
    assert "\n" not in str(error)
    assert len(error.result.candidates) == len(client.asked)


def test_a_poor_generator_ends_at_its_attempt_cap_with_what_it_made_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rounds, "ATTEMPTS", 3)
    error, client = stopped(lambda call: "" if call % 40 else sentence(call))
    assert len([c for c in error.result.candidates if c.kind == "hard"]) == 36
    assert "from 36 calls (rejected: empty" in str(error)
    accepted = [c for c in error.result.candidates if c.status == "accepted"]
    assert len(error.result.instructions) == len(accepted) >= 1


@pytest.mark.parametrize(
    ("reply", "setting", "words"),
    [
        (SEEDS[3].text + " again", "hard_size", "lower hard_size and easy_size, add seeds, or raise novelty"),
        (SEEDS[0].text, "generator_temperature", "raise generator_temperature"),
        (("truncated", "Explain how"), "generator_max_tokens", "raise generator_max_tokens"),
        ("I can't help with that.", "generator_draw", "another generator_draw asks it anew"),
        (("failed", ""), "generator_draw", "another generator_draw asks it anew"),
    ],
)
def test_the_error_names_the_setting_whose_change_is_the_remedy(reply: Any, setting: str, words: str) -> None:
    error, _ = stopped(lambda _: reply)
    assert error.setting == setting
    assert error.cause == ""
    assert words in str(error)


@pytest.mark.parametrize("short", [False, True])
@pytest.mark.parametrize(("split", "kind"), [(Split([], SEEDS, []), "hard"), (Split(SEEDS, [], []), "easy")])
def test_without_seeds_nothing_is_paid(split: Split, kind: str, short: bool) -> None:
    error, client = stopped(sentence, split, short=short)
    assert client.asked == []
    assert f"no {kind} instruction to start from" in str(error)
    assert error.setting == "tau"


def test_a_short_generation_returns_what_it_has_of_both_kinds() -> None:
    def reply(call: int) -> str:  # nothing new after the first ten calls
        return sentence(call) if call < 10 else ""

    assert "10 of 12 hard" in str(stopped(reply)[0])
    error, _ = stopped(reply, short=True)  # no easy one yet: ten calls are all for hard ones
    assert "0 of 12 easy" in str(error)
    made, client = run(lambda call: sentence(call) if call % 12 < 5 and call < 24 else "", short=True)
    assert Counter(i.source for i in made.instructions) == {"hard": 5, "easy": 5}
    assert len(made.candidates) == len(client.asked)
    assert run(sentence, short=True)[0] == run(sentence)[0]


def test_with_one_kind_short_the_other_meets_its_count() -> None:
    hard = {seed.text for seed in SPLIT.hard}

    class Dull(Fake):
        def map(self, requests: Sequence[ChatRequest], **settings: Any) -> list[Completion]:
            found = super().map(requests, **settings)
            dull = [any(text in r.messages[0]["content"] for text in hard) and r.slot != "1.0" for r in requests]
            return [Completion("ok", "", Usage(), False, "", "", "") if d else c for c, d in zip(found, dull)]

    made = generate(Dull(sentence), SPLIT, SEEDS, hard_size=12, easy_size=30, short=True)  # type: ignore[arg-type]
    assert Counter(i.source for i in made.instructions) == {"hard": 10, "easy": 30}


def test_a_draw_asks_every_call_anew_and_draw_0_as_ever() -> None:
    slots = [[r.slot for r in run(sentence, draw=draw)[1].asked] for draw in (0, 2)]
    assert set(slots[0]) == {"1.0", "1.1"}
    assert slots[1] == [f"{slot}.2" for slot in slots[0]]
    assert [r.slot for r in run(sentence)[1].asked] == slots[0]


def test_an_outage_stops_after_the_round_and_its_calls_count_for_nothing() -> None:
    error, client = stopped(lambda call: ("outage", "") if call % 3 == 0 else sentence(call), short=True)
    assert (error.cause, error.setting) == ("outage", "")
    assert len(client.asked) == 24
    assert "8 of 24 calls to the generator unanswered (HTTP 503)" in str(error)
    assert len(error.result.candidates) == len(error.result.instructions) == 16
    whole, _ = run(sentence)
    again, client = run(sentence)  # the same calls again, now all of them are answered
    assert again == whole
    assert [r.slot for r in client.asked][:12] == ["1.0"] * 10 + ["1.1"] * 2


def test_with_all_undecided_no_side_is_blamed() -> None:
    error, client = stopped(sentence, Split([], [], SEEDS))
    assert client.asked == []
    assert "none was judged" in str(error)
    assert "tau" not in str(error)


def test_what_is_to_be_avoided_is_avoided() -> None:
    held_out = [Instruction(sentence(0))]
    made = generate(Fake(sentence), SPLIT, SEEDS, hard_size=3, easy_size=3, avoid=held_out)  # type: ignore[arg-type]
    assert made.candidates[0].rule == "duplicate"


def test_the_same_text_again_is_a_duplicate_at_every_threshold() -> None:
    replies = [SEEDS[29].text, sentence(1), sentence(1), SEEDS[28].text.upper()]
    made, _ = run(lambda call: replies[call] if call < len(replies) else sentence(call), novelty=1.0)
    assert [c.rule for c in made.candidates[:4]] == ["duplicate", "", "duplicate", ""]
    assert len(grow(SEEDS, made.instructions)) == len(SEEDS) + 24


def test_progress_is_asked_for_with_a_label() -> None:
    assert run(sentence)[1].labels == ["generator (0/12 hard, 0/12 easy)"]
    assert run(sentence)[1].batches == [False]  # rounds build on each other: a day's wait for each is too long


def test_every_seed_gets_the_same_room_whatever_its_script() -> None:
    """The fault: a Chinese seed was given a budget of 4 tokens."""
    seeds = [Instruction("写一首关于秋天的诗。"), Instruction("Write a poem about the long autumn of the north.")]
    _, client = run(sentence, Split(seeds, seeds, []), hard_size=2, easy_size=2, max_tokens=300)
    assert {request.max_tokens for request in client.asked} == {300}


def test_a_bad_key_stops_the_stage(tmp_path: Path) -> None:
    """The fault: "it also retries a bad key for ever"."""
    app = server.create_app(key="sk-good")
    client = ChatClient(ApiConfig(base_url=SANDBOX_URL, model="answer-key"), tmp_path / "calls.sqlite", app=app)
    with pytest.raises(StageStopped, match="key"):
        generate(client, SPLIT, SEEDS, hard_size=12, easy_size=12)


def test_a_slow_generator_shows_progress(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(progress, "LOG_SECONDS", 0.0)
    replies = iter(range(100))
    app = server.create_app(lambda messages, **_: sentence(next(replies)), latency=0.15)
    config = ApiConfig(base_url=SANDBOX_URL, model="answer-key", concurrency=2)
    generate(ChatClient(config, tmp_path / "calls.sqlite", app=app), SPLIT, SEEDS, hard_size=3, easy_size=3)
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("generator (0/3 hard, 0/3 easy)")]
    assert len(lines) >= 3
    assert any(f" {n}/6 " in line for line in lines for n in range(1, 6))


def test_with_the_real_client_and_the_answer_key(tmp_path: Path) -> None:
    families = (
        "Put these words in alphabetical order: pear, fig, apple, plum",
        "Put these words in alphabetical order: desk, lamp, chair, bed",
    )
    seeds = [Instruction(text) for text in families]
    split = Split(seeds[:1], seeds[1:], [])
    made = []
    for _ in range(2):
        config = ApiConfig(base_url=SANDBOX_URL, model="answer-key")
        client = ChatClient(config, tmp_path / "calls.sqlite", app=create_app())
        made.append(generate(client, split, seeds, hard_size=2, easy_size=2))
    assert made[0] == made[1]
    texts = [i.text for i in made[0].instructions] + [s.text for s in seeds]
    assert len(texts) == 6
    assert max(rouge_l(a, b) for i, a in enumerate(texts) for b in texts[:i]) <= 0.7


POOL = [
    Instruction("root", id="r"),
    Instruction("child", id="c", parent="r", source="hard", iteration=1),
    Instruction("other", id="o", parent="r", source="hard", iteration=2),
    Instruction("grandchild", id="g", parent="c", source="easy", iteration=2),
    Instruction("stranger", id="s"),
]


def test_lineage_goes_back_to_the_root() -> None:
    back = lineage.ancestors("g", POOL)
    assert back["id"].tolist() == ["r", "c", "g"]
    assert back["generation"].tolist() == [0, 1, 2]
    assert back["iteration"].tolist() == [0, 1, 2]
    assert lineage.ancestors("s", POOL)["id"].tolist() == ["s"]
    with pytest.raises(LionkitError, match="'zz'"):
        lineage.ancestors("zz", POOL)


def test_a_circle_of_parents_ends() -> None:
    circle = [Instruction("a", id="a", parent="b"), Instruction("b", id="b", parent="a")]
    assert lineage.ancestors("a", circle)["id"].tolist() == ["b", "a"]


def test_the_candidate_table_has_a_row_a_candidate() -> None:
    unmeasured = Candidate("", "hard", "r", "rejected", "empty")
    table = lineage.candidate_table([Candidate("x y", "hard", "r", "accepted", similarity=0.5), unmeasured], POOL)
    assert table.loc[0, ["text", "seed", "similarity", "seed_similarity"]].tolist() == ["x y", "root", 0.5, 0.0]
    assert table["similarity"].isna().tolist() == [False, True]


def test_tables_hold_what_no_encoding_can() -> None:
    half = Instruction("half \ud83d", id="h", category="\ud83d")
    table = lineage.candidate_table([Candidate(half.text, "hard", "h", "accepted", nearest=half.text)], [half])
    assert table.loc[0, ["text", "seed", "seed_similarity"]].tolist() == [half.text, half.text, 1.0]
    assert lineage.ancestors("h", [half])["text"].tolist() == [half.text]
    assert lineage.category_table([half]).to_dict() == {"\ud83d": {0: 1}}
