"""`visionmark train` on the command line: what is wrong is said in a line, and what is right is told."""

import io
import json
from itertools import pairwise

import pytest

from commands import __main__ as command
from commands.train import command as train_command
from commands.train.arguments import read_order
from harness.jobs.training_line import TrainingLine, duration
from harness.measure.training import Moment
from selftests.inside import TINY
from selftests.photographs import write_labelled

DATA = ("--model", TINY, "--data", "photographs")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--model", "fbnet_c100", "--data", "x"], "no model 'fbnet_c100' in the catalogue"),
        (["--model", "ssd300_vgg16", "--data", "x"], "--model ssd300_vgg16 is a detector, which learns from boxes"),
        ([*DATA, "--weights", "nowhere.pth"], "--weights nowhere.pth: no such file"),
        ([*DATA, "--device", "cuda:9"], "no cuda:9 device"),
        ([*DATA, "--steps", "0"], "'0' is no whole number of at least 1"),
        ([*DATA, "--learning-rate", "nan"], "'nan' is no number of at least 0"),
        ([*DATA, "--stop-threshold", "75.9"], "'75.9' is no share from 0 to 1, such as 0.759"),
        (["--model-name=resnet50v1_5", "--mode=training"], "--model-name: use --model NAME; --mode: none is needed"),
        ([*DATA, "--mpi_num_processes=2", "-a", "4"], "--mpi_num_processes: use --replicas N; -a: use --threads N"),
        ([*DATA, "--train_epochs", "10"], "--train_epochs: use --train-epochs"),
        ([*DATA, "--weight-decoy=0"], "--weight-decoy: there is no such option; did you mean --weight-decay?"),
        ([*DATA, "--learning-rate", "-1"], "'-1' is no number of at least 0"),
        ([*DATA, "--nodes", "2"], "--nodes and --rendezvous HOST:PORT go together"),
        ([*DATA, "--max-restarts", "1"], "--max-restarts is of several processes"),
    ],
)
def test_a_wrong_command_line_ends_with_2_and_a_line(arguments, words, capsys):
    with pytest.raises(SystemExit) as ended:
        command.main(["train", *arguments])
    assert ended.value.code == 2
    assert words in capsys.readouterr().err.splitlines()[-1]


@pytest.mark.parametrize("word", ["-h", "--help"])
def test_help_is_given(word, capsys):
    with pytest.raises(SystemExit) as ended:
        command.main(["train", word])
    assert ended.value.code == 0
    assert "--rendezvous" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "replicas", "rate"),
    [((), 1, 0.128 / 4), (("--fine-tune",), 1, 0.1 / 4), ((), 32, 8 * 0.128), (("--learning-rate", "1e-4"), 4, 1e-4)],
)
def test_the_rate_grows_with_the_global_batch_unless_it_is_given(arguments, replicas, rate):
    asked = read_order([*DATA, *arguments])
    assert asked.recipe.batch == 64
    assert asked.recipe.rate(replicas) == pytest.approx(rate)


def test_the_names_of_the_model_zoo_and_its_variable_are_understood(monkeypatch, capsys):
    monkeypatch.setenv("OMP_NUM_THREADS", "12")
    asked = read_order(["--model", "resnet50v1_5", "--data", "x"])
    assert (asked.recipe.model, asked.threads) == ("resnet50", 12)
    assert asked.recipe.folder.endswith("results/train/resnet50")
    assert read_order([*DATA, "--threads", "3"]).threads == 3, "what is typed goes before it"
    monkeypatch.setenv("OMP_NUM_THREADS", "many")
    with pytest.raises(SystemExit):
        read_order(DATA)
    assert "OMP_NUM_THREADS 'many' is no number of threads" in capsys.readouterr().err


def test_a_run_writes_its_files_and_says_what_came_of_it(tmp_path, capsys):
    photographs = write_labelled(tmp_path / "photographs")
    arguments = ["train", "--model", TINY, "--data", str(photographs), "--output-dir", str(tmp_path / "out")]
    arguments += ["--batch-size", "8", "--steps", "2", "--threads", "1", "--warmup-epochs", "0", "--no-augment"]
    code = command.main([*arguments, "--stop-threshold", "1"])
    said = capsys.readouterr()
    assert code == 1, "a threshold that is not reached is no pass"
    assert "threshold 1: not reached" in said.out
    assert "step 2 of 2, loss" in said.err
    names = {path.name for path in (tmp_path / "out").iterdir()}
    assert names == {"checkpoint.pt", "curve.csv", "mlperf.log", "record.json", "weights.safetensors"}
    assert json.loads((tmp_path / "out" / "record.json").read_text())["steps"] == 2


def test_a_failure_is_one_line_and_exit_status_1(tmp_path, capsys):
    code = command.main(["train", *DATA[:2], "--data", str(tmp_path / "none"), "--output-dir", str(tmp_path)])
    assert code == 1
    assert capsys.readouterr().err.splitlines()[-1].startswith("visionmark train: --data ")


@pytest.mark.parametrize(
    ("is_there", "words"),
    [(True, "--resume goes on from the checkpoint in"), (False, "interrupted; there is no checkpoint yet in")],
)
def test_an_interrupted_run_says_whether_it_can_go_on(is_there, words, tmp_path, capsys, monkeypatch):
    def interrupted(*arguments, **options):
        if is_there:
            (tmp_path / "checkpoint.pt").touch()
        raise KeyboardInterrupt

    monkeypatch.setattr(train_command, "train", interrupted)
    assert command.main(["train", *DATA, "--output-dir", str(tmp_path)]) == 130
    said = capsys.readouterr().err.splitlines()[-1]
    assert words in said
    assert ("--resume" in said) == is_there


class Terminal(io.StringIO):
    def isatty(self):
        return True


def test_the_line_shows_loss_rate_and_time_left():
    out, now = Terminal(), [0.0]
    line = TrainingLine(out, lambda: now[0])
    line.show(Moment(1, 90, 6.91234, 25.04, 3700))
    line.show(Moment(2, 90, 6.9, 25.0, 3600))  # too soon
    now[0] = 1.0
    line.show(Moment(3, 90, 6.8, 25.0, 70))
    assert out.getvalue().split("\r")[1:] == [
        "step 1 of 90, loss 6.9123, 25.0 images/s, 1 h 01 min left\x1b[K",
        "step 3 of 90, loss 6.8000, 25.0 images/s, 1 min 10 s left\x1b[K",
    ]


def steps_shown(step_s):
    out, now = io.StringIO(), [0.0]
    line = TrainingLine(out, lambda: now[0])
    for step in range(1, 101):
        now[0] += step_s
        line.show(Moment(step, 100, 1.0, 10.0, 5))
    return [int(text.split()[1]) for text in out.getvalue().splitlines()]


def test_elsewhere_there_is_a_line_for_the_first_step_every_tenth_and_every_minute():
    assert steps_shown(1) == [1, *range(10, 101, 10)]
    slow = steps_shown(13)  # five steps are longer than a minute
    assert all(later - step <= 5 for step, later in pairwise(slow)) and {*range(10, 101, 10)} <= {*slow}
    assert steps_shown(100) == [*range(1, 101)]
    assert duration(59.6) == "1 min 00 s"
