"""The objectives by name."""

from __future__ import annotations

from typing import Any

from itl_hf.objectives.ctl import CTL
from itl_hf.objectives.itl import ITL
from itl_hf.objectives.mean_marginal_itl import MeanMarginalITL
from itl_hf.objectives.undirected import Undirected
from itl_hf.objectives.vtl import VTL

OBJECTIVES: dict[str, Any] = {objective.name: objective for objective in (ITL, VTL, MeanMarginalITL, CTL, Undirected)}
