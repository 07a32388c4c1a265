"""The losses of the other methods, between features of a student and of a teacher.

Every function takes tensors in float32 and returns a scalar; the teacher's come second. The
formulas are those of the public code of Tian et al., *Contrastive Representation Distillation*,
ICLR 2020 (CRD), which is what published tables compare; where it differs from a method's own paper,
the docstring says so. Weights stand in ``registry``.
"""

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

# Norms up to this are those of dead features.
DEAD = 1e-12


def unit_length(x: Float[Tensor, "*batch feature"]) -> Float[Tensor, "*batch feature"]:
    """Return the rows at length 1. A zero row stays zero, and its gradient bounded.

    Examples
    --------
    >>> unit_length(torch.tensor([[3.0, 4.0], [0.0, 0.0]]))
    tensor([[0.6000, 0.8000],
            [0.0000, 0.0000]])
    """
    norm = torch.linalg.vector_norm(x, dim=-1, keepdim=True)
    unit: Tensor = x / norm.where(norm > DEAD, 1)
    return unit


def softened_divergence(
    student: Float[Tensor, "image cls"],
    teacher: Float[Tensor, "image cls"],
    temperature: float = 4.0,
) -> Float[Tensor, ""]:
    """Return T² KL(teacher ‖ student) of the class probabilities at temperature T, in nats.

    The mean over images. Hinton, Vinyals, Dean, *Distilling the Knowledge in a Neural Network*,
    2015 (KD).
    """
    log_p = F.log_softmax(teacher / temperature, dim=1)
    log_q = F.log_softmax(student / temperature, dim=1)
    divergence = F.kl_div(log_q, log_p, reduction="batchmean", log_target=True)
    return temperature**2 * divergence


def attention_map(maps: Float[Tensor, "image unit y x"]) -> Float[Tensor, "image pixel"]:
    """Return where a network looks: the mean of squares over units, each image at length 1."""
    return unit_length(maps.square().mean(dim=1).flatten(1))


def attention_loss(
    student: Float[Tensor, "image student_unit y x"],
    teacher: Float[Tensor, "image teacher_unit y x"],
) -> Float[Tensor, ""]:
    """Return the mean squared difference of the attention maps.

    Zagoruyko, Komodakis, *Paying More Attention to Attention*, ICLR 2017 (AT). Their equation 2
    takes the norm of the difference; their code and CRD's take this mean.
    """
    return F.mse_loss(attention_map(student), attention_map(teacher))


def factor_loss(
    student: Float[Tensor, "image student_unit y x"],
    teacher: Float[Tensor, "image teacher_unit y x"],
) -> Float[Tensor, ""]:
    """Return the mean absolute difference of the attention maps of two factors.

    Kim, Park, Kwak, *Paraphrasing Complex Network: Network Compression via Factor Transfer*,
    NeurIPS 2018 (FT). The paper normalises whole factors; CRD's code their attention maps.
    """
    return F.l1_loss(attention_map(student), attention_map(teacher))


def similarity_loss(
    student: Float[Tensor, "image student_unit y x"],
    teacher: Float[Tensor, "image teacher_unit y x"],
) -> Float[Tensor, ""]:
    """Return the mean squared difference of how similar the images of a batch are.

    Inner products of images' maps, rows at length 1, a mean over all B² pairs. Tung, Mori,
    *Similarity-Preserving Knowledge Distillation*, ICCV 2019 (SP).
    """
    rows = [maps.flatten(1) for maps in (student, teacher)]
    gram_student, gram_teacher = (unit_length(row @ row.mT) for row in rows)
    return F.mse_loss(gram_student, gram_teacher)


def correlation_loss(
    student: Float[Tensor, "image feature"], teacher: Float[Tensor, "image feature"]
) -> Float[Tensor, ""]:
    """Return the mean over neighbours in the batch of Σ_d abs(Δ_i) abs(Δ_i+1), Δ = s - t.

    It depends on the order of the images, and needs two. Peng et al., *Correlation Congruence for
    Knowledge Distillation*, ICCV 2019 (CC), in the form its authors gave CRD's: the paper compares
    Gram matrices.
    """
    delta = (student - teacher).abs()
    return (delta[:-1] * delta[1:]).sum(dim=1).mean()


def gaussian_loss(
    mean: Float[Tensor, "image unit y x"],
    target: Float[Tensor, "image unit y x"],
    variance: Float[Tensor, " unit"],
) -> Float[Tensor, ""]:
    """Return the mean of -log N(target; mean, variance) without its constant, in nats.

    Ahn et al., *Variational Information Distillation for Knowledge Transfer*, CVPR 2019 (VID).
    """
    variance = variance[:, None, None]
    return 0.5 * ((mean - target).square() / variance + variance.log()).mean()


def relation_loss(
    student: Float[Tensor, "image student_feature"],
    teacher: Float[Tensor, "image teacher_feature"],
    distance: float = 25.0,
    angle: float = 50.0,
) -> Float[Tensor, ""]:
    """Return how the distances and angles between images differ, each in smooth L1.

    Distances are divided by their mean over pairs of two images; all B² pairs and B³ angles
    count, also the zero ones. Park et al., *Relational Knowledge Distillation*, CVPR 2019 (RKD).
    """
    distance_student, angle_student = _relations(student)
    distance_teacher, angle_teacher = _relations(teacher)
    return distance * F.smooth_l1_loss(distance_student, distance_teacher) + (
        angle * F.smooth_l1_loss(angle_student, angle_teacher)
    )


def _relations(
    x: Float[Tensor, "image feature"],
) -> tuple[Float[Tensor, "image image"], Float[Tensor, "image image image"]]:
    """Return distances over their mean, and cosines of the angles at the first image."""
    difference = x - x[:, None]
    distances = torch.linalg.vector_norm(difference, dim=2)
    n_pairs = max(len(x) * (len(x) - 1), 1)
    directions = unit_length(difference)
    return distances / (distances.sum() / n_pairs).clamp_min(DEAD), directions @ directions.mT


def neighbour_loss(
    student: Float[Tensor, "image student_feature"],
    teacher: Float[Tensor, "image teacher_feature"],
    eps: float = 1e-7,
) -> Float[Tensor, ""]:
    """Return the divergence of the probabilities that two images are neighbours, in nats.

    Cosines, brought to [0, 1], rows that sum to 1; the mean over all B² pairs; the paper sums.
    Passalis, Tefas, *Learning Deep Representations with Probabilistic Knowledge Transfer*, ECCV
    2018 (PKT).
    """
    q, p = _neighbours(student), _neighbours(teacher)
    return (p * ((p + eps) / (q + eps)).log()).mean()


def _neighbours(x: Float[Tensor, "image feature"]) -> Float[Tensor, "image image"]:
    x = unit_length(x)
    similarity = (x @ x.mT + 1) / 2
    return similarity / similarity.sum(dim=1, keepdim=True)


def boundary_loss(
    student: Float[Tensor, "image unit y x"],
    teacher: Float[Tensor, "image unit y x"],
    margin: float = 1.0,
) -> Float[Tensor, ""]:
    """Return how far responses before the ReLU are from the teacher's side of zero, by a margin.

    Squares, summed over units and pixels, the mean over images. Heo et al., *Knowledge Transfer via
    Distillation of Activation Boundaries Formed by Hidden Neurons*, AAAI 2019 (AB).
    """
    short = torch.where(teacher > 0, margin - student, margin + student)
    return short.relu().square().sum() / len(student)


def flow(
    lower: Float[Tensor, "image lower_unit tall wide"],
    upper: Float[Tensor, "image upper_unit y x"],
) -> Float[Tensor, "image lower_unit upper_unit"]:
    """Return the flow matrix of two layers: mean products of units over pixels.

    The lower map is brought to the upper one's grid by means over squares.
    """
    # Not adaptive pooling, whose gradient on CUDA depends on the order of additions.
    lower = F.avg_pool2d(lower, lower.shape[2] // upper.shape[2])
    return lower.flatten(2) @ upper.flatten(2).mT / upper[0, 0].numel()


def flow_loss(
    student: tuple[
        Float[Tensor, "image lower_unit tall wide"], Float[Tensor, "image upper_unit y x"]
    ],
    teacher: tuple[
        Float[Tensor, "image lower_unit tall wide"], Float[Tensor, "image upper_unit y x"]
    ],
) -> Float[Tensor, ""]:
    """Return the mean squared difference of the flow matrices between two layers.

    Yim et al., *A Gift from Knowledge Distillation*, CVPR 2017 (FSP).
    """
    return F.mse_loss(flow(*student), flow(*teacher))


def selectivity_loss(
    student: Float[Tensor, "image student_unit y x"],
    teacher: Float[Tensor, "image teacher_unit y x"],
) -> Float[Tensor, ""]:
    """Return the squared maximum mean discrepancy of two sets of unit maps, kernel (aᵀb)².

    Each unit's map at length 1; the mean over images. Huang, Wang, *Like What You Like: Knowledge
    Distill via Neuron Selectivity Transfer*, 2017 (NST).
    """
    s, t = (unit_length(maps.flatten(2)) for maps in (student, teacher))
    within_student, within_teacher, between = (
        (a @ b.mT).square().mean() for a, b in ((s, s), (t, t), (s, t))
    )
    return within_student + within_teacher - 2 * between
