"""The generator: `seeds` says what new instructions are made from, `rounds` asks until there are enough, `filters`
names what is wrong with a text, `lineage` shows what was proposed and which instruction came from which.
"""

from lionkit.generator import seeds
from lionkit.generator.filters import RULES, broken_rule, unwrap
from lionkit.generator.lineage import ancestors, candidate_table, category_table
from lionkit.generator.rounds import PROBE, Generation, GenerationStopped, generate
