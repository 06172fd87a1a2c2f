"""LELP: the card's numbers at method level, every way of dividing, and what a student learns of the parts."""

from __future__ import annotations

import csv

import pytest
import torch

from tutelage.api import resume
from tutelage.data.batch import Batch, DataInfo
from tutelage.distill.kd import KD
from tutelage.distill.lelp import LELP
from tutelage.distill.parts.subclasses import Clusters, Directions, Knowledge, clustered, rotation
from tutelage.engine.listening import Silence
from tutelage.engine.method import Room
from tutelage.engine.run import Run
from tutelage.engine.stopping import Interruption
from tutelage.losses import logit_null_space
from tutelage.models.convnet import ConvNet
from tutelage.models.mlp import MLP
from tutelage.models.weights import load_model
from tutelage.recipe.errors import InputError
from tutelage.recipe.loading import load_recipe
from tutelage.recipe.runfolder import RunFolder

PARITY = {"name": "merged", "of": "digits", "groups": [[0, 2, 4, 6, 8], [1, 3, 5, 7, 9]], "limit": 300}
INFO = DataInfo((4,), 2, ("a", "b"), "")
CLASS_0 = torch.tensor([[2.0, 3, 0, 0], [3, -3, 0, 0], [2, 0, 1, 0], [3, 0, -1, 0]])
WEIGHT = torch.tensor([[1.0, 0, 0, 0], [-1.0, 0, 0, 0]])


def random(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def divided(kind=Directions, embeddings=CLASS_0, count=2, groups=None, fine=None, projection=None, **more):
    groups = torch.zeros(len(embeddings), dtype=torch.int64) if groups is None else groups
    division = kind(2, embeddings.shape[1], count, **more)
    division.learn(Knowledge(embeddings, groups, torch.arange(len(embeddings)), fine), projection, seed=0)
    return division


# ---------------------------------------------------------------------- dividing


def test_the_cards_directions_without_rotation():
    division = divided(projection=logit_null_space(WEIGHT), rotate=False)
    scores = (CLASS_0 @ division.projection - division.means[0]) @ division.axes[0]
    assert scores.square().mean(0).tolist() == pytest.approx([4.5, 0.5])
    assert division.scales[0].item() == pytest.approx(1.5811388, abs=1e-6)
    # Mean square 1 over all scores of the class, but the first direction has nine tenths of it.
    shares = division.shares(CLASS_0, torch.arange(4), 0.5)
    assert shares[2, 0].tolist() == pytest.approx((torch.tensor([0.0, 2 / 1.5811388]).softmax(-1)).tolist(), abs=1e-6)
    assert torch.allclose(shares.sum(-1), torch.ones(4, 2))
    # A class without samples is its own only part.
    assert shares[:, 1].tolist() == [[1.0, 0.0]] * 4


def test_a_rotation_evens_out_what_directions_carry():
    samples = random(500, 6) * torch.tensor([10.0, 5, 2, 1, 0.5, 0.2])
    spread = []
    for rotate in (False, True):
        division = divided(embeddings=samples, count=6, rotate=rotate)
        variance = ((samples - division.means[0]) @ division.axes[0]).var(0)
        spread.append(float(variance.max() / variance.mean()))
    assert spread[0] > 4 > spread[1]
    turn = rotation(5, 3)
    assert torch.allclose(turn @ turn.T, torch.eye(5).double(), atol=1e-12)
    assert torch.equal(turn, rotation(5, 3))


def test_shares_of_every_class_and_even_ones_where_beta_is_large():
    samples, groups = random(40, 6), torch.arange(40) % 2
    division = divided(embeddings=samples, groups=groups, count=3)
    sharp, even = (division.shares(samples, torch.arange(40), beta) for beta in (0.1, 1e6))
    assert (sharp.amax(-1) > 0.6).float().mean() > 0.5
    assert torch.allclose(even, torch.full((40, 2, 3), 1 / 3), atol=1e-4)


def test_a_small_class_gets_fewer_parts():
    samples = random(20, 6)
    division = divided(embeddings=samples, groups=(torch.arange(20) > 2).long(), count=5)
    assert division.present.sum(-1).tolist() == [2, 5]
    assert (division.shares(samples, torch.arange(20), 0.5)[:, 0, 2:] == 0).all()


@pytest.mark.parametrize("by", ["kmeans", "agglomerative", "tsne"])
def test_clusters_that_are_plain_to_see(by):
    centres = torch.tensor([[0.0, 0], [9, 0], [0, 9]])
    true = torch.arange(60) % 3
    samples = centres[true] + 0.3 * random(60, 2)
    found = clustered(samples.double(), 3, by, 0)
    assert all(len(found[true == k].unique()) == 1 for k in range(3))
    division = divided(Clusters, samples, 3, by=by, size=60)
    shares = division.shares(samples, torch.arange(60), 0.5)
    assert torch.equal(shares[:, 0].argmax(-1), found)
    # Samples that were not there go to the nearest mean, and to no part of a class that has none but one.
    unseen = division.shares(centres, torch.tensor([60, 61, 62]), 0.5)
    assert torch.equal(unseen[:, 0].argmax(-1), found[:3])
    assert unseen[:, 1].tolist() == [[1.0, 0, 0]] * 3


def test_a_sample_stays_in_the_part_it_was_put_into():
    samples = torch.tensor([[0.0], [1.0], [9.0], [10.0]])
    division = divided(Clusters, samples, 2, fine=torch.tensor([7, 8, 8, 8]), by="oracle", size=4)
    assert division.shares(samples, torch.arange(4), 1.0)[:, 0].argmax(-1).tolist() == [0, 1, 1, 1]
    assert division.shares(samples, torch.full((4,), 9), 1.0)[:, 0].argmax(-1).tolist() == [0, 0, 1, 1]


def test_fewer_different_samples_than_clusters():
    assert clustered(torch.ones(5, 2).double(), 3, "kmeans", 0).tolist() == [0] * 5


# ---------------------------------------------------------------------- the loss


def ready(teacher=None, student=None, **arguments):
    teacher, student = teacher or MLP(INFO, hidden=[6]), student or MLP(INFO, hidden=[3])
    batch = Batch(random(30, 4), torch.arange(30) % 2, torch.arange(30), torch.arange(30))
    method = LELP(**arguments)
    room = Room({"teacher": teacher, "student": student}, INFO, batch, ["student"])
    method.setup(room)
    embeddings = room.look("teacher").embedding
    method.division.learn(Knowledge(embeddings, batch.labels, batch.ids), None, 0)
    method._learnt = True
    method.setup(room)
    return method, room.look("student"), room.look("teacher"), batch


def test_one_part_a_class_is_plain_distillation():
    method, ours, theirs, batch = ready(subclasses=1, temperature=2.0, soften_student=True, alpha=0.3)
    losses, plain = method.loss(ours, theirs, batch), KD(temperature=2.0, alpha=0.3).loss(ours, theirs, batch)
    assert losses.total().item() == pytest.approx(plain.total().item(), rel=1e-5)
    assert losses["within"].abs().max() < 1e-5


def test_between_classes_it_is_plain_distillation_whatever_the_parts():
    method, ours, theirs, batch = ready(subclasses=4)
    losses = method.loss(ours, theirs, batch)
    plain = KD(temperature=1.0, alpha=0.0).loss(ours, theirs, batch)
    assert torch.allclose(losses["transfer"], plain["transfer"], atol=1e-6)
    assert losses["within"].mean() > 0.01
    assert set(losses) == {"transfer", "within"}


def test_it_needs_no_labels():
    method, ours, theirs, batch = ready()
    assert torch.isfinite(method.loss(ours, theirs, batch.with_(labels=torch.full((30,), -1))).total())


def test_the_student_answers_with_classes_through_a_wider_head():
    student = ConvNet(DataInfo((1, 8, 8), 2, ("a", "b"), ""), width=2, depth=1)
    method = LELP(subclasses=4)
    images = Batch(random(3, 1, 8, 8), torch.zeros(3).long(), torch.arange(3), torch.arange(3))
    room = Room({"teacher": MLP(DataInfo((1, 8, 8), 2, ("a", "b"), "")), "student": student}, INFO, images, ["student"])
    method.setup(room)
    assert student.head.subclasses.out_features == 8
    assert student(images.inputs).shape == (3, 2)


def test_a_teacher_that_declares_no_taps_will_do():
    teacher = torch.nn.Sequential(torch.nn.Linear(4, 5), torch.nn.ReLU(), torch.nn.Linear(5, 2))
    assert ready(teacher=teacher)[0].division.width == 5


def test_a_head_that_has_parts_already():
    student = MLP(INFO, hidden=[3])
    ready(student=student)
    head = student.head
    ready(student=student)
    assert student.head is head
    with pytest.raises(InputError, match="5 subclasses a class already"):
        ready(student=student, subclasses=4)


# ---------------------------------------------------------------------- runs


@pytest.fixture
def live(recipe, tmp_path):
    """The method and the run, once trained."""

    def train(method, **changes):
        loaded = load_recipe(recipe(method, data=PARITY, **changes))
        run = Run(loaded, RunFolder.create(loaded, tmp_path), Silence(), Interruption())
        run.sources()
        return run.transfer(), run

    return train


def test_held_out_samples_are_told_apart_within_their_class(live):
    """The student's parts of a class come far closer to the teacher's than even ones would."""
    from tutelage.losses import subclass_divergence, subclass_targets
    from tutelage.models.participant import Participant

    method, run = live({"name": "lelp", "subclasses": 3}, epochs=25)
    test = run.splits.test.fetch(range(len(run.splits.test)))
    teacher = Participant("teacher", run.models["teacher"], trainable=False, taps=("embedding",))(test)
    student = Participant("student", run.models["student"], trainable=False, taps=("head.subclasses",))(test)
    target = subclass_targets(teacher.logits, method.division.shares(teacher.embedding, test.ids, 0.5))
    logits = student.taps["head.subclasses"].view(-1, 2, 3)
    even = logits.logsumexp(-1, keepdim=True).expand(-1, -1, 3)
    within, baseline = (subclass_divergence(one, target)[1].mean().item() for one in (logits, even))
    assert within < 0.6 * baseline


def test_true_parts_teach_the_ten_digits_to_a_student_of_two_classes(live):
    method, run = live({"name": "lelp", "split": "oracle"}, epochs=25)
    assert method.division.present.all()
    test = run.splits.test
    batch = test.fetch(range(len(test)))
    student = run.models["student"].eval()
    with torch.no_grad():
        part = student.head.subclasses(student.blocks(batch.inputs.flatten(1))).argmax(-1)
    # Outputs are even digits in order, then odd ones.
    assert (torch.tensor([0, 2, 4, 6, 8, 1, 3, 5, 7, 9])[part] == test.fine).float().mean() > 0.75


def test_a_run_leaves_a_model_that_answers_alike_and_can_teach(recipe, go):
    method = {"name": "lelp", "subclasses": 2, "export": True}
    first = go(recipe(method, data=PARITY, baseline=True))
    student = load_model(first.folder)
    assert student.head.count == 2
    accuracy = first.report["rows"][1]["measures"]["quality"]["accuracy"]["value"]
    assert first.report["arrived"]["gain"] is not None
    again = go(
        recipe("kd", data=PARITY, teacher={"model": "mlp", "hidden": [16], "weights": str(first.folder)}, epochs=1)
    )
    assert again.report["rows"][0]["measures"]["quality"]["accuracy"]["value"] == pytest.approx(accuracy)
    rows = list(csv.DictReader((first.folder / "subclasses.csv").open()))
    assert len(rows) == 300
    (even, odd) = first.report["findings"]["parts"]
    assert (even["class"], odd["class"]) == ("0+2+4+6+8", "1+3+5+7+9")
    assert sum(row["part 1"] + row["part 2"] for row in (even, odd)) == 300
    assert {row["subclass"] for row in rows} == {"0", "1"}
    assert resume(first.folder).report["rows"][1]["measures"]["quality"]["accuracy"]["value"] == accuracy


def test_stages_and_other_terms_beside_it(recipe, go):
    stages = [{"name": "parts", "train": {"epochs": 1}}, {"name": "labels", "method": "supervised"}]
    assert go(recipe("lelp", data=PARITY, epochs=1, stages=stages)).report["status"] == "done"
    assert go(recipe("kd", also=["lelp"], data=PARITY, epochs=1)).report["status"] == "done"


def test_features_of_a_table(recipe, go, tmp_path):
    """Nothing of it is about images: TF-IDF features of short texts, in a table."""
    from sklearn.feature_extraction.text import TfidfVectorizer

    texts = [f"{a} {b} {c}" for a in ("good", "fine", "bad", "poor") for b in ("plot", "cast") for c in ("now", "then")]
    texts = [text for text in texts for _ in range(12)]
    features = TfidfVectorizer().fit_transform(texts).toarray() + 0.05 * random(len(texts), 8).numpy()
    with (tmp_path / "texts.csv").open("w") as file:
        writer = csv.writer(file)
        writer.writerow([*(f"f{i}" for i in range(8)), "label"])
        for text, row in zip(texts, features, strict=True):
            writer.writerow([*row, "up" if text.startswith(("good", "fine")) else "down"])
    data = {"name": "table", "path": str(tmp_path / "texts.csv")}
    teacher = {"model": "mlp", "hidden": [32], "weights": {"train": {"epochs": 20}}}
    report = go(recipe({"name": "lelp", "subclasses": 3}, data=data, teacher=teacher, epochs=20)).report
    assert report["rows"][1]["measures"]["quality"]["accuracy"]["value"] > 0.9


def test_a_class_that_varies_too_little_is_reported(recipe, go):
    method = {"name": "lelp", "subclasses": 40}
    report = go(recipe(method, data=PARITY, epochs=1)).report
    assert any("parts instead of 40" in warning for warning in report["warnings"])


@pytest.mark.parametrize(
    ("method", "said"),
    [
        ({"name": "lelp", "subclasses": 0}, "method.subclasses: found 0"),
        ({"name": "lelp", "split": "k-means"}, "kmeans"),
        ({"name": "lelp", "split": "oracle", "subclasses": 4}, "fewer than the 5 true ones"),
        ({"name": "born-again", "objective": {"name": "lelp"}}, "does not let it"),
    ],
)
def test_what_cannot_be(method, said, recipe, go):
    student = {"model": "mlp", "hidden": [32]}
    with pytest.raises(InputError, match=said):
        go(recipe(method, data=PARITY, student=student))


def test_true_parts_that_the_data_does_not_know(recipe, go):
    with pytest.raises(InputError, match="such as 'merged'"):
        go(recipe({"name": "lelp", "split": "oracle"}))
