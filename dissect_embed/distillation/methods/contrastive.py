"""CRD: the student's features of an image shall tell the teacher's from those of other classes.

Tian, Krishnan, Isola, *Contrastive Representation Distillation*, ICLR 2020. Memories hold, of every
training image, what either network made of it so far. An image's score against a row of the other
network's memory is x = exp(cosine / T) / Z; with that of itself, x, and of K negatives, the loss is

    -log h(x) - Σ_k log(1 - h(x_k)),    h(x) = x / (x + K / N)

over both networks. Negatives are drawn anew at every step, and uniformly, without replacement.

Gathering K rows for every image moves a gigabyte a step. Here one matrix product scores a batch
against the whole memory, and what was not drawn is set to zero, where it has neither loss nor
gradient: the same numbers, faster.
"""

import math

import torch
from jaxtyping import Bool, Float, Int32, Int64
from torch import Tensor, nn

from dissect_embed.distillation.methods.losses import unit_length
from dissect_embed.distillation.methods.terms import Term
from dissect_embed.distillation.outputs import Outputs


def mix(x: Int32[Tensor, "*shape"]) -> Int32[Tensor, "*shape"]:
    """Return scrambled bits: a bijection on 32-bit integers, the same on every device.

    Wellons' *lowbias32*: multiplications wrap around, and shifts bring in zeros.
    """
    x = x ^ (x >> 16).bitwise_and_(0xFFFF)
    x.mul_(0x7FEB352D).bitwise_xor_((x >> 15).bitwise_and_(0x1FFFF))
    x.mul_(0x846CA68B - 2**32).bitwise_xor_((x >> 16).bitwise_and_(0xFFFF))
    return x


def draw_negatives(
    labels: Int64[Tensor, " n"],
    images: Int64[Tensor, " image"],
    n_negatives: int,
    seed: Int64[Tensor, ""],
    step: Int64[Tensor, ""],
) -> Bool[Tensor, "image n"]:
    """Mark, for each image of a batch, ``n_negatives`` images of other classes.

    A function of the seed, the step and the image alone. Every image gives all others a key, no two
    the same, and takes those with the smallest.

    Parameters
    ----------
    labels
        Classes of the whole training set.
    images
        Indices of the batch's images in it.
    n_negatives
        At most the number of images outside any class.
    """
    column = mix(torch.arange(len(labels), dtype=torch.int32, device=labels.device))
    salt = mix(images.int() ^ mix(step.int() + mix(seed.int())))
    keys = mix(column ^ salt[:, None])
    others = labels != labels[images][:, None]
    keys.masked_fill_(~others, torch.iinfo(torch.int32).max)
    last = keys.kthvalue(n_negatives, dim=1, keepdim=True).values
    return (keys <= last) & others


class Contrast(Term):
    """CRD's two embeddings, its memories and its count of steps.

    Every call is a step: it moves the memories and draws other negatives. All of it lies in
    buffers, so ``state_dict`` resumes it bit for bit. Images must not repeat within a batch.

    As in CRD's code and not its paper: T is 0.07 and both scores are divided by a constant Z, N
    times the mean score of the first batch; memories start uniform and not normalised; the
    teacher's embedding is trained too; the loss is the sum over both networks as anchors, a mean
    over images but a sum over negatives. The code adds 1e-7 to denominators that are at least
    K / N, which float32 hardly sees; left out.
    """

    def __init__(
        self,
        student: Outputs,
        teacher: Outputs,
        labels: Int64[Tensor, " n"],
        seed: int,
        *,
        n_negatives: int = 16_384,
        dim: int = 128,
        temperature: float = 0.07,
        momentum: float = 0.5,
    ) -> None:
        """Take example outputs and the training set's labels.

        ``n_negatives`` is lowered to the number of images outside the largest class.

        Raises
        ------
        ValueError
            If all labels are the same: there are no negatives.
        """
        super().__init__()
        n = len(labels)
        fewest = n - int(labels.bincount().max()) if n else 0
        if fewest == 0:
            msg = f"labels: all {n} are of the same class, so none can be a negative; give others"
            raise ValueError(msg)
        self.n_negatives = min(n_negatives, fewest)
        self.temperature = temperature
        self.momentum = momentum
        self.embed_student = nn.Linear(student.pooled.shape[1], dim)
        self.embed_teacher = nn.Linear(teacher.pooled.shape[1], dim)
        bound = math.sqrt(3 / dim)
        self.memory_student: Tensor
        self.memory_teacher: Tensor
        self.scale_student: Tensor
        self.scale_teacher: Tensor
        for name in ("student", "teacher"):
            self.register_buffer(f"memory_{name}", torch.empty(n, dim).uniform_(-bound, bound))
            self.register_buffer(f"scale_{name}", torch.zeros(()))  # Z; 0: not known yet
        self.seed: Tensor
        self.step: Tensor
        self.labels: Tensor
        self.register_buffer("seed", torch.tensor(seed % 2**31))
        self.register_buffer("step", torch.tensor(0))
        self.register_buffer("labels", labels.cpu().clone(), persistent=False)

    def forward(
        self, student: Outputs, teacher: Outputs, images: Int64[Tensor, " image"]
    ) -> Float[Tensor, ""]:
        """Return the loss, and move the memories."""
        s = unit_length(self.embed_student(student.pooled.float()))
        t = unit_length(self.embed_teacher(teacher.pooled.float()))
        drawn = draw_negatives(self.labels, images, self.n_negatives, self.seed, self.step)
        loss = self._contrast(s, self.memory_teacher, self.scale_student, images, drawn)
        loss = loss + self._contrast(t, self.memory_student, self.scale_teacher, images, drawn)
        with torch.no_grad():
            for memory, x in ((self.memory_student, s), (self.memory_teacher, t)):
                moved = self.momentum * memory[images] + (1 - self.momentum) * x
                memory.index_copy_(0, images, unit_length(moved))
            self.step += 1
        return loss

    def _contrast(
        self,
        vectors: Float[Tensor, "image dim"],
        memory: Float[Tensor, "n dim"],
        scale: Float[Tensor, ""],
        images: Int64[Tensor, " image"],
        drawn: Bool[Tensor, "image n"],
    ) -> Float[Tensor, ""]:
        """Return the loss with one network's vectors as anchors; set Z if it is not known.

        The gradient is written out, because autograd would keep several matrices of (B, N), and
        the memory, which changes before it is asked.
        """
        n_images, n = drawn.shape
        with torch.no_grad():
            own = memory[images]
            positive = ((vectors * own).sum(dim=1, keepdim=True) / self.temperature).exp_()
            negative = (vectors @ memory.mT).div_(self.temperature).exp_().mul_(drawn)
            mean = (positive.sum() + negative.sum()) / (n_images * (self.n_negatives + 1))
            scale.copy_(torch.where(scale > 0, scale, n * mean))
            # x / (K / N): what log h and log(1 - h) depend on.
            noise = scale * self.n_negatives / n
            positive /= noise
            negative /= noise
            value = ((1 / positive).log1p().sum() + negative.log1p().sum()) / n_images
            gradient = (negative / (1 + negative)) @ memory - own / (1 + positive)
            gradient /= self.temperature * n_images
        return value + ((vectors - vectors.detach()) * gradient).sum()
