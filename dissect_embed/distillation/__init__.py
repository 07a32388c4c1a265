"""Static knowledge distillation: the vectors of a teacher's units teach a student."""

from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from dissect_embed.distillation.methods.static_module import StaticLoss

__all__ = ["TRAINING_VERSION", "StaticLoss"]

# Raised when the same task would give other numbers, or is described by other keys. Here, so that
# the Snakefile reads it without importing torch.
TRAINING_VERSION: Final = 3


def __getattr__(name: str) -> Any:
    """Import ``StaticLoss`` when it is asked for: it needs torch."""
    if name == "StaticLoss":
        from dissect_embed.distillation.methods.static_module import StaticLoss

        return StaticLoss
    msg = f"module {__name__!r} has no attribute {name!r}"
    raise AttributeError(msg)
