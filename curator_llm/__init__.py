"""Ask a language model once per row of a dataframe, at any scale, on Dask."""

from __future__ import annotations

from curator_llm.cluster import import_hook
from curator_llm.cluster.progress import progress
from curator_llm.config import load_defaults
from curator_llm.frame import accessor
from curator_llm.frame.stages import QueryModel, QueryRewardModel
from curator_llm.spec.budget import Budget
from curator_llm.spec.endpoint import Endpoint
from curator_llm.spec.generation import GenerationConfig

__version__ = "0.1.0"
__all__ = ["Budget", "Endpoint", "GenerationConfig", "QueryModel", "QueryRewardModel", "progress"]

load_defaults()
accessor.register()
import_hook.after("dask.dataframe", "curator_llm.cluster.accessor")
