"""pyBKT's side: fit all concepts of a log, and take 40 passes of its EM from a start that both sides share."""

import json
import sys
import time

import numpy as np
import pandas as pd
from pyBKT.fit import EM_fit
from pyBKT.models import Model

data = np.load(sys.argv[1])
learner, concept, correct = data["learner"], data["concept"], data["correct"]
frame = pd.DataFrame(
    {"user_id": learner, "skill_name": concept.astype(str), "correct": correct, "order_id": np.arange(len(learner))}
)
model = Model(seed=0, num_fits=1, parallel=False)
began, cpu = time.perf_counter(), time.process_time()
model.fit(data=frame)
seconds, cpu = time.perf_counter() - began, time.process_time() - cpu

start = json.loads(sys.argv[2])
found = []
for one in range(2):
    mine = concept == one
    who, right = learner[mine], correct[mine]
    order = np.argsort(who, kind="stable")
    who, right = who[order], right[order]
    begins = np.flatnonzero(np.r_[True, who[1:] != who[:-1]])
    lengths = np.diff(np.r_[begins, len(who)])
    log = {
        "starts": (begins + 1).astype(np.int64),
        "lengths": lengths.astype(np.int64),
        "resources": np.ones(len(who), dtype=np.int64),
        "data": (right[None] + 1).astype(np.int32),
    }
    own = {
        "As": np.array([[[1 - start["learn"], start["forget"]], [start["learn"], 1 - start["forget"]]]]),
        "learns": np.array([start["learn"]]),
        "forgets": np.array([start["forget"]]),
        "guesses": np.array([start["guess"]]),
        "slips": np.array([start["slip"]]),
        "prior": start["prior"],
        "pi_0": np.array([[1 - start["prior"]], [start["prior"]]]),
    }
    fitted, _ = EM_fit.EM_fit(own, log, tol=-1.0, maxiter=40, parallel=False)
    found.append(
        {
            "prior": float(np.asarray(fitted["pi_0"])[1].ravel()[0]),
            "learn": float(fitted["As"][0, 1, 0]),
            "forget": float(fitted["As"][0, 0, 1]),
            "guess": float(np.ravel(fitted["guesses"])[0]),
            "slip": float(np.ravel(fitted["slips"])[0]),
        }
    )
print(json.dumps({"seconds": seconds, "cpu": cpu, "parameters": found}))
