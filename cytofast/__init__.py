"""Cell Painting profiles on one machine: out of core, exact, fast.

The public names, in the order that data flows. They load when first used, so that ``import cytofast`` costs nothing.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from cytofast.errors import CytofastError as CytofastError
    from cytofast.errors import DataError as DataError
    from cytofast.errors import ProfileWarning as ProfileWarning
    from cytofast.errors import RecipeError as RecipeError
    from cytofast.errors import SchemaError as SchemaError
    from cytofast.errors import StoreError as StoreError
    from cytofast.ingest.anndata_files import read_anndata as read_anndata
    from cytofast.ingest.choice import Choice as Choice
    from cytofast.ingest.deepprofiler import read_deepprofiler as read_deepprofiler
    from cytofast.ingest.embeddings import read_embeddings as read_embeddings
    from cytofast.ingest.example import write_example as write_example
    from cytofast.ingest.gct import read_gct as read_gct
    from cytofast.ingest.gctx import read_gctx as read_gctx
    from cytofast.ingest.mapping import ColumnMapping as ColumnMapping
    from cytofast.ingest.mapping import read_mapped as read_mapped
    from cytofast.ingest.profiles import read_profiles as read_profiles
    from cytofast.ingest.rosetta import read_rosetta as read_rosetta
    from cytofast.ingest.writing import write_profiles as write_profiles
    from cytofast.modalities.align import align as align
    from cytofast.modalities.align import high_quality as high_quality
    from cytofast.modalities.maps import associate as associate
    from cytofast.modalities.maps import contribution_map as contribution_map
    from cytofast.modalities.maps import score_map as score_map
    from cytofast.modalities.mechanism import Mechanism as Mechanism
    from cytofast.modalities.predict import CrossModalPrediction as CrossModalPrediction
    from cytofast.recipe.recipe import Recipe as Recipe
    from cytofast.recipe.run import run as run
    from cytofast.report import figures as figures
    from cytofast.report.writing import write_report as write_report
    from cytofast.resources import limits as limits
    from cytofast.retrieval.average_precision import assign_reference_index as assign_reference_index
    from cytofast.retrieval.average_precision import average_precision as average_precision
    from cytofast.retrieval.evaluation import enrichment as enrichment
    from cytofast.retrieval.evaluation import grit as grit
    from cytofast.retrieval.evaluation import hit_at_k as hit_at_k
    from cytofast.retrieval.evaluation import mp_value as mp_value
    from cytofast.retrieval.evaluation import precision_recall as precision_recall
    from cytofast.retrieval.neighbors import neighbors as neighbors
    from cytofast.retrieval.neighbors import similarity as similarity
    from cytofast.retrieval.presets import activity as activity
    from cytofast.retrieval.presets import consistency as consistency
    from cytofast.retrieval.replication import percent_matching as percent_matching
    from cytofast.retrieval.replication import percent_replicating as percent_replicating
    from cytofast.retrieval.replication import replicate_correlation as replicate_correlation
    from cytofast.retrieval.replication import replicate_scores as replicate_scores
    from cytofast.retrieval.rule import Retrieval as Retrieval
    from cytofast.retrieval.significance import fraction_retrieved as fraction_retrieved
    from cytofast.retrieval.significance import mean_average_precision as mean_average_precision
    from cytofast.schema import normalize_wells as normalize_wells
    from cytofast.schema import parse_features as parse_features
    from cytofast.steps.aggregate import Aggregate as Aggregate
    from cytofast.steps.annotate import Annotate as Annotate
    from cytofast.steps.components import PrincipalComponents as PrincipalComponents
    from cytofast.steps.consensus import Consensus as Consensus
    from cytofast.steps.correct import Sphere as Sphere
    from cytofast.steps.correlated import DropCorrelated as DropCorrelated
    from cytofast.steps.counts import RegressCellCount as RegressCellCount
    from cytofast.steps.harmonize import Harmonize as Harmonize
    from cytofast.steps.normalize import Robustize as Robustize
    from cytofast.steps.normalize import RobustMAD as RobustMAD
    from cytofast.steps.normalize import Standardize as Standardize
    from cytofast.steps.position import CentreWells as CentreWells
    from cytofast.steps.position import MedianPolish as MedianPolish
    from cytofast.steps.quality import DropFlagged as DropFlagged
    from cytofast.steps.quality import FlagCells as FlagCells
    from cytofast.steps.select import DropListed as DropListed
    from cytofast.steps.select import FeatureSelect as FeatureSelect
    from cytofast.steps.select import KeepListed as KeepListed
    from cytofast.steps.select_rules import DropLowFrequency as DropLowFrequency
    from cytofast.steps.select_rules import DropLowMAD as DropLowMAD
    from cytofast.steps.select_rules import DropLowVariance as DropLowVariance
    from cytofast.steps.select_rules import DropMissing as DropMissing
    from cytofast.steps.select_rules import DropNoisy as DropNoisy
    from cytofast.steps.select_rules import DropOutliers as DropOutliers
    from cytofast.steps.transform import ClipOutliers as ClipOutliers
    from cytofast.steps.transform import InverseNormal as InverseNormal
    from cytofast.steps.tvn import TVN as TVN
    from cytofast.store.exporting import export as export
    from cytofast.store.profile_store import ProfileStore as ProfileStore
    from cytofast.store.profile_store import open_store as open_store
    from cytofast.tasks.conditions import answer_conditions as answer_conditions
    from cytofast.tasks.conditions import run_conditions as run_conditions
    from cytofast.tasks.detection import Detection as Detection
    from cytofast.tasks.directionality import Directionality as Directionality
    from cytofast.tasks.directionality import PercentMatching as PercentMatching
    from cytofast.tasks.maps import map_profiles as map_profiles
    from cytofast.tasks.matching import CrossMatching as CrossMatching
    from cytofast.tasks.matching import SisterMatching as SisterMatching
    from cytofast.tasks.neighbours import NearestNeighbourAccuracy as NearestNeighbourAccuracy
    from cytofast.tasks.preset import Benchmark as Benchmark
    from cytofast.tasks.results import TaskResults as TaskResults
    from cytofast.tasks.results import read_results as read_results
    from cytofast.tasks.splits import check_split as check_split
    from cytofast.tasks.splits import make_splits as make_splits

_HOMES = {
    "parse_features": "schema",
    "normalize_wells": "schema",
    "limits": "resources",
    "read_profiles": "ingest.profiles",
    "write_profiles": "ingest.writing",
    "read_gct": "ingest.gct",
    "read_gctx": "ingest.gctx",
    "read_anndata": "ingest.anndata_files",
    "read_deepprofiler": "ingest.deepprofiler",
    "read_embeddings": "ingest.embeddings",
    "read_mapped": "ingest.mapping",
    "ColumnMapping": "ingest.mapping",
    "read_rosetta": "ingest.rosetta",
    "write_example": "ingest.example",
    "Choice": "ingest.choice",
    "open_store": "store.profile_store",
    "ProfileStore": "store.profile_store",
    "export": "store.exporting",
    "Aggregate": "steps.aggregate",
    "Annotate": "steps.annotate",
    "RobustMAD": "steps.normalize",
    "Standardize": "steps.normalize",
    "Robustize": "steps.normalize",
    "InverseNormal": "steps.transform",
    "ClipOutliers": "steps.transform",
    "FlagCells": "steps.quality",
    "DropFlagged": "steps.quality",
    "FeatureSelect": "steps.select",
    "DropListed": "steps.select",
    "KeepListed": "steps.select",
    "DropMissing": "steps.select_rules",
    "DropLowVariance": "steps.select_rules",
    "DropLowFrequency": "steps.select_rules",
    "DropOutliers": "steps.select_rules",
    "DropNoisy": "steps.select_rules",
    "DropLowMAD": "steps.select_rules",
    "DropCorrelated": "steps.correlated",
    "Sphere": "steps.correct",
    "TVN": "steps.tvn",
    "PrincipalComponents": "steps.components",
    "CentreWells": "steps.position",
    "MedianPolish": "steps.position",
    "RegressCellCount": "steps.counts",
    "Harmonize": "steps.harmonize",
    "Consensus": "steps.consensus",
    "Retrieval": "retrieval.rule",
    "average_precision": "retrieval.average_precision",
    "assign_reference_index": "retrieval.average_precision",
    "mean_average_precision": "retrieval.significance",
    "fraction_retrieved": "retrieval.significance",
    "neighbors": "retrieval.neighbors",
    "similarity": "retrieval.neighbors",
    "activity": "retrieval.presets",
    "consistency": "retrieval.presets",
    "replicate_correlation": "retrieval.replication",
    "replicate_scores": "retrieval.replication",
    "percent_replicating": "retrieval.replication",
    "percent_matching": "retrieval.replication",
    "hit_at_k": "retrieval.evaluation",
    "precision_recall": "retrieval.evaluation",
    "grit": "retrieval.evaluation",
    "mp_value": "retrieval.evaluation",
    "enrichment": "retrieval.evaluation",
    "Detection": "tasks.detection",
    "SisterMatching": "tasks.matching",
    "CrossMatching": "tasks.matching",
    "PercentMatching": "tasks.directionality",
    "Directionality": "tasks.directionality",
    "NearestNeighbourAccuracy": "tasks.neighbours",
    "Benchmark": "tasks.preset",
    "run_conditions": "tasks.conditions",
    "answer_conditions": "tasks.conditions",
    "read_results": "tasks.results",
    "TaskResults": "tasks.results",
    "map_profiles": "tasks.maps",
    "make_splits": "tasks.splits",
    "check_split": "tasks.splits",
    "align": "modalities.align",
    "high_quality": "modalities.align",
    "CrossModalPrediction": "modalities.predict",
    "score_map": "modalities.maps",
    "contribution_map": "modalities.maps",
    "associate": "modalities.maps",
    "Mechanism": "modalities.mechanism",
    "Recipe": "recipe.recipe",
    "run": "recipe.run",
    "figures": "report.figures",
    "write_report": "report.writing",
    "CytofastError": "errors",
    "SchemaError": "errors",
    "DataError": "errors",
    "RecipeError": "errors",
    "StoreError": "errors",
    "ProfileWarning": "errors",
}

__all__ = list(_HOMES)


def __getattr__(name: str) -> Any:
    if name == "__version__":
        from importlib.metadata import version

        return version("cytofast")
    if name not in _HOMES:
        raise AttributeError(f"module 'cytofast' has no attribute {name!r}")
    home = importlib.import_module(f"cytofast.{_HOMES[name]}")
    value = home if name == "figures" else getattr(home, name)  # the one name that is a module
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted([*globals(), *_HOMES])
