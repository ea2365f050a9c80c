"""What lets the kit run with nothing but Python: the answer-key teacher, its app, and a small student's weights.

`families` invents and solves verifiable instructions, `answer_key` plays teacher, referee and generator with
them, `app` serves that as an OpenAI-compatible endpoint, `weights` fetches SmolLM2-135M-Instruct. The answer
key is a set of rules, not a language model, and every screen that shows its output says so.
"""


class Refusal(str):
    """A reply that the app serves as a model's refusal, so that nobody trains on it."""
