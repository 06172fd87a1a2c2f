"""Our side: the same windows from a log, the model, the method's loss, and a step."""

import json
import sys
import time

import numpy as np
import torch

from tutelage.data.answers import AnswerLog, TraceInfo, windows
from tutelage.losses.tracing import answer_loss
from tutelage.models.dkt import DKT
from tutelage.models.sakt import SAKT

torch.set_num_threads(1)
torch.manual_seed(0)
data, name = np.load(sys.argv[1]), sys.argv[2]
real = data["real"]
lengths = real.sum(1)
offsets = np.concatenate([[0], lengths.cumsum()]).astype(np.int64)
log = AnswerLog(
    offsets,
    data["concepts"][real][:, None].astype(np.int32),
    data["answers"][real].astype(np.uint8),
    np.full(int(lengths.sum()), -1, dtype=np.int32),
    np.arange(lengths.sum(), dtype=np.float64),
)
cut = windows(log, steps=real.shape[1])
info = TraceInfo((1,), 0, (), "x", concept_names=tuple(map(str, range(int(data["count"])))), window=real.shape[1])
model = DKT(info, width=64, dropout=0.2) if name == "dkt" else SAKT(info, width=64, heads=4, dropout=0.2)
optimizer = torch.optim.Adam(model.parameters(), 1e-3)


def step(index: torch.Tensor) -> None:
    batch = cut.fetch(index)
    loss = answer_loss(model.trace(*batch.arguments), batch.labels, batch.scored)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()


model.train()
batches = torch.randperm(len(cut)).split(64)
for index in batches[:3]:
    step(index)
began, cpu = time.perf_counter(), time.process_time()
for index in batches:
    step(index)
print(json.dumps({"seconds": time.perf_counter() - began, "cpu": time.process_time() - cpu, "answers": len(log)}))
