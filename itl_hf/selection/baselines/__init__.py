"""Baselines: the selection methods that ITL is compared with, as acquisitions of the same protocol.

Each follows its paper, and its docstring says where it does not. All keep to budgets, group shares and excluded rows,
break ties towards the lowest row number, give the same picks on any number of processes, and, if rows may be picked
again (`replace`), repeat a row only after all others. Rankings and round-robins read the pool in one or a few passes,
the methods for diverse rows (`KCenter`, `BADGE`, `KMeans`) in a few more. Every process holds the texts in memory.
"""

from itl_hf.selection.baselines.balanced import BalancedRoundRobin
from itl_hf.selection.baselines.chance import LengthMatchedRandom, Random
from itl_hf.selection.baselines.diverse import BADGE, KCenter, KMeans
from itl_hf.selection.baselines.influence import LESS, LESSRoundRobin
from itl_hf.selection.baselines.loss_drop import LossDrop
from itl_hf.selection.baselines.nearest import Cosine, InformationDensity, MaxSimilarity, RoundRobin
from itl_hf.selection.baselines.subspace import GIST
from itl_hf.selection.baselines.texts import BM25, DSIR
from itl_hf.selection.baselines.transport import UnbalancedTransport

__all__ = [
    "BADGE",
    "BM25",
    "DSIR",
    "GIST",
    "LESS",
    "BalancedRoundRobin",
    "Cosine",
    "InformationDensity",
    "KCenter",
    "KMeans",
    "LESSRoundRobin",
    "LengthMatchedRandom",
    "LossDrop",
    "MaxSimilarity",
    "Random",
    "RoundRobin",
    "UnbalancedTransport",
]
