"""SKD's loss as modules: the trainer's term, and one for any training loop of PyTorch."""

from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

from jaxtyping import Float, Int64
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from dissect_embed.distillation.methods.static_loss import static_loss
from dissect_embed.distillation.methods.terms import Term
from dissect_embed.distillation.outputs import Outputs
from dissect_embed.distillation.prior import Prior, load_prior, prior_targets
from dissect_embed.errors import ModelError
from dissect_embed.networks.hooks import find_layers


class Static(Term):
    """Eq. 2 and 3 of [HAN22] on f1, f2, …; no teacher looks on."""

    def __init__(self, targets: Sequence[Float[Tensor, "_ _"]], temperature: float = 1.0) -> None:
        """Take p of each stage, (unit, unit), and the temperature of q.

        Raises
        ------
        ModelError
            If the temperature is not positive, or the rows of a target are no distributions.
        """
        super().__init__()
        if not temperature > 0:
            msg = f"SKD: temperature {temperature!r}; expected a positive number"
            raise ModelError(msg)
        self.temperature = temperature
        self._names = [f"p{n}" for n, _ in enumerate(targets)]
        for name, target in zip(self._names, targets, strict=True):
            off = (target.sum(dim=1) - 1).abs().max().item()
            if not off < 1e-3:
                msg = f"SKD: rows of {name} sum to 1 ± {off:.3g}; give the softmax over each row"
                raise ModelError(msg)
            self.register_buffer(name, target.detach().float().clone())

    @property
    def targets(self) -> list[Float[Tensor, "_ _"]]:
        """Return p of each stage."""
        return [self.get_buffer(name) for name in self._names]

    def forward(
        self, student: Outputs, teacher: Outputs | None, images: Int64[Tensor, " image"]
    ) -> Float[Tensor, ""]:
        """Return ``static_loss`` of all maps but the stem's."""
        return static_loss(student.maps[1:], self.targets, self.temperature)


class StaticLoss(nn.Module):
    """SKD's loss of any student, to be added to the loss of any training loop.

    Hooks keep the maps of the student's last forward pass, and calling the loss without arguments
    uses them up: one forward pass, one call. p lies in buffers, which ``.to(device)`` moves and
    ``state_dict`` holds. Maps of half precision are compared in float32, also under autocast.

    Parameters
    ----------
    prior
        A prior, or the path of the ``prior.h5`` that ``dissect-embed prior`` makes of a teacher.
    layers
        Names of modules of the student, as ``named_modules`` has them, in the order of the prior's
        layers. Their outputs are maps, (image, unit, y, x), with as many units as the prior's.
    temperature
        Divides the cosines, of p and of q; 1 in [HAN22].
    control, seed
        What stands in place of the prior's vectors, see ``prior.prior_targets``.

    Raises
    ------
    ArtefactError
        If the file is missing, damaged or another one.
    ModelError
        If the layers are not as many as the prior's, or the temperature is not positive.

    Examples
    --------
    >>> import torch
    >>> vectors = {"layer1": torch.rand(4, 16), "layer2": torch.rand(8, 16)}
    >>> prior = Prior(Path("prior.h5"), "net", "", None, "", "", 0, (), (), vectors, None)
    >>> student = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Conv2d(4, 8, 3), nn.ReLU(),
    ...                         nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 10))
    >>> static_loss = StaticLoss(prior, layers=["1", "3"])  # or StaticLoss("prior.h5", …)
    >>> images, labels = torch.rand(2, 3, 8, 8), torch.tensor([3, 7])
    >>> with static_loss.attach(student):
    ...     loss = nn.functional.cross_entropy(student(images), labels) + 0.5 * static_loss()
    ...     loss.backward()
    >>> student[0].weight.grad.shape
    torch.Size([4, 3, 3, 3])
    """

    def __init__(
        self,
        prior: Prior | Path | str,
        layers: Sequence[str],
        *,
        temperature: float = 1.0,
        control: str | None = None,
        seed: int = 0,
    ) -> None:
        super().__init__()
        if not isinstance(prior, Prior):
            prior = load_prior(Path(prior))
        names = list(prior.vectors)
        if isinstance(layers, str) or len(layers) != len(names):
            given = [layers] if isinstance(layers, str) else list(layers)
            msg = (
                f"StaticLoss: {prior.path} has {len(names)} layers ({', '.join(names)}), "
                f"layers names {len(given)} ({', '.join(given)}); name a module of the student for "
                "each of them"
            )
            raise ModelError(msg)
        self.layers = tuple(layers)
        targets = prior_targets(prior, control, seed=seed, temperature=temperature)
        self.static = Static(targets, temperature)
        self._handle: Attachment | None = None
        # The last output of each layer, and how often it had been changed in place by then.
        self._kept: dict[str, tuple[Any, int | None]] = {}

    def attach(self, student: nn.Module) -> "Attachment":
        """Keep the maps of a student from now on, and of no other.

        Returns
        -------
        What ends it: a context manager, and a handle with ``remove()``, as torch's hooks have.

        Raises
        ------
        ModelError
            If the student has no module of one of the names.
        """
        find_layers(student, self.layers)
        if self._handle is not None:
            self._handle.remove()
        modules = {name: student.get_submodule(name) for name in self.layers}
        handles = [
            module.register_forward_hook(self._keeper(name, module))
            for name, module in modules.items()
        ]
        self._kept.clear()
        self._handle = Attachment(handles, self._kept)
        return self._handle

    def forward(self, maps: Sequence[Tensor] | None = None) -> Float[Tensor, ""]:
        """Return the loss, not yet weighted, in nats: the mean over images and layers.

        Parameters
        ----------
        maps
            Of each layer, (image, unit, y, x); by default those of the last forward pass of the
            student that the loss is attached to.

        Raises
        ------
        ModelError
            If there was no forward pass, or maps and prior do not fit; the message says where.
        """
        maps = self._take() if maps is None else list(maps)
        targets = self.static.targets
        if len(maps) != len(targets):
            msg = f"StaticLoss: {len(maps)} maps; expected {len(targets)}: {', '.join(self.layers)}"
            raise ModelError(msg)
        for name, found, p in zip(self.layers, maps, targets, strict=True):
            _check_maps(name, found, p)
        return static_loss(maps, targets, self.static.temperature)

    def _keeper(self, name: str, expected: nn.Module) -> Callable[..., None]:
        kept = self._kept

        def keep(module: nn.Module, inputs: Any, output: Any) -> None:
            # A copy of the student, such as a mean of its weights, has a copy of its hooks.
            if module is expected:
                kept[name] = output, _count_changes(output)

        return keep

    def _take(self) -> list[Any]:
        """Return the maps that were kept, and forget them."""
        kept = dict(self._kept)
        self._kept.clear()
        for name in self.layers:
            if name not in kept:
                msg = (
                    f"StaticLoss: {name} has given no maps since the last call; attach(student), "
                    "and call the student before every call of the loss"
                )
                raise ModelError(msg)
            output, changes = kept[name]
            if _count_changes(output) != changes:
                msg = (
                    f"StaticLoss: the maps of {name} were changed in place after it; name the "
                    "module that changes them, or make that one work without inplace=True"
                )
                raise ModelError(msg)
        return [kept[name][0] for name in self.layers]


class Attachment:
    """The hooks of a ``StaticLoss`` on a student."""

    def __init__(self, handles: list[RemovableHandle], kept: dict[str, Any]) -> None:
        """Take the hooks, and what they keep."""
        self._handles, self._kept = handles, kept

    def remove(self) -> None:
        """Take the hooks away; once more does nothing."""
        for handle in self._handles:
            handle.remove()
        self._kept.clear()

    def __enter__(self) -> "Attachment":
        """Return this."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Take the hooks away."""
        self.remove()


def _count_changes(output: Any) -> int | None:
    # Tensors of inference mode do not count them; nothing is trained on those.
    is_counted = isinstance(output, Tensor) and not output.is_inference()
    return int(output._version) if is_counted else None


def _check_maps(name: str, maps: Any, p: Tensor) -> None:
    if not isinstance(maps, Tensor) or maps.dim() != 4:
        found = tuple(maps.shape) if isinstance(maps, Tensor) else type(maps).__name__
        msg = f"StaticLoss: {name} gives {found}; expected maps (image, unit, y, x)"
        raise ModelError(msg)
    if maps.shape[1] != len(p):
        msg = (
            f"StaticLoss: {name} has {maps.shape[1]} units, its layer of the prior {len(p)}; name "
            "another module, or make a prior of a teacher with as many units"
        )
        raise ModelError(msg)
    if maps.device != p.device:
        msg = f"StaticLoss: {name} is on {maps.device}, p on {p.device}; move it: .to(device)"
        raise ModelError(msg)
