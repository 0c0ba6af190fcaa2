"""A training run in one process: bit-equal after a break, ended when it should be, and one clear line for bad input."""

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from commands.train.command import describe
from harness.devices import open_device
from harness.devices.cpu import Cpu
from harness.engines import eager
from harness.engines.torch import training as torch_training
from harness.engines.torch.layout import CHANNELS_LAST, CONTIGUOUS, Layout
from harness.engines.torch.training import TorchTrainingStep, place_for_training, set_training
from harness.measure.training import Group, Recipe, TrainingError, alone, batchnorm, checkpoint, record, run, train
from harness.measure.training.evaluation import RightCount, evaluate
from harness.measure.training.optimisation import terms_of
from harness.measure.training.order import StepOrder, TrainingSet, batches, open_images, transform_of
from harness.measure.training.record import window_of
from harness.measure.training.together import agreement, warm_up
from harness.proof import Contradiction
from models.build import build_module
from models.catalog import InputSpec, find_spec, load_catalog
from selftests.inside import TINY
from selftests.photographs import write_labelled

SPEC = replace(find_spec(TINY, load_catalog()), input=InputSpec((64, 64), 0.9, "bilinear", (0.5,) * 3, (0.5,) * 3))


@pytest.fixture(scope="module")
def photographs(tmp_path_factory):
    return write_labelled(tmp_path_factory.mktemp("photographs"))


@pytest.fixture
def recipe(photographs, tmp_path):
    """Four steps an epoch, with augmentation."""
    return Recipe(
        model=TINY,
        data=str(photographs),
        folder=str(tmp_path),
        cache_dir=str(tmp_path),
        batch=4,
        steps=6,
        learning_rate=0.01,
        warmup_epochs=0,
    )


@pytest.fixture
def dropping(monkeypatch):
    """Let the model drop, so that a step draws from torch's generator."""
    made = run.fresh_module

    def with_dropout(spec, seed):
        built = made(spec, seed)
        built.module.drop_rate = 0.5
        return built

    monkeypatch.setattr(run, "fresh_module", with_dropout)


def state_of(record):
    return record["weights_sha256"], record["momentum_sha256"]


def broken(recipe):
    """A run that ends after three steps, whose checkpoint another goes on from to the end."""
    train(replace(recipe, steps=3), SPEC, alone())
    return train(recipe, SPEC, alone(), resumes=True)


def test_a_run_that_was_broken_ends_with_the_bits_of_one_that_was_not(recipe, dropping, tmp_path):
    whole = train(replace(recipe, folder=str(tmp_path / "whole")), SPEC, alone())
    resumed = broken(recipe)
    assert state_of(resumed) == state_of(whole)
    assert resumed["losses"] == whole["losses"]
    assert (resumed["began_at_step"], resumed["steps"], len(resumed["losses"])) == (3, 6, 6)


@pytest.mark.parametrize("part", ["optimiser", "random", "model"])
def test_a_checkpoint_that_lacks_a_part_ends_with_other_bits(part, recipe, dropping, tmp_path, monkeypatch):
    """Guards the guard: each part that is restored is needed."""
    whole = train(replace(recipe, folder=str(tmp_path / "whole")), SPEC, alone())
    if part == "random":
        monkeypatch.setattr(checkpoint, "set_random_state", lambda state, device: None)
    elif part == "optimiser":
        monkeypatch.setattr(torch.optim.SGD, "load_state_dict", lambda self, state: None)
    else:  # the running statistics alone: no loss shows them
        load = torch.nn.Module.load_state_dict
        monkeypatch.setattr(
            torch.nn.Module,
            "load_state_dict",
            lambda self, state: load(self, {k: v for k, v in state.items() if "running" not in k}, strict=False),
        )
    assert state_of(broken(recipe)) != state_of(whole)


class StandInAccelerator(Cpu):
    """The host in place of an accelerator: a device with a generator of its own, `StandInGenerator`."""

    is_host = False


class StandInGenerator:
    """The generator of `StandInAccelerator`, by the names that torch's modules of devices have for it."""

    def __init__(self):
        self.begin_anew()

    def begin_anew(self):
        self.state = torch.tensor([1])

    def get_rng_state(self, index):
        assert index == 0
        return self.state.clone()

    def set_rng_state(self, state, index):
        assert index == 0
        self.state = state.clone()

    def scaled(self, layer, inputs, logits):
        """A hook of modules that draws where a module is in training mode, as dropout does."""
        if not layer.training:
            return logits
        self.state = (self.state * 1103515245 + 12345) % 2**31
        return logits * (0.5 + self.state.item() / 2**31)


@pytest.fixture
def accelerator(monkeypatch):
    """The generator of a stand-in for an accelerator, from which each step of a run draws."""
    generator, made = StandInGenerator(), run.fresh_module

    def drawing(spec, seed):
        generator.begin_anew()  # as a new process does
        built = made(spec, seed)
        built.module.register_forward_hook(generator.scaled)
        return built

    monkeypatch.setattr(run, "fresh_module", drawing)
    monkeypatch.setattr(run, "open_device", lambda name: StandInAccelerator())
    monkeypatch.setattr(torch_training, "timed_layout", lambda steps: [step() for step in steps.values()] and Layout())
    # the evidence says rightly that nothing ran on an accelerator
    monkeypatch.setattr(record, "contradictions", lambda case, device, evidence: [])
    for name in ("get_rng_state", "set_rng_state"):
        monkeypatch.setattr(torch.cpu, name, getattr(generator, name), raising=False)
    return generator


def test_a_run_on_an_accelerator_goes_on_with_what_it_would_have_drawn(recipe, accelerator, tmp_path):
    whole = train(replace(recipe, folder=str(tmp_path / "whole")), SPEC, alone())
    train(replace(recipe, steps=3), SPEC, alone())
    path = tmp_path / checkpoint.NAME
    kept = path.read_bytes()
    assert state_of(train(recipe, SPEC, alone(), resumes=True)) == state_of(whole)

    path.write_bytes(kept)  # of a version that kept no such state
    state = torch.load(path, weights_only=True)
    del state["random"][0]["device"]
    torch.save(state, path)
    assert state_of(train(recipe, SPEC, alone(), resumes=True)) != state_of(whole)


def test_what_is_done_before_the_clock_draws_nothing_from_an_accelerator(recipe, accelerator, around_the_steps):
    notes, seen = around_the_steps
    notes.append(lambda step: accelerator.state.item())
    train(recipe, SPEC, alone())
    assert seen[0] == [1]
    assert seen[1] != [1]


def test_reading_images_seeds_no_accelerator(recipe, monkeypatch):
    seeded = []
    monkeypatch.setattr(torch.cuda, "manual_seed_all", seeded.append)
    torch.manual_seed(0)
    assert seeded, "this test watches what torch does not call"
    seeded.clear()
    next(batches(recipe, SPEC, open_images(recipe, 1), range(1), alone()))
    assert not seeded


@pytest.fixture
def changing_layouts(monkeypatch):
    """Trials of layouts, each of which chooses another than the one before; returns what they chose."""
    chosen = []

    def trial(steps):
        chosen.append(Layout((CHANNELS_LAST, CONTIGUOUS)[len(chosen) % 2], f"trial {len(chosen)}"))
        return chosen[-1]

    monkeypatch.setattr(torch_training, "known_layout", lambda module, is_host: None)
    monkeypatch.setattr(torch_training, "timed_layout", trial)
    return chosen


def test_a_run_that_goes_on_takes_the_layout_of_the_run_before(recipe, changing_layouts, tmp_path):
    whole = train(replace(recipe, folder=str(tmp_path / "whole")), SPEC, alone())
    changing_layouts.clear()
    resumed = broken(recipe)
    assert resumed["evidence"]["notes"]["layout"] == whole["evidence"]["notes"]["layout"]
    assert resumed["evidence"]["notes"]["layout"]["why"] == "trial 0"
    assert state_of(resumed) == state_of(whole)
    assert len(changing_layouts) == 1


def test_a_checkpoint_that_tells_no_layout_leaves_it_to_a_trial(tmp_path):
    path = tmp_path / checkpoint.NAME
    assert checkpoint.kept_layout(path) is None
    for content in ({}, {"layout": {"name": "diagonal", "why": "no such"}}, []):
        torch.save(content, path)
        assert checkpoint.kept_layout(path) is None


class Told(Group):
    """A process that is told what the first one shares."""

    def share(self, value):
        assert value is None
        return Layout(CONTIGUOUS, "of the first")


def layout_in(recipe, group):
    module = build_module(SPEC, "random").module
    example = next(batches(recipe, SPEC, open_images(recipe, 1), range(1), alone()))
    terms = terms_of(recipe, group, keeps_batchnorm=True)
    return place_for_training(module, *example, recipe.case, open_device("cpu"), terms)[1]


def test_replicas_take_the_layout_that_the_first_one_chooses(recipe, changing_layouts):
    assert layout_in(recipe, alone()).name == CHANNELS_LAST
    assert layout_in(recipe, Told(1, 2)) == Layout(CONTIGUOUS, "of the first")
    assert len(changing_layouts) == 1, "a process that is not the first has tried too"


def test_a_trial_of_layouts_draws_nothing_from_the_generators(recipe, monkeypatch):
    monkeypatch.setattr(torch_training, "known_layout", lambda module, is_host: None)
    monkeypatch.setattr(torch_training, "timed_layout", lambda steps: [step() for step in steps.values()] and Layout())
    module = torch.nn.Sequential(torch.nn.Dropout(), torch.nn.Flatten(), torch.nn.LazyLinear(1000))
    images, classes = next(batches(recipe, SPEC, open_images(recipe, 1), range(1), alone()))
    module(images)
    before = torch.get_rng_state()
    terms = terms_of(recipe, alone(), keeps_batchnorm=True)
    place_for_training(module, images, classes, recipe.case, open_device("cpu"), terms)
    assert torch.equal(torch.get_rng_state(), before)


def test_a_rate_of_0_changes_nothing_and_reaches_nothing(recipe):
    record = train(replace(recipe, learning_rate=0.0, stop_threshold=1.0, batch_norm="frozen"), SPEC, alone())
    assert not record["weights_changed"]
    assert not record["is_reached"]
    assert record["time_to_threshold_s"] is None


@pytest.mark.parametrize("batch_norm", ["frozen", "train"])
def test_weights_that_stay_though_a_rate_was_asked_for_ring(batch_norm, recipe, monkeypatch):
    """Where batch norms are trained, their statistics change all the same, and they are no weights."""
    monkeypatch.setattr(TorchTrainingStep, "update", lambda self: None)
    with pytest.raises(Contradiction, match="6 steps changed no weight"):
        train(replace(recipe, batch_norm=batch_norm), SPEC, alone())


def test_a_run_whose_only_step_has_the_rate_0_of_a_warm_up_passes(recipe):
    record = train(replace(recipe, steps=1, warmup_epochs=1, batch_norm="frozen"), SPEC, alone())
    assert record["learning_rate"] > 0
    assert not record["weights_changed"]


def test_the_run_ends_where_the_threshold_is_reached(recipe, tmp_path):
    record = train(replace(recipe, stop_threshold=0.0), SPEC, alone())
    assert record["is_reached"]
    assert record["steps"] == 4, "an evaluation follows each epoch"
    assert 0 < record["time_to_threshold_s"] <= record["wall_s"]
    log = logged(tmp_path)
    assert [line["key"] for line in log if line["key"].startswith("run")] == ["run_start", "run_stop"]
    assert log[-1]["metadata"]["status"] == "success"
    assert [line["value"] for line in log if line["key"] == "global_batch_size"] == [4]
    assert_compliant(tmp_path)


def logged(folder):
    return [json.loads(line.partition(" ")[2]) for line in (folder / "mlperf.log").read_text().splitlines()]


def assert_compliant(folder):
    check = [sys.executable, "-m", "mlperf_logging.compliance_checker", "--usage", "training", "--ruleset", "4.0.0"]
    done = subprocess.run([*check, "mlperf.log"], cwd=folder, capture_output=True, text=True, check=False)
    assert "SUCCESS" in done.stdout + done.stderr, "MLPerf's own checker refuses the log"


def test_a_run_that_goes_on_adds_to_the_log_of_the_run_before(recipe, tmp_path):
    recipe = replace(recipe, stop_threshold=0.0, steps=8)
    train(replace(recipe, steps=3), SPEC, alone())
    before = logged(tmp_path)
    assert (before[-1]["key"], before[-1]["metadata"]["status"]) == ("run_stop", "aborted")
    assert train(recipe, SPEC, alone(), resumes=True)["is_reached"]
    after = logged(tmp_path)
    assert after[: len(before) - 1] == before[:-1]
    assert (after[len(before) - 1]["key"], after[len(before) - 1]["value"]) == ("went_on_at_step", 3)
    keys = [line["key"] for line in after]
    assert [keys.count(key) for key in ("init_start", "run_start", "epoch_start", "epoch_stop", "run_stop")] == [1] * 5
    assert after[-1]["metadata"]["status"] == "success"
    assert_compliant(tmp_path)


def test_a_threshold_that_was_reached_stays_reached_when_the_run_goes_on(recipe, tmp_path):
    recipe = replace(recipe, stop_threshold=0.0)
    first = train(recipe, SPEC, alone())
    again = train(recipe, SPEC, alone(), resumes=True)
    assert (again["steps"], again["images"], again["images_per_second"]) == (4, 0, None)
    assert again["is_reached"]
    assert again["time_to_threshold_s"] == pytest.approx(first["time_to_threshold_s"])
    assert state_of(again) == state_of(first)
    assert json.loads(json.dumps(again, allow_nan=False))["wall_s"] >= 0
    assert "threshold 0: reached after" in describe(again, tmp_path)
    assert '"status": "success"' in (tmp_path / "mlperf.log").read_text().splitlines()[-1]


def test_a_threshold_that_was_reached_says_nothing_of_another(recipe):
    train(replace(recipe, stop_threshold=0.0), SPEC, alone())
    higher = train(replace(recipe, stop_threshold=1.0), SPEC, alone(), resumes=True)
    assert not higher["is_reached"]
    assert higher["steps"] == 6


def test_the_loss_falls_and_the_record_says_so(recipe, tmp_path):
    record = train(replace(recipe, steps=20, augments=False, learning_rate=0.05), SPEC, alone())
    assert record["last_losses_mean"] < record["first_losses_mean"]
    assert record["images"] == 80
    assert record["evidence"]["backward"]["dtype_share_pct"] == {"fp32": 100.0}
    lines = (tmp_path / "curve.csv").read_text().splitlines()
    assert len(lines) == 21
    assert float(lines[-1].split(",")[1]) == pytest.approx(record["last_loss"], rel=1e-4)


def test_the_evaluation_of_the_saved_weights_is_that_of_the_run(recipe, monkeypatch):
    record = train(replace(recipe, steps=8, evaluates=True, epochs_between_evals=1), SPEC, alone())
    assert [one["step"] for one in record["evaluations"]] == [0, 4, 8]
    assert record["evaluation"]["right"] == record["evaluations"][-1]["right"]
    assert record["evaluation"]["images"] == 16
    assert record["evaluation"]["weights_sha256"] == record["weights_sha256"]


def test_a_loss_that_is_no_number_stops_with_its_step_and_keeps_the_last_checkpoint(recipe, tmp_path):
    with pytest.raises(TrainingError, match=r"the loss is (nan|inf) at step [2-6]; the checkpoint of step \d is kept"):
        train(replace(recipe, learning_rate=1e18, save_every=1), SPEC, alone())
    state = torch.load(tmp_path / checkpoint.NAME, weights_only=True)
    assert all(torch.isfinite(torch.tensor(loss)) for loss in state["losses"][0])


def test_a_disk_that_is_full_keeps_the_last_whole_checkpoint(recipe, tmp_path, monkeypatch):
    train(replace(recipe, steps=3), SPEC, alone())
    before = (tmp_path / checkpoint.NAME).read_bytes()

    def full(self, data):
        with self.open("wb") as file:
            file.write(bytes(data)[:100])
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(TrainingError, match=r"No space left on device\); checkpoint.pt of before is kept"):
        train(recipe, SPEC, alone(), resumes=True)
    assert (tmp_path / checkpoint.NAME).read_bytes() == before
    assert [path.name for path in tmp_path.iterdir() if "part" in path.name] == []


def test_a_run_that_begins_anew_sets_the_checkpoint_of_an_earlier_one_aside(recipe, tmp_path, monkeypatch):
    """Else the run would go on from it after a loss before its own first checkpoint."""
    train(replace(recipe, steps=1), SPEC, alone())
    earlier = (tmp_path / checkpoint.NAME).read_bytes()

    def lost(self, batch):
        raise RuntimeError("lost")

    monkeypatch.setattr(TorchTrainingStep, "submit", lost)
    told = []
    for resumes in (True, False):
        assert (tmp_path / checkpoint.NAME).read_bytes() == earlier
        with pytest.raises(RuntimeError, match="lost"):
            train(recipe, SPEC, alone(), tell=told.append, resumes=resumes)
    assert not (tmp_path / checkpoint.NAME).exists()
    assert (tmp_path / checkpoint.BEFORE).read_bytes() == earlier
    assert told[-1] == f"the checkpoint of an earlier run is kept as {tmp_path / checkpoint.BEFORE}"


def damage(path):
    path.write_bytes(path.read_bytes()[:1000])


@pytest.mark.parametrize(
    ("spoil", "change", "words"),
    [
        (damage, {}, "is damaged, or no checkpoint"),
        (lambda path: torch.save({"state_dict": {}}, path), {}, "is no checkpoint of `visionmark train`"),
        (lambda path: path.unlink(), {}, "there is no checkpoint"),
        (lambda path: None, {"batch": 8}, "is of another run: batch 4, now 8"),
        (lambda path: None, {"num_inputs": 12}, "was trained on other images"),
    ],
)
def test_a_checkpoint_that_is_not_this_runs_is_refused(spoil, change, words, recipe, tmp_path):
    train(replace(recipe, steps=1), SPEC, alone())
    spoil(tmp_path / checkpoint.NAME)
    with pytest.raises(TrainingError, match=words) as caught:
        train(replace(recipe, **change), SPEC, alone(), resumes=True)
    assert "\n" not in str(caught.value)


def test_a_checkpoint_of_another_number_of_replicas_is_refused(recipe, tmp_path):
    train(replace(recipe, steps=1), SPEC, alone())
    images = open_images(recipe, 1)
    with pytest.raises(TrainingError, match="is of 1 replicas, and this run has 2: give --replicas 1"):
        checkpoint.read_checkpoint(tmp_path / checkpoint.NAME, recipe, images.sha256, 2)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"data": "/nowhere"}, "no folder /nowhere"),
        ({"batch": 17}, r"one step takes 17 images \(1 x 17\), and there are 16"),
        ({"batch_norm": "sync"}, "takes several accelerators"),
        ({"engine": "openvino"}, "is for inference"),
        ({"precision": "int8"}, "int8 is for inference"),
        ({"weights": "/nowhere.pth"}, "no file /nowhere.pth"),
    ],
)
def test_what_cannot_be_trained_is_one_clear_line(change, words, recipe):
    with pytest.raises(TrainingError, match=words) as caught:
        train(replace(recipe, **change), SPEC, alone())
    assert "\n" not in str(caught.value)


@pytest.fixture
def around_the_steps(monkeypatch):
    """The step of a run, noted as the clock begins and after the last step, by the functions that a test adds."""
    notes, seen, run_steps = [], [], run.run_steps

    def noting(parts, course, log):
        seen.append([note(parts.step) for note in notes])
        try:
            return run_steps(parts, course, log)
        finally:
            seen.append([note(parts.step) for note in notes])

    monkeypatch.setattr(run, "run_steps", noting)
    return notes, seen


def test_both_passes_have_run_before_the_clock_begins(recipe, around_the_steps, monkeypatch):
    passes = []
    for name in ("forward", "backward"):
        of = getattr(TorchTrainingStep, name)
        monkeypatch.setattr(
            TorchTrainingStep, name, lambda self, given, of=of, name=name: (passes.append(name), of(self, given))[1]
        )
    notes, seen = around_the_steps
    notes.append(lambda step: list(passes))
    record = train(recipe, SPEC, alone())
    assert seen[0] == [["forward", "backward"]]
    assert record["warmup_s"] > 0


@pytest.mark.slow
def test_nothing_is_compiled_while_the_clock_runs(recipe, around_the_steps):
    notes, seen = around_the_steps
    notes.append(lambda step: step.compilations())
    train(replace(recipe, engine="compile", steps=2), SPEC, alone())
    (before,), (after,) = seen
    assert before == after > 0


def test_the_warm_up_changes_nothing(recipe):
    module = torch.nn.Sequential(build_module(SPEC, "random").module, torch.nn.Dropout())
    example = next(batches(recipe, SPEC, open_images(recipe, 1), range(1), alone()))
    terms = terms_of(recipe, alone(), keeps_batchnorm=False)
    step = eager.build_step(module, example, recipe.case, open_device("cpu"), terms)
    before = {name: value.clone() for name, value in step.module.state_dict().items()}
    random = torch.get_rng_state()
    assert warm_up(step, step.put(*example)) > 0
    assert all(torch.equal(value, before[name]) for name, value in step.module.state_dict().items())
    assert torch.equal(torch.get_rng_state(), random)
    assert all(parameter.grad is None for parameter in step.module.parameters())
    assert not step.optimiser.state
    step.close()


def test_images_of_one_class_or_of_none_are_refused(recipe, tmp_path):
    one = write_labelled(tmp_path / "one", classes=1)
    with pytest.raises(TrainingError, match="are of one class: there is nothing to learn"):
        open_images(replace(recipe, data=str(one)), 1)
    next(one.iterdir()).rename(one / "holiday")
    with pytest.raises(TrainingError, match="has no class to learn"):
        open_images(replace(recipe, data=str(one)), 1)


def test_a_model_of_other_classes_than_the_labels_is_refused(recipe, monkeypatch):
    made = run.fresh_module

    def of_ten(spec, seed):
        built = made(spec, seed)
        built.module.reset_classifier(10)
        return built

    monkeypatch.setattr(run, "fresh_module", of_ten)
    with pytest.raises(TrainingError, match="tells 10 classes apart, and the labels are of 1000"):
        train(recipe, SPEC, alone())


def test_training_and_validation_splits_are_told_apart(recipe, tmp_path):
    write_labelled(tmp_path / "set" / "train", each=3)
    write_labelled(tmp_path / "set" / "val", each=2)
    images = open_images(replace(recipe, data=str(tmp_path / "set")), 1)
    assert (len(images.images), len(images.evaluated)) == (12, 8)
    assert images.evaluated_on.endswith("val")
    both = open_images(replace(recipe, data=str(tmp_path / "set" / "train")), 1)
    assert both.evaluated_on == "the images trained on"


class OneOfTwo(Group):
    """A process that counts for itself, whose sums a test adds up."""

    def sum(self, numbers):
        return list(numbers)

    def same_buffers(self, module):
        pass


def test_an_evaluation_takes_every_image_once_over_all_replicas(recipe):
    """15 images over two replicas: a sampler that pads would count 16."""
    images = open_images(recipe, 1).images[:15]
    device, terms = open_device("cpu"), terms_of(recipe, alone(), keeps_batchnorm=True)
    example = next(batches(recipe, SPEC, open_images(recipe, 1), range(1), alone()))
    step = eager.build_step(build_module(SPEC, "random").module, example, recipe.case, device, terms)
    found = {
        group: evaluate(step, recipe.case, device, SPEC, images, group, keeps_batchnorm=True)
        for group in (alone(), OneOfTwo(0, 2), OneOfTwo(1, 2))
    }
    whole, *shares = found.values()
    assert [share.images for share in shares] == [8, 7]
    assert whole == RightCount(sum(share.right for share in shares), 15)
    step.close()


def test_gradients_that_are_not_averaged_ring(recipe, tmp_path, monkeypatch):
    """A process alone, whose other replica is played by the sum: it adds a gradient that the backward pass has not."""
    torch.distributed.init_process_group("gloo", init_method=f"file://{tmp_path}/store", rank=0, world_size=1)
    try:
        pair, device = Group(0, 2), open_device("cpu")
        example = next(batches(recipe, SPEC, open_images(recipe, 1), range(1), alone()))
        terms = terms_of(recipe, pair, keeps_batchnorm=True)
        step = eager.build_step(build_module(SPEC, "random").module, example, recipe.case, device, terms)
        before = {name: buffer.clone() for name, buffer in step.module.named_buffers()}
        batch = step.put(*example)
        monkeypatch.setattr(torch.distributed, "all_reduce", lambda tensor: tensor.mul_(2))
        assert agreement(step, batch, pair) < 1e-5
        monkeypatch.setattr(torch.distributed, "all_reduce", lambda tensor: tensor.mul_(2).add_(tensor.abs().max()))
        with pytest.raises(Contradiction, match="they are not averaged"):
            agreement(step, batch, pair)
        assert all(torch.equal(buffer, before[name]) for name, buffer in step.module.named_buffers())
        assert all(parameter.grad is None for parameter in step.module.parameters())
        generator = StandInGenerator()
        for name in ("get_rng_state", "set_rng_state"):
            monkeypatch.setattr(torch.cpu, name, getattr(generator, name), raising=False)
        step.module.register_forward_hook(generator.scaled)
        set_training(step.module, keeps_batchnorm=True)
        step.device = StandInAccelerator()
        monkeypatch.setattr(torch.distributed, "all_reduce", lambda tensor: tensor.mul_(2))
        assert agreement(step, batch, pair) < 1e-5, "the two passes have drawn different numbers"
        assert generator.state.item() == 1
        step.close()
    finally:
        torch.distributed.destroy_process_group()


def test_a_threshold_is_judged_by_whole_numbers():
    assert RightCount(759, 1000).reaches(0.759)
    assert not RightCount(758, 1000).reaches(0.759)
    assert not RightCount(1000, 1000).reaches(None)


@pytest.mark.parametrize("size", [1, 2])
def test_an_epoch_has_each_image_once_over_all_replicas_and_the_rest_is_told(size, recipe):
    recipe = replace(recipe, batch=3)
    images = open_images(recipe, size)
    assert images.dropped == 16 % (3 * size)
    for epoch in range(2):
        steps = range(epoch * images.per_epoch, (epoch + 1) * images.per_epoch)
        seen = [place for rank in range(size) for step in StepOrder(recipe, images, steps, Group(rank, size)) for place in step]  # fmt: skip  # noqa: E501
        assert len(seen) == len(set(seen)) == 16 - images.dropped
        assert {of for of, _ in seen} == {epoch}


def test_two_replicas_take_the_images_that_one_of_twice_the_batch_takes(recipe):
    images = open_images(recipe, 2)
    both = [list(StepOrder(recipe, images, range(3), Group(rank, 2))) for rank in range(2)]
    one = list(StepOrder(replace(recipe, batch=8), images, range(3), alone()))
    assert [first + second for first, second in zip(*both, strict=True)] == one


def test_processes_that_read_images_change_none_of_them(recipe):
    images = open_images(recipe, 1)
    here, there = (
        list(batches(replace(recipe, loaders=loaders), SPEC, images, range(2, 4), alone())) for loaders in (0, 2)
    )
    for (pixels, classes), (others, theirs) in zip(here, there, strict=True):
        assert torch.equal(pixels, others)
        assert torch.equal(classes, theirs)


def test_the_seeds_of_large_data_sets_are_seeds_of_torch(recipe):
    """1,281,168 images, as many as ILSVRC2012 has to train on."""
    few = open_images(recipe, 1).images
    many = TrainingSet(list(few) * 80_073, transform_of(recipe, SPEC), seed=20240101)
    last, same = (many[0, index][0] for index in (len(few) * 80_073 - 1, len(few) - 1))
    assert not torch.equal(last, same), "the same image, cropped by another seed"
    recipe = replace(recipe, seed=2**62)
    orders = [list(StepOrder(recipe, open_images(recipe, 1), range(4 * n, 4 * n + 4), alone())) for n in range(2)]
    assert [index for step in orders[0] for _, index in step] != [index for step in orders[1] for _, index in step]


def test_reading_images_leaves_the_generators_alone(recipe):
    before = torch.get_rng_state()
    next(batches(recipe, SPEC, open_images(recipe, 1), range(1), alone()))
    assert torch.equal(torch.get_rng_state(), before)


def folded(module):
    """Fold the statistics of every batch norm into its weight and bias, as weights for inference have it."""
    for norm in batchnorm.norms_of(module):
        zeros, ones = torch.zeros(norm.num_features), torch.ones(norm.num_features)
        batchnorm._set_statistics(norm, zeros.double(), ones.double() - norm.eps)
    return module


def test_folded_batch_norms_are_recognised_and_refit_without_a_change_of_answers():
    module = build_module(SPEC, "random").module
    images = torch.randn(8, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    assert not batchnorm.is_folded(module)
    with torch.no_grad():
        answers = module(images)
        folded(module)
        assert batchnorm.is_folded(module)
        torch.testing.assert_close(module(images), answers, rtol=1e-3, atol=1e-3)
        batchnorm.refit(module, [images])
        assert not batchnorm.is_folded(module)
        torch.testing.assert_close(module.eval()(images), answers, rtol=1e-3, atol=1e-3)
        module.train()  # the batch's own statistics are those that the norms have now
        torch.testing.assert_close(module(images), answers, rtol=1e-2, atol=1e-2)


@pytest.mark.parametrize(("asked", "becomes"), [("auto", "frozen"), ("refit", "refit"), ("train", "train")])
def test_folded_batch_norms_are_frozen_unless_asked_otherwise_and_it_is_said(asked, becomes, recipe, tmp_path):
    weights = tmp_path / "folded.pth"
    torch.save(folded(build_module(SPEC, "random").module).state_dict(), weights)
    told = []
    record = train(replace(recipe, weights=str(weights), batch_norm=asked, steps=1), SPEC, alone(), tell=told.append)
    assert record["batch_norm"] == becomes
    assert any("are folded into its weights" in line for line in told) == (asked != "refit")


def test_a_window_is_what_all_have_in_common_and_never_a_sum_of_rates():
    one = {"node": "a", "began_s": 0.0, "ended_s": 10.0, "evaluation_s": 1.0, "checkpoint_s": 1.0, "images": 80}
    late = {**one, "began_s": 5.0, "ended_s": 12.0}
    elsewhere = {**one, "node": "b", "began_s": 1000.0, "ended_s": 1009.0}
    found = window_of([one, late, elsewhere])
    assert found["wall_s"] == 12
    assert found["images_per_second"] == 240 / 10
