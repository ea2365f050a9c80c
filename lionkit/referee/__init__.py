"""The referee: `judging` asks it about pairs in both orders, `scores` reads one reply, `trust` audits it.

Judge results that already exist are read in `pools.reviews`.
"""

from lionkit.referee.judging import judge, shorten
from lionkit.referee.scores import Scores, Unscored, parse_scores
from lionkit.referee.trust import audit, seat_advantage, sides_by_tau
