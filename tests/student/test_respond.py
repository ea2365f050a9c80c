"""Answers: the same in a batch, alone, and by transformers' own loop, whatever the student remembers with."""

from __future__ import annotations

import itertools
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model, get_peft_model_state_dict
from transformers import AutoConfig, AutoModelForCausalLM

from conftest import HEADS, KINDS, SIZES, make_byte_tokenizer
from lionkit import student
from lionkit.errors import StudentError
from lionkit.sandbox.families import seeds
from lionkit.student import ranks
from lionkit.student.checkpoint import fingerprint
from lionkit.student.encode import prompt_ids

respond_module = sys.modules["lionkit.student.respond"]  # the package's name `respond` is the function
Batch = respond_module._Batch
TEXTS = [i.text for i in seeds(16, 3)]
FACTORS = {"rope_type": "longrope", "rope_theta": 1e4, "short_factor": [1.0] * 4, "long_factor": [4.0, 5.0, 6.0, 7.0]}
LONG = SIZES | HEADS | {"rope_parameters": FACTORS | {"factor": 8.0, "original_max_position_embeddings": 200}}
OTHERS: dict[str, dict[str, Any]] = {
    "phi3": LONG | {"original_max_position_embeddings": 200, "initializer_range": 0.08},  # drops its cache there
    "granite": LONG,
    "doge": SIZES | HEADS,  # makes its own mask
}


def by_generate(model: student.Student, text: str, new: int, ends: list[int]) -> str:
    """What transformers' own greedy loop answers to one text, up to one of the `ends`."""
    ids = torch.tensor([prompt_ids(model.tokenizer, text, template=model.template)], device=model.device)
    with torch.no_grad():
        options: dict[str, Any] = {"max_new_tokens": new, "do_sample": False, "pad_token_id": 0, "eos_token_id": ends}
        out = model.model.generate(input_ids=ids, attention_mask=torch.ones_like(ids), **options)
    own = list(itertools.takewhile(lambda token: token not in ends, out[0, ids.shape[1] :].tolist()))
    return model.tokenizer.decode(own, skip_special_tokens=True).strip()


def test_batches_answer_as_one_by_one_in_fp32(
    student_weights: Path, device: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Right padding in batch generation: the same batch padded on the right answers something else."""
    model = student.load(student_weights, quantize="none", dtype="float32", device=device)
    batch = student.respond(model, TEXTS, max_new_tokens=8, batch_size=8, progress=False)
    assert [a.text for a in batch] == [by_generate(model, text, 8, [model.tokenizer.eos_token_id]) for text in TEXTS]
    assert [len(a.text) > 0 for a in batch].count(True) >= 15
    forward = Batch._forward

    def padded_on_the_right(self: Any, ids: torch.Tensor, mask: torch.Tensor, seen: Any) -> Any:
        for row, own in zip(ids, mask, strict=True) if seen is None else ():
            row[:] = torch.cat([row[own == 1], row[own == 0]])
        return forward(self, ids, mask.flip(1) if seen is None else mask, seen)

    monkeypatch.setattr(Batch, "_forward", padded_on_the_right)
    wrong = student.respond(model, TEXTS, max_new_tokens=8, batch_size=8, progress=False)
    assert sum(a != b for a, b in zip(wrong, batch)) >= 8


@pytest.mark.parametrize("kind", [*KINDS, *OTHERS])
def test_every_kind_of_memory_answers_as_it_does_alone(kind: str, tmp_path: Path) -> None:
    """Plain and sliding caches, positions learned, turned (by more from token 200 on) or none, and a state that cannot
    be joined."""
    torch.manual_seed(0)
    config = AutoConfig.for_model(kind, **(KINDS | OTHERS)[kind])
    network = AutoModelForCausalLM.from_config(config).float().eval()
    with torch.no_grad():  # random weights of the usual size answer one and the same token for ever
        for parameter in network.parameters():
            parameter.mul_(3 if parameter.dim() > 1 else 1)
    network.generation_config.eos_token_id = ends = [2, *range(4, 259, 16)]
    model = student.Student(
        network, make_byte_tokenizer(), "plain", torch.device("cpu"), kind, tmp_path, "none", torch.float32
    )
    texts = [text[: 8 + 5 * n] for n, text in enumerate(TEXTS)]
    answers = student.respond(model, texts, max_new_tokens=40, batch_size=6, progress=False)
    alone = [by_generate(model, text, 40, ends) for text in texts]
    assert [a.text for a in answers] == alone
    assert kind == "bloom" or len(set(alone)) > 1  # Bloom with random weights only sees the last byte


def test_sampling_follows_its_seed_and_greedy_nothing_else(tiny_model: Path) -> None:
    model = student.load(tiny_model, dtype="float32", device="cpu")
    ask: dict[str, Any] = {"max_new_tokens": 12, "progress": False}
    greedy = student.respond(model, TEXTS[:4], **ask)
    warm = [student.respond(model, TEXTS[:4], temperature=1.0, seed=seed, **ask) for seed in (0, 0, 1)]
    assert warm[0] == warm[1]
    assert warm[0] != warm[2]
    assert greedy not in warm
    own = model.model.generation_config  # a base may come with such
    own.repetition_penalty, own.no_repeat_ngram_size, own.num_beams, own.num_return_sequences = 5.0, 1, 3, 3
    own.suppress_tokens = list(range(3, 150))
    assert student.respond(model, TEXTS[:4], **ask) == greedy
    assert model.model.generation_config is own


def test_an_answer_stops_at_its_end_and_says_where_it_was_cut(tiny_model: Path, monkeypatch: Any) -> None:
    model = student.load(tiny_model, dtype="float32", device="cpu")
    letter = model.tokenizer("x")["input_ids"][0]
    script = {"a": [letter, 2, letter, letter], "b": [letter] * 4, "c": [letter] * 3 + [2], "d": [2]}
    prompts = {str(prompt_ids(model.tokenizer, text, template=model.template)): text for text in script}

    def take(self: Any, rows: list[Any], logits: torch.Tensor) -> Any:
        chosen = [script[prompts[str(row.prompt)]][min(len(row.tokens), 3) if not row.ended else 0] for row in rows]
        return own(self, rows, torch.nn.functional.one_hot(torch.tensor(chosen), 259).float())

    own = Batch._take
    monkeypatch.setattr(Batch, "_take", take)
    answers = student.respond(model, list(script), max_new_tokens=4, batch_size=3, progress=False)
    assert answers == [("x", False), ("xxxx", True), ("xxx", False), ("", False)]


def test_rows_that_have_ended_make_room_for_the_next(tiny_model: Path, monkeypatch: Any) -> None:
    model = student.load(tiny_model, dtype="float32", device="cpu")
    model.model.generation_config.eos_token_id = list(range(0, model.model.config.vocab_size, 9))
    ask: dict[str, Any] = {"max_new_tokens": 24, "progress": False}
    single = [student.respond(model, [text], **ask)[0] for text in TEXTS]
    assert len({len(answer.text) for answer in single}) > 3
    steps, own = [], Batch.step

    def step(self: Any) -> Any:
        steps.append((len(self.rows), self.mask.shape[1]))
        told = own(self)
        known = [len(row.prompt) + len(row.tokens) - (not row.ended) for row in self.rows]
        assert all(seen <= most for seen, most in zip(self.mask.sum(1), known, strict=True))  # also of ended ones
        return told

    monkeypatch.setattr(Batch, "step", step)
    assert student.respond(model, TEXTS, batch_size=4, **ask) == single
    rows, widths = zip(*steps, strict=True)
    longest = max(len(prompt_ids(model.tokenizer, text, template=model.template)) for text in TEXTS)
    assert max(rows) == 4
    assert sum(rows) < 1.4 * sum(len(model.tokenizer(answer.text)["input_ids"]) + 1 for answer in single)
    assert max(widths) <= longest + 24  # the padding that all have is cut
    assert student.respond(model, TEXTS, batch_size=9, **ask) == single


def test_no_memory_to_answer_in_is_one_line(tiny_model: Path, monkeypatch: Any) -> None:
    model = student.load(tiny_model, dtype="float32", device="cpu")

    def forward(**options: Any) -> None:
        raise RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes")

    monkeypatch.setattr(model.model, "forward", forward)
    with pytest.raises(StudentError, match=r"while answering: lower student.response_batch \(16\)") as caught:
        student.respond(model, ["a"], max_new_tokens=4, progress=False)
    assert caught.value.setting == "student.response_batch"


@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_answers_are_kept_as_they_come_and_an_interruption_changes_none(tiny_model: Path, temperature: float) -> None:
    model = student.load(tiny_model, dtype="float32", device="cpu")
    ask: dict[str, Any] = {"max_new_tokens": 12, "batch_size": 3, "temperature": temperature, "progress": False}
    whole = student.respond(model, TEXTS[:8], **ask)
    kept: dict[int, student.Answer] = {}

    def keep(index: int, answer: student.Answer) -> None:
        kept[index] = answer
        if len(kept) == 6:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        student.respond(model, TEXTS[:8], keep=keep, **ask)
    assert all(whole[i] == answer for i, answer in kept.items())
    left = [i for i in range(8) if i not in kept]
    kept |= dict(zip(left, student.respond(model, [TEXTS[i] for i in left], **ask), strict=True))
    assert [kept[i] for i in range(8)] == whole


@pytest.mark.parametrize("options", [{"max_new_tokens": 0}, {"batch_size": 0}, {"batch_size": -1}])
def test_a_number_that_would_never_end_is_one_line(tiny_model: Path, options: dict[str, Any]) -> None:
    model = student.load(tiny_model, dtype="float32", device="cpu")
    with pytest.raises(StudentError, match=f"{next(iter(options))} = -?[01]: at least 1"):
        student.respond(model, ["a"], **{"max_new_tokens": 4, "progress": False, **options})


def test_an_error_in_a_models_own_code_names_its_kind(tiny_model: Path, monkeypatch: Any) -> None:
    model = student.load(tiny_model, dtype="float32", device="cpu")
    monkeypatch.setattr(model.model, "forward", lambda **_: None)
    with pytest.raises(StudentError, match=r"as LlamaForCausalLM \('NoneType' .*: name a model of another") as caught:
        student.respond(model, ["a"], max_new_tokens=4, progress=False)
    assert caught.value.setting == "student.model"


def test_thoughts_are_left_out_as_in_a_servers_replies(tiny_model: Path, monkeypatch: Any) -> None:
    model = student.load(tiny_model, dtype="float32", device="cpu")
    for written, kept in (("<think>hm</think>\n\nYes.", "Yes."), ("hm.\n</think>Yes.", "Yes."), ("<think>hm", "")):
        monkeypatch.setattr(type(model.tokenizer), "decode", lambda *_, told=written, **__: told)
        assert student.respond(model, ["a"], max_new_tokens=4, progress=False)[0].text == kept


@pytest.mark.parametrize("how", [{}, {"modules_to_save": ["lm_head"]}, {"bias": "all"}])
def test_all_that_an_adapter_holds_is_sent_and_counts(tiny_model: Path, monkeypatch: Any, how: Any) -> None:
    """Other processes that got LoRA's matrices alone would answer with the base's head or biases."""
    model, sent = student.load(tiny_model, quantize="none", dtype="float32", device="cpu"), list[Any]()
    for layer in model.model.model.layers:
        layer.self_attn.q_proj.bias = torch.nn.Parameter(torch.zeros(64))
    model.model = get_peft_model(model.model, LoraConfig(r=2, target_modules=["q_proj"], **how))
    monkeypatch.setattr(ranks, "same", sent.extend)
    student.respond(model, ["a"], max_new_tokens=1, progress=False)
    kept = get_peft_model_state_dict(model.model, save_embedding_layers=False)
    assert sorted(tuple(p.shape) for p in sent) == sorted(tuple(tensor.shape) for tensor in kept.values())
    before = fingerprint(model, [])
    for parameter in sent:
        parameter.data += 1
        assert before != (before := fingerprint(model, []))
