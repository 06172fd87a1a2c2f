"""pyKT's side: its models and its own step on windows padded to 200, as its loader gives them."""

import json
import sys
import time

import numpy as np
import torch
from pykt.models.dkt import DKT
from pykt.models.sakt import SAKT
from pykt.models.train_model import model_forward

torch.set_num_threads(1)
torch.manual_seed(0)
data, name = np.load(sys.argv[1]), sys.argv[2]
concepts, answers, real = (torch.from_numpy(data[key]) for key in ("concepts", "answers", "real"))
count = int(data["count"])
model = DKT(count, 64, 0.2) if name == "dkt" else SAKT(count, concepts.shape[1], 64, 4, 0.2, 1)
optimizer = torch.optim.Adam(model.parameters(), 1e-3)


def step(index: torch.Tensor) -> None:
    c, r, m = concepts[index], answers[index], real[index]
    both = m[:, 1:] & m[:, :-1]
    zero = torch.zeros_like(c[:, :-1])
    batch = {
        "qseqs": zero, "cseqs": c[:, :-1], "rseqs": r[:, :-1], "tseqs": zero, "utseqs": zero,
        "shft_qseqs": zero, "shft_cseqs": c[:, 1:], "shft_rseqs": r[:, 1:], "shft_tseqs": zero, "shft_utseqs": zero,
        "masks": both, "smasks": both,
    }  # fmt: skip
    loss = model_forward(model, batch)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()


model.train()
order = torch.randperm(len(concepts))
batches = order.split(64)
for index in batches[:3]:
    step(index)
began, cpu = time.perf_counter(), time.process_time()
for index in batches:
    step(index)
print(
    json.dumps({"seconds": time.perf_counter() - began, "cpu": time.process_time() - cpu, "answers": int(real.sum())})
)
