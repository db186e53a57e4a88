"""From a folder in its native format to batches: read, decoded once, split, augmented."""

from raysearch.data.batch import Batch
from raysearch.data.cache import Cache
from raysearch.data.dataset import Data, open_data, settled
from raysearch.data.loading import TrainingBatches, TrainingSet, training_batches
from raysearch.data.samples import Sample
from raysearch.data.splits import Splits
from raysearch.data.validation import LabelledBatch, ValidationBatch, validation_batches

__all__ = [
    "Batch",
    "Cache",
    "Data",
    "LabelledBatch",
    "Sample",
    "Splits",
    "TrainingBatches",
    "TrainingSet",
    "ValidationBatch",
    "open_data",
    "settled",
    "training_batches",
    "validation_batches",
]
