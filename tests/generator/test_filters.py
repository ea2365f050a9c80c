"""The generator's filters: for each rule what it must keep and what it must drop, and what unwrapping takes off."""

from __future__ import annotations

from pathlib import Path

import pytest

from lionkit.generator.filters import RULES, broken_rule, unwrap
from lionkit.pools.readers import read_instructions
from lionkit.prompts import generator_messages, wording
from lionkit.records import Instruction

SEED = Instruction("Name the capital of France.", output="The capital of France is the city of Paris.")

KEEP = [
    "Write an instruction manual for a toaster.",
    "Explain what the word 'instruction' means to a compiler, with one example of an instruction.",
    '"To be, or not to be" opens a speech: who gives it, and in which play?',
    "'Yesterday' and 'Today' differ in one rule of grammar. Which?",
    "1. Sort the list 3, 1, 2.\n2. Say which number stands in the middle.",
    "What does this print?\n```python\nprint(sum(range(5)))\n```",
    "```sql\nSELECT name FROM users WHERE id = 3\n```\nRewrite this query for a table called people.",
    "def f(x): return x * 2  # what is f(f(3))?",
    "Définis l'intégrale de Riemann en une phrase.",
    "Écris un poème sur l'été.",
    "Ändere den Satz ins Passiv: Der Hund beißt den Mann.",
    "写一首关于秋天的短诗。",
    "翻译成英语：我喜欢喝茶。",
    "次の文を丁寧な表現に直してください：早く来い。",
    "Переведи на английский: «кот спит».",
    "اكتب قصيدة قصيرة عن البحر.",
    "तीन फलों के नाम बताइए।",
    "แปลประโยคนี้เป็นภาษาอังกฤษ: ฉันชอบแมว",
    "Define photosynthesis.",
    "I can't sleep. Suggest three remedies.",
    "I'm sorry I missed your call: rewrite this as a formal apology.",
    "Sorry seems to be the hardest word: explain the phrase.",
    "Unfortunately, I cannot attend the meeting. Make this sentence more polite.",
    "As an AI ethicist, list three risks of face recognition.",
    "Is the answer to life 42? Explain the joke.",
    "Guess the pattern.\nInput: 2\nOutput: 4\nInput: 3\nOutput: 9\nInput: 4\nOutput:",
    "Input: the cat sat\nOutput:",
    "Is a whale a fish?\nAnswer: yes or no?",
    "Summarize the following text: Bees dance to tell where flowers are.",
    "Use the following words in one sentence: river, lamp, quiet.",
    "Sort the following list 3 1 2.",
    "Bees dance to tell each other where the flowers are, and how far. Summarize the text above in four words.",
    "What happens to a balloon above the clouds?",
    "Convert a temperature above 100 degrees Celsius, say 120, to Fahrenheit.",
    "Put these words in alphabetical order: pear, fig, apple",
    "What does 😀 mean in a text message?",
    "Write a regular expression that matches <<< and >>>.",
]

DROP = {
    "empty": ["", " \n", "...", "***", "—"],
    "too short": ["Hello", "Write.", "翻译", "3"],
    "scaffolding": [
        generator_messages("Name a fruit.", "hard")[0]["content"],
        "<<<example 0123456789>>>\nName a fruit.\n<<<end example 0123456789>>>",
        "Sure:\n" + max(wording("generator_easy").template.splitlines(), key=len),
    ],
    "refusal": [
        "I'm sorry, but I can't assist with that.",
        "I’m sorry, I cannot help with this request.",
        "I cannot provide instructions of that kind.",
        "I am unable to comply with this request.",
        "Sorry, I can't do that.",
        "Unfortunately, I cannot assist with this.",
        "As an AI language model, I cannot write new instructions.",
        "As a language model I don't have access to the internet.",
        "Lo siento, pero no puedo ayudar con eso.",
        "Es tut mir leid, aber ich kann dabei nicht helfen.",
        "Извините, но я не могу помочь с этим.",
        "抱歉，我无法完成这个请求。",
        "申し訳ありませんが、お手伝いできません。",
    ],
    "answer": [
        "The answer is Paris.",
        "Answer: 42 is the sum of both.",
        "**Answer:** apple, fig, pear",
        "Sure! Paris is the capital of France.",
        "### Response:\nParis",
        "Name the capital of Peru.\nAnswer: Lima",
        "Sort the words fig, apple.\n\n**Output:** apple, fig",
        "The capital of France is the city of Paris!",
    ],
    "not self-contained": [
        "Summarize the text above in one sentence.",
        "Translate the above paragraph into German.",
        "Rewrite the following sentence in the passive voice.",
        "Answer the question below.",
        "Correct the errors in the following short paragraph.",
        "Describe the attached image.",
        "What is shown in the picture above?",
    ],
    "same as seed": ["Name the capital of France.", "name the capital of France", "NAME THE CAPITAL, OF FRANCE!"],
}


@pytest.mark.parametrize("text", KEEP)
def test_good_instructions_survive_whole(text: str) -> None:
    """The fault: texts with the word "instruction", a quote or a non-ASCII letter first were all dropped."""
    assert unwrap(text) == text
    assert broken_rule(text, SEED) == ""


@pytest.mark.parametrize(("rule", "text"), [(rule, text) for rule, texts in DROP.items() for text in texts])
def test_each_rule_drops_what_it_names(rule: str, text: str) -> None:
    assert broken_rule(unwrap(text), SEED) == rule


def test_every_rule_is_tested() -> None:
    assert set(DROP) == set(RULES)


@pytest.mark.parametrize(
    "reply",
    [
        "Name three rivers.",
        "  Name three rivers.\n",
        '"Name three rivers."',
        "“Name three rivers.”",
        "«Name three rivers.»",
        "**Name three rivers.**",
        "Instruction: Name three rivers.",
        "New instruction: Name three rivers.",
        "**New instruction:** Name three rivers.",
        "### Instruction:\nName three rivers.",
        "## New Instruction\nName three rivers.",
        "Instruction： Name three rivers.",
        "```\nName three rivers.\n```",
        "```text\nName three rivers.\n```",
        "Sure! Here is a new instruction:\n\nName three rivers.",
        "Here's one new instruction for you:\nName three rivers.",
        "<think>They want rivers. Instruction: no.</think>\nName three rivers.",
        '<think>hm</think>Here is an instruction:\n\n**Instruction:** "Name three rivers."',
    ],
)
def test_harmless_wrapping_comes_off(reply: str) -> None:
    assert unwrap(reply) == "Name three rivers."


@pytest.mark.parametrize(
    "reply",
    [
        '"Yes" or "no": is water wet?',
        "'a' and 'b'",
        "```\nx = 1\n```\nWhat is x?\n```\ny\n```",
        "Task management tools: name three.",
        "Here is an instruction: 'close the door'. Make it polite.",
        "Give an instruction: how to boil an egg.",
    ],
)
def test_what_belongs_to_the_text_stays(reply: str) -> None:
    assert unwrap(reply) == reply


def test_an_unfinished_thought_leaves_nothing() -> None:
    assert unwrap("<think>I should write about rivers") == ""


def test_real_instructions_break_no_rule(shared_data: Path) -> None:
    names = ("self_instruct_seed_tasks.jsonl", "user_oriented_instructions.jsonl", "vicuna80/question.jsonl")
    broken = [
        (rule, item.text)
        for name in names
        for item in read_instructions(shared_data / name)
        if (rule := broken_rule(unwrap(item.text), SEED))
    ]
    assert broken == []


def test_the_prompts_are_what_scaffolding_looks_for() -> None:
    for kind in ("hard", "easy"):
        assert "$seed" in wording(f"generator_{kind}").template
        assert broken_rule(wording(f"generator_{kind}").template, SEED) == "scaffolding"
