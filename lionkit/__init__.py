"""lionkit: adversarial distillation of a closed teacher into an open student, step by step in notebooks."""

__version__ = "0.1.0"
