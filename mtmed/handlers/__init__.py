"""What happens around training: resume, pictures, progress."""

from mtmed.handlers.checkpoint import Checkpoint
from mtmed.handlers.early_stopping import EarlyStopping
from mtmed.handlers.history import LossHistory
from mtmed.handlers.progress import Progress
from mtmed.handlers.tensorboard import TensorBoardLog
from mtmed.handlers.weights_writer import BestModelWriter, EncoderWriter, LastModelWriter, SharedWeightsWriter

__all__ = [
    "BestModelWriter",
    "Checkpoint",
    "EarlyStopping",
    "EncoderWriter",
    "LastModelWriter",
    "LossHistory",
    "Progress",
    "SharedWeightsWriter",
    "TensorBoardLog",
]
