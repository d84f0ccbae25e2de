"""Who asks a training to stop is heard, the saving is not disturbed, and nobody else notices."""

import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from artifacts.errors import InputError
from artifacts.interruption import SIGNALS, Interruption

TRAINING = """
import time
from artifacts.errors import run
from artifacts.errors import Stopped
from artifacts.interruption import Interruption

def main():
    with Interruption() as interruption:
        print("training", flush=True)
        while not interruption.requested:
            time.sleep(0.01)
        print("saving", flush=True)
        time.sleep(0.5)
        print("saved", flush=True)
        raise Stopped(f"stopped by {interruption.requested}, saved")

run(main)
"""


def stop(*signals: signal.Signals) -> tuple[int, str, str]:
    """Exit code, last output and last message of a training that gets a signal, and others while it saves."""
    job = subprocess.Popen([sys.executable, "-c", TRAINING], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert job.stdout is not None
    too_long = threading.Timer(60, job.kill)
    too_long.start()
    try:
        for line, some in (("training", signals[:1]), ("saving", signals[1:])):
            assert job.stdout.readline() == line + "\n"
            for number in some:
                job.send_signal(number)
        out, err = job.communicate()
    finally:
        too_long.cancel()
        job.kill()
    return job.returncode, out, err.splitlines()[-1]


@pytest.mark.parametrize("number", SIGNALS)
def test_a_signal_ends_a_training_saved_with_one_line_and_exit_code_75(number: signal.Signals) -> None:
    assert stop(number) == (75, "saved\n", f"stopped by {number.name}, saved")


def test_further_signals_do_not_disturb_the_saving() -> None:
    signals = signal.SIGTERM, signal.SIGTERM, signal.SIGUSR1, signal.SIGTERM
    assert stop(*signals) == (75, "saved\n", "stopped by SIGTERM, saved")


def test_one_ctrl_c_after_a_signal_does_not_disturb_the_saving() -> None:
    assert stop(signal.SIGTERM, signal.SIGINT) == (75, "saved\n", "stopped by SIGTERM, saved")


def test_a_second_ctrl_c_ends_it_at_once() -> None:
    assert stop(signal.SIGINT, signal.SIGINT) == (130, "", "interrupted")


def test_the_first_ctrl_c_says_what_happens_and_what_a_second_does(capfd: pytest.CaptureFixture[str]) -> None:
    with Interruption() as interruption:
        signal.raise_signal(signal.SIGINT)
        assert interruption.requested == "SIGINT"
    message = "SIGINT: the training saves and stops after this step; Ctrl-C once more ends it at once, unsaved\n"
    assert capfd.readouterr().err == message


def test_afterwards_signals_do_what_they_did_before() -> None:
    before = [signal.getsignal(number) for number in SIGNALS]
    with Interruption():
        signal.raise_signal(signal.SIGINT)
        assert [signal.getsignal(number) for number in SIGNALS] != before
    assert [signal.getsignal(number) for number in SIGNALS] == before


@contextmanager
def ignoring(number: signal.Signals) -> Iterator[None]:
    before = signal.signal(number, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(number, before)


def test_a_shells_background_job_goes_on_ignoring_ctrl_c() -> None:
    with ignoring(signal.SIGINT), Interruption() as interruption:
        signal.raise_signal(signal.SIGINT)
        assert interruption.requested is None


def test_a_batch_script_that_ignores_the_end_of_its_job_does_not_make_the_training_ignore_it() -> None:
    with ignoring(signal.SIGTERM), Interruption() as interruption:
        signal.raise_signal(signal.SIGTERM)
        assert interruption.requested == "SIGTERM"


def test_a_time_budget_asks_to_stop_when_it_is_used_up() -> None:
    clock = [100.0]
    with Interruption(3600, lambda: clock[0]) as interruption:
        clock[0] += 3599
        assert interruption.requested is None
        clock[0] += 1
        assert interruption.requested == "time budget of 3,600 s"
        signal.raise_signal(signal.SIGUSR1)
        assert interruption.requested == "SIGUSR1"


def test_without_a_budget_there_is_time_for_ever() -> None:
    clock = [0.0]
    with Interruption(now=lambda: clock[0]) as interruption:
        clock[0] = 1e12
        assert interruption.requested is None


@pytest.mark.parametrize("budget_s", [0, -1.5, float("nan")])
def test_a_budget_that_is_no_time_is_bad_input(budget_s: float) -> None:
    with pytest.raises(InputError, match=f"time budget: found {budget_s:g}, expected a positive number of seconds"):
        Interruption(budget_s)


def test_outside_the_main_thread_there_is_the_budget_alone() -> None:
    found = []

    def train() -> None:
        before = signal.getsignal(signal.SIGTERM)
        with Interruption(0.001, iter(range(9)).__next__) as interruption:
            found.append((signal.getsignal(signal.SIGTERM) == before, interruption.requested))

    thread = threading.Thread(target=train)
    thread.start()
    thread.join()
    assert found == [(True, "time budget of 0.001 s")]
