"""torchdistill's side: seconds a step of its distillation box, as JSON."""

from __future__ import annotations

import json
import logging
import sys
import time
from collections.abc import Callable

import numpy as np
import plain
import torch

# torchvision's compiled operators are not loaded beside this torch; its imports only want their schemas.
torch.library.define("torchvision::nms", "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
torch.library.define("torchvision::qnms", "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")

from torch import Tensor  # noqa: E402
from torch.utils.data import Dataset, RandomSampler, TensorDataset  # noqa: E402
from torchdistill.core.distillation import get_distillation_box  # noqa: E402
from torchvision import transforms  # noqa: E402

# The module whose output are the logits: the last of the plain models.
LOGITS = str(len(plain.student()) - 1)
HOOK = {"input": [], "output": [LOGITS]}


class Augmented(Dataset[tuple[Tensor, Tensor]]):
    """Samples that a transform is applied to one by one, as data sets of torchvision do."""

    def __init__(self, inputs: Tensor, labels: Tensor, transform: Callable[[Tensor], Tensor]) -> None:
        self.inputs, self.labels, self.transform = inputs, labels, transform

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        return self.transform(self.inputs[index]), self.labels[index]


def main(archive: str, augment: str) -> None:
    logging.disable(logging.WARNING)
    torch.set_num_threads(1)
    torch.manual_seed(0)
    arrays = np.load(archive)
    inputs, labels = torch.from_numpy(arrays["x_train"]), torch.from_numpy(arrays["y_train"])
    # A shift by up to a pixel, zeros moving in.
    crop = transforms.RandomCrop(inputs.shape[-1], padding=1)
    data = Augmented(inputs, labels, crop) if augment == "shift" else TensorDataset(inputs, labels)
    per_epoch = -(-len(data) // plain.BATCH_SIZE)
    config = {
        "num_epochs": plain.EPOCHS,
        "train_data_loader": {
            "dataset_id": "train",
            "sampler": {"class_or_func": RandomSampler},
            "kwargs": {"batch_size": plain.BATCH_SIZE, "num_workers": 0, "drop_last": False},
        },
        "val_data_loader": {},
        "teacher": {"forward_proc": "forward_batch_only", "requires_grad": False, "forward_hook": HOOK},
        "student": {"forward_proc": "forward_batch_only", "forward_hook": HOOK},
        # The fused kernel, as on the other side; it is not what torchdistill's own recipes use.
        "optimizer": {
            "key": "AdamW",
            "kwargs": {"lr": plain.LEARNING_RATE, "weight_decay": plain.WEIGHT_DECAY, "fused": True},
        },
        "scheduler": {
            "key": "CosineAnnealingLR",
            "kwargs": {"T_max": plain.EPOCHS * per_epoch},
            "scheduling_step": 1,
        },
        "criterion": {
            "key": "WeightedSumLoss",
            "kwargs": {
                "sub_terms": {
                    "kd": {
                        "criterion": {
                            "key": "KDLoss",
                            "kwargs": {
                                "student_module_path": LOGITS,
                                "student_module_io": "output",
                                "teacher_module_path": LOGITS,
                                "teacher_module_io": "output",
                                "temperature": plain.TEMPERATURE,
                                "alpha": plain.ALPHA,
                                "reduction": "batchmean",
                            },
                        },
                        "weight": 1.0,
                    }
                }
            },
        },
    }
    box = get_distillation_box(
        plain.teacher().eval(), plain.student(), {"train": data}, config, torch.device("cpu"), None, False, 1.0
    )
    steps = 0
    wall, cpu = time.perf_counter(), time.process_time()
    for epoch in range(plain.EPOCHS):
        box.pre_epoch_process(epoch=epoch)
        for inputs, targets, supplement in box.train_data_loader:
            loss = box.forward_process(inputs, targets, supp_dict=supplement)
            box.post_forward_process(loss=loss)
            steps += 1
        box.post_epoch_process()
    spent = {"seconds": time.perf_counter() - wall, "cpu": time.process_time() - cpu, "steps": steps}
    json.dump(spent, sys.stdout)


if __name__ == "__main__":
    main(*sys.argv[1:])
