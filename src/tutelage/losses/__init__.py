"""Pure functions of tensors: they know no model and no recipe.

Per-sample functions return ``[batch]`` (or ``[batch, tokens]``) and leave the reduction to the caller; functions that
compare samples with each other return a scalar and say so. Bad shapes and values raise ``ValueError``.
"""

from __future__ import annotations

from tutelage.losses.attention import attention_divergence, norm_attention, ranking_coverage, score_distance
from tutelage.losses.balanced import balance, balanced_divergence
from tutelage.losses.cka import linear_cka
from tutelage.losses.complementary import Partition, best_temperature, shared_target, teaching_shares, top_divergence
from tutelage.losses.confidence import confidence_weights, permute_dark_knowledge
from tutelage.losses.contrast import critic_gap, noise_contrast
from tutelage.losses.correlation import interclass_correlation, intraclass_correlation
from tutelage.losses.decoupled import decoupled, decoupled_parts
from tutelage.losses.directions import norm_and_direction, sums_by_class
from tutelage.losses.divergences import (
    cross_entropy,
    entropy,
    jensen_shannon,
    kl_divergence,
    one_against_rest,
    renyi_entropy,
    soft_cross_entropy,
    total_variation,
)
from tutelage.losses.draws import draw_spread, pairwise_covariance
from tutelage.losses.experts import (
    balanced_cross_entropy,
    grand_teacher,
    hardest_negative_suppression,
    mutual_divergence,
)
from tutelage.losses.explanations import (
    binary_maps,
    class_activation_maps,
    class_attention,
    explanation_distance,
    grad_cam,
    resized,
)
from tutelage.losses.features import (
    angle_cosines,
    attention_map,
    attention_transfer,
    channel_correlation,
    flow_matrix,
    flow_of_solution,
    hidden_distance,
    hidden_states,
    hint,
    structured_cosine,
)
from tutelage.losses.inner import implicit_vector, virtual_step
from tutelage.losses.layers import Strategy, layer_map, select_layers
from tutelage.losses.masks import mask_mean, pad_logits
from tutelage.losses.mentoring import Mentoring, rank_mentors, relative_temperatures, tempered_divergence
from tutelage.losses.multilabel import binary_cross_entropy
from tutelage.losses.normalized import logit_distance, normalized_rest, normalized_target
from tutelage.losses.partial import (
    confidence_target,
    confident_similarity_target,
    gradient_rescaling,
    row_similarity,
    similarity_agreement,
    similarity_target,
    smoothed_labels,
    superclass_contrast,
    top_target,
)
from tutelage.losses.positions import Shifted, response_mask, scored, shift, token_mean
from tutelage.losses.projected import Head, Projected, projected_loss
from tutelage.losses.relations import (
    angle_relation,
    correlation_congruence,
    distance_relation,
    probabilistic_transfer,
    similarity_preserving,
)
from tutelage.losses.review import hierarchical_context
from tutelage.losses.roles import elect, feedback
from tutelage.losses.routing import load_balance, routed_divergence
from tutelage.losses.semantics import class_semantics, classifier_gradient
from tutelage.losses.sharpness import corrected, sharpness
from tutelage.losses.sparse import SparseTargets, sparse_divergence
from tutelage.losses.spread import unit_spread
from tutelage.losses.subclasses import (
    class_logits,
    logit_null_space,
    principal_directions,
    subclass_divergence,
    subclass_scores,
    subclass_targets,
)
from tutelage.losses.synthesis import (
    agreed_divergence,
    category_contrast,
    clamped_jensen_shannon,
    class_balance,
    statistics_distance,
    suspicion,
    tail_ratio,
)
from tutelage.losses.token_graphs import (
    context_distance,
    context_similarity,
    graph_divergence,
    neighbour_graph,
    token_contrast,
)
from tutelage.losses.tokens import (
    Detached,
    Divergence,
    DivergenceName,
    skew_kl,
    sorted_distance,
    symmetric_kl,
)
from tutelage.losses.topk import paired_contrast, top_directions, top_scale
from tutelage.losses.transformed import power_sum, power_transform, ttm, wttm
from tutelage.losses.transport import cosine_cost, exact_plan, proximal_plan, sinkhorn_plan, transport_cost
from tutelage.losses.truncated import Fill, Scale, complete, truncate

__all__ = [
    "Detached",
    "Divergence",
    "DivergenceName",
    "Fill",
    "Head",
    "Mentoring",
    "Partition",
    "Projected",
    "Scale",
    "Shifted",
    "SparseTargets",
    "Strategy",
    "agreed_divergence",
    "angle_cosines",
    "angle_relation",
    "attention_divergence",
    "attention_map",
    "attention_transfer",
    "balance",
    "balanced_cross_entropy",
    "balanced_divergence",
    "best_temperature",
    "binary_cross_entropy",
    "binary_maps",
    "category_contrast",
    "channel_correlation",
    "clamped_jensen_shannon",
    "class_activation_maps",
    "class_attention",
    "class_balance",
    "class_logits",
    "class_semantics",
    "classifier_gradient",
    "complete",
    "confidence_target",
    "confidence_weights",
    "confident_similarity_target",
    "context_distance",
    "context_similarity",
    "corrected",
    "correlation_congruence",
    "cosine_cost",
    "critic_gap",
    "cross_entropy",
    "decoupled",
    "decoupled_parts",
    "distance_relation",
    "draw_spread",
    "elect",
    "entropy",
    "exact_plan",
    "explanation_distance",
    "feedback",
    "flow_matrix",
    "flow_of_solution",
    "grad_cam",
    "gradient_rescaling",
    "grand_teacher",
    "graph_divergence",
    "hardest_negative_suppression",
    "hidden_distance",
    "hidden_states",
    "hierarchical_context",
    "hint",
    "implicit_vector",
    "interclass_correlation",
    "intraclass_correlation",
    "jensen_shannon",
    "kl_divergence",
    "layer_map",
    "linear_cka",
    "load_balance",
    "logit_distance",
    "logit_null_space",
    "mask_mean",
    "mutual_divergence",
    "neighbour_graph",
    "noise_contrast",
    "norm_and_direction",
    "norm_attention",
    "normalized_rest",
    "normalized_target",
    "one_against_rest",
    "pad_logits",
    "paired_contrast",
    "pairwise_covariance",
    "permute_dark_knowledge",
    "power_sum",
    "power_transform",
    "principal_directions",
    "probabilistic_transfer",
    "projected_loss",
    "proximal_plan",
    "rank_mentors",
    "ranking_coverage",
    "relative_temperatures",
    "renyi_entropy",
    "resized",
    "response_mask",
    "routed_divergence",
    "row_similarity",
    "score_distance",
    "scored",
    "select_layers",
    "shared_target",
    "sharpness",
    "shift",
    "similarity_agreement",
    "similarity_preserving",
    "similarity_target",
    "sinkhorn_plan",
    "skew_kl",
    "smoothed_labels",
    "soft_cross_entropy",
    "sorted_distance",
    "sparse_divergence",
    "statistics_distance",
    "structured_cosine",
    "subclass_divergence",
    "subclass_scores",
    "subclass_targets",
    "sums_by_class",
    "superclass_contrast",
    "suspicion",
    "symmetric_kl",
    "tail_ratio",
    "teaching_shares",
    "tempered_divergence",
    "token_contrast",
    "token_mean",
    "top_directions",
    "top_divergence",
    "top_scale",
    "top_target",
    "total_variation",
    "transport_cost",
    "truncate",
    "ttm",
    "unit_spread",
    "virtual_step",
    "wttm",
]
