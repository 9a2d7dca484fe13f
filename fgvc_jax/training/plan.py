"""How the members of one network are trained: their optimizer, first state and step."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property, partial

import jax.numpy as jnp
import optax
from flax import linen as nn
from flax.typing import VariableDict
from jax.sharding import Mesh

from fgvc_jax.config import Experiment
from fgvc_jax.config import Network as NetworkOptions
from fgvc_jax.config import Optimizer as OptimizerOptions
from fgvc_jax.inference.architecture import Architecture
from fgvc_jax.training import step
from fgvc_jax.training.gradients import Gradients
from fgvc_jax.training.optimizer import Layers, optimizer, schedule
from fgvc_jax.training.state import State, stack_teachers
from fgvc_jax.transfer import Transfer, weigh
from fgvc_jax.utils import compilation, devices
from fgvc_jax.utils.errors import UserError
from fgvc_jax.utils.options import LARGEST


@dataclass(frozen=True)
class MemberPlan:
    """How members of one network are trained.

    Args:
        experiment: as they see it.
        architecture: of them.
        steps_per_epoch: of their training.
        mesh: devices.
    """

    experiment: Experiment
    architecture: Architecture
    steps_per_epoch: int
    mesh: Mesh

    def __post_init__(self) -> None:
        if self.total_steps > LARGEST:
            raise UserError(
                f"--epochs {self.experiment.epochs} are {self.total_steps:,} steps, more than "
                f"{LARGEST:,}: lower it"
            )
        _ = self.layers
        check_batch_norm(self.experiment.network, self.architecture)

    @property
    def total_steps(self) -> int:
        """Of a member's training."""
        return self.steps_per_epoch * self.experiment.epochs

    @cached_property
    def layers(self) -> Layers | None:
        """How the layers share the backbone's learning rate."""
        return layers_of(self.experiment.optimizer, self.architecture.network.backbone)

    @cached_property
    def optimizer(self) -> optax.GradientTransformation:
        spec = self.experiment
        return optimizer_of(spec.optimizer, self.steps_per_epoch, spec.epochs, self.layers)

    def state(self, member: int, variables: VariableDict, frozen: Sequence[VariableDict]) -> State:
        """The state at step 0 of member `member` (from 1), with the frozen members before it as
        teachers where their maps are computed in the step: then with room for all that the last
        member has."""
        transfer = self.experiment.transfer
        online = transfer.name == "orthogonal" and transfer.maps == "online"
        room = self.experiment.members - 1 if online else 0
        before = [self.architecture.split(member)[1] for member in frozen] if room else []
        _, outputs = self.architecture.answer
        state = State(
            member=jnp.int32(member),
            step=jnp.int32(0),
            params=variables["params"],
            batch_stats=variables["batch_stats"],
            opt_state=self.optimizer.init(variables["params"]),
            memory=self.architecture.objective.init_memory(variables, outputs),
            teachers=stack_teachers(before, room, variables),
            average=variables if self.experiment.optimizer.ema else {},
        )
        return devices.replicate(self.mesh, state)

    @property
    def train_step(self) -> Callable:
        """See `step.train_step`."""
        spec = self.experiment
        return _train_step(
            architecture=self.architecture,
            optimizer=spec.optimizer,
            transfer=spec.transfer,
            steps_per_epoch=self.steps_per_epoch,
            epochs=spec.epochs,
            seed=spec.data.view_seed,
            mesh=self.mesh,
            mixup=spec.data.amount("mixup"),
            cutmix=spec.data.amount("cutmix"),
        )


# Of the programs the largest; a member asks for its own once.
@partial(compilation.shared, most=2)
def _train_step(
    *,
    architecture: Architecture,
    optimizer: OptimizerOptions,
    transfer: Transfer,
    steps_per_epoch: int,
    epochs: int,
    seed: int,
    mesh: Mesh,
    mixup: float,
    cutmix: float,
) -> Callable:
    layers = layers_of(optimizer, architecture.network.backbone)
    return step.train_step(
        Gradients(
            network=architecture.network,
            objective=architecture.objective,
            weigh=partial(weigh, alpha=transfer.alpha, weighting=transfer.weighting),
            view=architecture.view,
            seed=seed,
            total_steps=steps_per_epoch * epochs,
            mixup=mixup,
            cutmix=cutmix,
            parts=optimizer.accumulate,
        ),
        optimizer=optimizer_of(optimizer, steps_per_epoch, epochs, layers),
        learning_rate=schedules(optimizer, steps_per_epoch, epochs)["backbone"],
        mesh=mesh,
        ema=optimizer.ema,
    )


def check_batch_norm(network: NetworkOptions, architecture: Architecture) -> None:
    """Raise a UserError where statistics are asked for in groups that nothing computes."""
    if network.batch_norm_groups > 1 and not architecture.whole["batch_stats"]:
        raise UserError(
            f"--network.batch-norm-groups {network.batch_norm_groups}: there is no batch norm in "
            f"{network.name} and its heads, leave it at 1"
        )


def layers_of(spec: OptimizerOptions, backbone: nn.Module) -> Layers | None:
    """How the layers of a backbone share its learning rate; None for all alike.

    Raises UserError for a backbone whose layers have no order of their own.
    """
    decay = spec.layer_decay
    if decay == 1:
        return None
    if not hasattr(backbone, "layer"):
        raise UserError(
            f"--optimizer.layer-decay {decay:g}: {type(backbone).__name__} has no layer-wise "
            "learning rates, leave it at 1"
        )
    return Layers(decay, backbone.layers, backbone.layer)


def schedules(
    spec: OptimizerOptions, steps_per_epoch: int, epochs: int
) -> dict[str, optax.Schedule]:
    """Learning rates by step of the "backbone" and the "heads"."""
    peaks = {"backbone": spec.learning_rate, "heads": spec.head_learning_rate}
    return {
        part: schedule(
            peak,
            kind=spec.schedule,
            steps_per_epoch=steps_per_epoch,
            epochs=epochs,
            warmup_steps=spec.warmup_steps,
            step_epochs=spec.step_epochs,
            step_factor=spec.step_factor,
        )
        for part, peak in peaks.items()
    }


def optimizer_of(
    spec: OptimizerOptions, steps_per_epoch: int, epochs: int, layers: Layers | None
) -> optax.GradientTransformation:
    """The optax transformation that the options describe."""
    return optimizer(
        spec.name,
        **schedules(spec, steps_per_epoch, epochs),
        momentum=spec.momentum,
        weight_decay=spec.weight_decay,
        decayed=spec.decayed,
        clip_norm=spec.clip_norm,
        layers=layers,
    )
