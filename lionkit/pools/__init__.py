"""Train pool and cache pool, and the files of other people that they come from and go to.

The *train pool* is what the student is fine-tuned on in an iteration; the *cache pool* is what it is examined on and
what novelty is measured against (paper section 3.1). `split` divides and grows them, `tables` shows them, `readers`
reads instructions by the table of `layouts`, `reviews` judge results from elsewhere, `writers` writes pools for other
programs.
"""

from lionkit.pools.readers import read_instructions, set_aside_unanswered
from lionkit.pools.reviews import read_fastchat_answers, read_fastchat_reviews, read_judgements, read_reference_results
from lionkit.pools.split import Split, deduplicate, grow, hold_out, split_by_gap
from lionkit.pools.tables import pool_table, verdict_table
from lionkit.pools.writers import export
