"""Comparing models: paired tests, bootstrap intervals, tests over folds and seeds, multiplicity, power.

A pure array library: numpy arrays in, frozen dataclasses out (each with ``to_dict()``).
"""

from agnews_exp.evaluation.statistics.agreement import AgreementTable, ClassAgreement, agreement_table
from agnews_exp.evaluation.statistics.blocks import BlockComparison, BlockPair, compare_folds, compare_seeds
from agnews_exp.evaluation.statistics.bootstrap import (
    bootstrap_difference,
    bootstrap_mean_difference,
    bootstrap_metric,
)
from agnews_exp.evaluation.statistics.comparison import (
    ComparisonResult,
    MetricComparison,
    compare_all,
    compare_predictions,
)
from agnews_exp.evaluation.statistics.effect_size import (
    Effect,
    EffectSizes,
    accuracy_interval,
    effect_sizes,
    pooled_cohens_d,
)
from agnews_exp.evaluation.statistics.independent import WelchTest, welch_test
from agnews_exp.evaluation.statistics.intervals import BootstrapInterval, PairedBootstrap
from agnews_exp.evaluation.statistics.margins import COUNT_METRICS, count_metric, undirected_confusions
from agnews_exp.evaluation.statistics.mcnemar import (
    ClassTest,
    McNemarTest,
    PairedCounts,
    mcnemar_by_class,
    mcnemar_p_values,
    mcnemar_test,
    paired_counts,
)
from agnews_exp.evaluation.statistics.multiplicity import adjust
from agnews_exp.evaluation.statistics.power import (
    DetectableDifference,
    mcnemar_power,
    required_items,
    smallest_detectable_difference,
)
from agnews_exp.evaluation.statistics.randomisation import RandomisationTest, randomisation_test
from agnews_exp.evaluation.statistics.ranks import (
    FriedmanTest,
    WilcoxonTest,
    critical_difference,
    friedman_test,
    rank_models,
    wilcoxon_test,
)
from agnews_exp.evaluation.statistics.resampled import CorrectedTTest, correct_t_statistic, corrected_t_test

__all__ = [
    "COUNT_METRICS",
    "AgreementTable",
    "BlockComparison",
    "BlockPair",
    "BootstrapInterval",
    "ClassAgreement",
    "ClassTest",
    "ComparisonResult",
    "CorrectedTTest",
    "DetectableDifference",
    "Effect",
    "EffectSizes",
    "FriedmanTest",
    "McNemarTest",
    "MetricComparison",
    "PairedBootstrap",
    "PairedCounts",
    "RandomisationTest",
    "WelchTest",
    "WilcoxonTest",
    "accuracy_interval",
    "adjust",
    "agreement_table",
    "bootstrap_difference",
    "bootstrap_mean_difference",
    "bootstrap_metric",
    "compare_all",
    "compare_folds",
    "compare_predictions",
    "compare_seeds",
    "correct_t_statistic",
    "corrected_t_test",
    "count_metric",
    "critical_difference",
    "effect_sizes",
    "friedman_test",
    "mcnemar_by_class",
    "mcnemar_p_values",
    "mcnemar_power",
    "mcnemar_test",
    "paired_counts",
    "pooled_cohens_d",
    "randomisation_test",
    "rank_models",
    "required_items",
    "smallest_detectable_difference",
    "undirected_confusions",
    "welch_test",
    "wilcoxon_test",
]
