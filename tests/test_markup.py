"""Thoughts and control tokens: gone from replies of every family of models, left alone where a text is about them."""

from __future__ import annotations

import time

import pytest

from lionkit.markup import answer, without_thoughts

LEFT = [  # what each family leaves around an answer when a server has no parser for it
  "<think>\nmaybe\n</think>\n\n{}",  # Qwen, DeepSeek, GLM
  "<think>a</think>\n<think>b</think>{}",
  '<THINK effort="low">a</THINK>{}',
  "hm, a fruit.</think>{}",  # the opening is in the prompt
  "</think>\n\n{}",
  "[THINK]maybe[/THINK]{}</s>[INST]And?",  # Mistral
  "<thinking>\nmaybe\n</thinking>\n\n{}",
  "<thought>maybe</thought>{}[|endofturn|]",  # EXAONE
  "<Thought>a</Thought><Output>{}</Output>",  # Marco-o1
  "<think>a</think>\n<answer>{}</answer>",  # Hunyuan
  "<|channel|>analysis<|message|>a<|end|><|start|>assistant<|channel|>final<|message|>{}<|return|>",  # gpt-oss
  "<|start|>assistant<|channel|>commentary<|message|>a<|end|><|start|>assistant<|channel|>final<|message|>{}",
  "<|channel|>final<|message|>{}",
  "analysisWe need a fruit.assistantfinal{}",  # gpt-oss where control tokens are dropped
  "<|channel>thought\nhm<channel|>{}<turn|>",  # Gemma 4
  "<unused94>thought\nhm<unused95>{}",  # MedGemma
  "◁think▷hm◁/think▷{}",  # Kimi
  "<seed:think>hm</seed:think>{}<seed:eos>",
  "<longcat_think>hm</longcat_think>{}",
  "<|START_THINKING|>hm<|END_THINKING|><|START_RESPONSE|>{}<|END_RESPONSE|>",  # Cohere
  "<|begin_of_thought|>hm<|end_of_thought|><|begin_of_solution|>{}<|end_of_solution|>",
  "<|think|>hm<|end|><|begin|>assistant<|content|>{}<|flush|>",  # Solar
  "Here is my thought process: hm.\n\nHere is my response: {}",  # Granite
  "Here are my reasoning steps:\nhm\n[BEGIN FINAL RESPONSE]\n{}\n[END FINAL RESPONSE]",  # Apriel
  '<details type="reasoning" done="true">\n<summary>Thought</summary>\nhm\n</details>\n{}',
  "<|im_start|>assistant\n{}<|im_end|>\n<|im_start|>user\nAnother?",
  "<|start_header_id|>assistant<|end_header_id|>\n\n{}<|eot_id|>",
  "{}<end_of_turn>\n<end_of_turn>",
  "{}<｜end▁of▁sentence｜>",
  "{}<|END_OF_TURN_TOKEN|>",
  "<s> {}</s>",
  "<think>a<think>b</think>c</think>{}",
  "<think>\n<think>\na\n</think>\n\n{}",
  "<analysis>\nhm\n</analysis>\n\n{}",
  "<analysis>hm</analysis><answer>{}</answer>",
  *(f"<{tag}>hm</{tag}>{{}}" for tag in ("antThinking", "thinking_process", "monologue", "chain-of-thought")),
  *("{}" + end + "<|user|>\nMore?" for end in ("<|end|>\n", "</s>\n", "<|endoftext|>", "<|end|><|end|>\n")),
  *("{}<｜end▁of▁sentence｜>" + more for more in ("<｜User｜>More?", "\n<｜User｜>More?", "\nMore")),
  "{}<｜User｜>More?",
  "{}<|END_OF_TURN_TOKEN|><|START_OF_TURN_TOKEN|><|USER_TOKEN|>More?",
  "{}[|endofturn|]\n[|user|]More?",
  "{}</s><s>[INST] More? [/INST]",
  "{}<|eot_id|>user\n\nMore?",
  *("{}" + token for token in ("<|end|>", "</s>", " <|eot_id|>", "<eos>", "<|endoftext|>", "<|user|>\nMore?")),
]  # fmt: skip


@pytest.mark.parametrize("left", LEFT)
def test_only_the_answer_is_left(left: str) -> None:
    assert answer(left.format("A fig.")).strip() == "A fig."


@pytest.mark.parametrize(
    "text",
    [
        "Write <think> before and </think> after.",
        "The tag </think> ends it.",
        "`<think>`\na\n</think>\nb",
        "ChatML:\n<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant",
        "A <|im_end|> token ends it.",
        "Use <s>x</s>",
        "Dear all.\nHere is my response: no.",
        "Put it in <answer>x</answer>",
        "analysis is the art",
        "Use [INST] to start",
        "<div>x</div>",
        "<analysis>x</analysis>",
        "<analysis>x</analysis>\n<advice>y</advice>",
        "Wrong.<s>x</s> Right.<s>y</s>",
        "The period.</analysis> ends it.",
        "First. <|im_end|> and <|user|> are tokens.",
        "return x[0]",
        "",
    ],
)
def test_a_text_about_marks_stays_as_it_is(text: str) -> None:
    assert answer(text) == text


def test_thoughts_about_marks_do_not_cut_an_answer_about_marks() -> None:
    assert answer("<think>use <think></think>The `</think>` tag.") == "The `</think>` tag."


@pytest.mark.parametrize(
    "text", ["<think> foo", "[THINK]a", "<think>a</think>", "<|channel|>analysis<|message|>We need"]
)
def test_thoughts_that_never_end_leave_nothing(text: str) -> None:
    assert answer(text) == ""


def test_a_judges_draft_scores_are_dropped_anywhere() -> None:
    assert without_thoughts("Well: ◁think▷9 9◁/think▷ 8 5", anywhere=True) == "Well:  8 5"
    assert without_thoughts("8 5 <thought>or not", anywhere=True) is None


@pytest.mark.parametrize(
    "piece",
    [
        "<think>",
        "</think>",
        "<|",
        "[INST]",
        "\n",
        "<|im_end|>",
        "A.<|end|>\n",
        "<|user|>",
        "<analysis>",
        "assistantfinal",
        "analysis",
    ],
)
def test_time_grows_with_the_text_alone(piece: str) -> None:
    def seconds(size: int) -> float:
        text = piece * (size // len(piece))
        started = time.process_time()
        answer(text)
        return time.process_time() - started

    assert seconds(40_000) < 50 * max(seconds(4_000), 0.002)
