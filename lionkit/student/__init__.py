"""The student: a small open model, loaded in 4-bit, taught with LoRA adapters, answering in batches.

The only package that imports torch, transformers and peft; importing it takes seconds, so callers do it late.
`encode` makes ids and labels, `batches` tensors, `model` loads, `dense` makes CPUs fast, `train` and `checkpoint`
fine-tune, `ranks` does so with several processes, `respond` answers; `export`, `card` and `delta` are the way out to
others' programs, and in from published deltas.
"""

import warnings

from lionkit.student.delta import recover_delta
from lionkit.student.encode import Audit, Encoded, encode, label_audit
from lionkit.student.export import Export, export_student
from lionkit.student.model import Student, load
from lionkit.student.ranks import lead
from lionkit.student.respond import Answer, respond
from lionkit.student.train import TrainReport, train

# transformers warns of its own renamed options, which nobody here can change
warnings.filterwarnings("ignore", category=FutureWarning, module=r"transformers\.")
