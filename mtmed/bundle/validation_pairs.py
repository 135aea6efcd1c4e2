"""Whether held-out kidneys can be compared, said before the training instead of after its first epoch."""

from mtmed.data import Volumes
from mtmed.data.region import SIDES
from mtmed.errors import InputError

__all__ = ["require_validation_pairs"]


def require_validation_pairs(validation: Volumes, *, side_map: str = "side") -> None:
    """Require kidneys of two patients, since `mtmed.metrics.PairAccuracy` compares those of different patients.

    Args:
        validation: volumes of the validation cases; none pass.
        side_map: name of the map of sides.

    Raises:
        InputError: there are validation cases, but of fewer than two patients with a kidney.
    """
    sided = {index for value in SIDES for index in validation.having(side_map, value)}
    patients = {validation.patient(index) for index in sided}
    if len(validation) and len(patients) < 2:
        problem = f"has kidneys of {len(patients)} patient{'s' * (not patients)}, and pairs need two"
        raise InputError("validation", problem, "choose another fold, fewer folds, or --fold none")
