"""The student: a small open model, loaded in 4 bits, taught with LoRA adapters, answering in batches.

The only package that imports torch, transformers and peft; importing it takes seconds, so callers do it late.
`named` says whether a model can be one, `model` loads it; `encode` makes ids and labels, `batches` makes tensors,
`dense` makes CPUs fast. `train` fine-tunes, with its `trainer` and its `checkpoint`; `ranks` does so with several
processes; `memory` says what it will take. `respond` answers here over a `cache`, `served` from a server. `export`,
`card` and `delta` are the ways to and from other programs.
"""

import warnings

from lionkit.student.delta import recover_delta
from lionkit.student.encode import Encoded, LabelAudit, encode, label_audit
from lionkit.student.export import Export, export_student
from lionkit.student.model import Student, load
from lionkit.student.named import check
from lionkit.student.ranks import lead
from lionkit.student.respond import Answer, respond
from lionkit.student.train import TrainReport, train

# transformers warns of its own renamed options, which nobody here can change
warnings.filterwarnings("ignore", category=FutureWarning, module=r"transformers\.")
