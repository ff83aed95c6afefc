"""Functions in other processes: the same scores, time limits, crashes, and nothing left behind."""

import gc
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
import torch

from pyro_llm.errors import OptionError, RewardError, RewardFunctionError
from pyro_llm.lm import TableLM
from pyro_llm.rewards import FunctionReward, IsolatedFunctionReward
from pyro_llm.run_scope import run_scope


@pytest.fixture
def state():
    lm = TableLM(lambda tokens: [0.25] * 4, ["a", "b", "ab", "."], eos_token_id=3)
    return lm.prompt("a problem").append(torch.tensor([[0], [1], [2], [0]]))


def processes(reward):
    return [worker._process.pid for worker in reward._pool()._all]


def runs(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    status = Path(f"/proc/{pid}/stat")  # one that has ended may wait for its parent to take note
    return not (status.exists() and status.read_text().rpartition(")")[2].split()[0] == "Z")


def gone(pid):
    """Whether a process has ended, waited for up to five seconds."""
    for _ in range(250):
        if not runs(pid):
            return True
        time.sleep(0.02)
    return False


def test_the_same_scores_as_in_this_process(state):
    scale = 0.25

    def probability(text):
        return len(text) * scale

    with run_scope() as scope:
        actual = IsolatedFunctionReward(probability, workers=2)(state)
    assert torch.equal(actual, FunctionReward(probability)(state))
    assert scope.cost.reward_calls == 3


def test_processes_stay_and_equal_rewards_share_them(state):
    def make():
        return IsolatedFunctionReward(lambda text: os.getpid() / 2**23, timeout=5)

    one, other = make(), make()
    assert one == other
    assert hash(one) == hash(other)
    assert make() != IsolatedFunctionReward(one.fn, timeout=6)
    assert torch.equal(one(state), other(state))
    assert processes(one) == processes(other)
    (pid,) = processes(one)
    del one, other
    gc.collect()
    assert gone(pid)


def test_workers_share_the_texts(state):
    reward = IsolatedFunctionReward(lambda text: time.sleep(0.3) or os.getpid() / 2**23, workers=2)
    assert len(set(reward(state).tolist())) == len(processes(reward)) == 2


def test_out_of_time(state):
    reward = IsolatedFunctionReward(lambda text: time.sleep(60) or 1 if text == "b" else 0.5, timeout=0.2)
    started = time.monotonic()
    with pytest.raises(RewardFunctionError, match=r"on the text 'b': it took more than 0\.2 s"):
        reward(state)
    assert time.monotonic() - started < 10
    assert reward(
        state[:1] if hasattr(state, "__getitem__") else state.truncate(torch.zeros(4, dtype=torch.long))
    ).tolist()


def test_time_limits_stop_c_code_too(state):
    def catastrophic(text):
        import re

        return 0.0 if re.match(r"(a+)+$", "a" * 64 + "b") else 1.0

    assert IsolatedFunctionReward(catastrophic, timeout=0.2, on_failure=0.5)(state).tolist() == [0.0] * 4


def test_crashes(state):
    def crash(text):
        if text == "a":
            os._exit(3)
        if text == "b":
            os.kill(os.getpid(), signal.SIGSEGV)
        return 1.0

    soft = IsolatedFunctionReward(crash, on_failure=0.5)
    assert soft(state).tolist() == [0.0, 0.0, float("inf"), 0.0]
    with pytest.raises(RewardFunctionError, match="on the text 'a': its process ended with exit code 3"):
        IsolatedFunctionReward(crash)(state)
    with pytest.raises(RewardFunctionError, match="ended by SIGSEGV"):
        IsolatedFunctionReward(lambda text: os.kill(os.getpid(), signal.SIGSEGV))(state)


def test_a_process_that_ended_between_two_calls_is_replaced(state):
    reward = IsolatedFunctionReward(lambda text: 0.5)
    reward(state)
    (pid,) = processes(reward)
    os.kill(pid, signal.SIGKILL)
    time.sleep(0.05)
    assert reward(state).tolist() == [0.0] * 4
    assert processes(reward) != [pid]


def test_errors_of_the_function_are_its_own(state):
    class Odd(Exception):
        def __init__(self, one, two):
            super().__init__(one)

    def broken(text):
        return {}[text]

    def odd(text):
        raise Odd(1, 2)

    with pytest.raises(KeyError) as caught:
        IsolatedFunctionReward(broken)(state)
    assert "for the text 'a'" in caught.value.__notes__[0]
    assert "in broken" in caught.value.__notes__[0]
    with pytest.raises(RewardFunctionError, match=r"(?s)on the text 'a'.*Odd: 1"):
        IsolatedFunctionReward(odd)(state)


@pytest.mark.parametrize("value", [None, 1.5, "high", float("nan")])
def test_what_is_no_probability(state, value):
    with pytest.raises(RewardError, match=rf"returned {value!r} for the text 'a'.*number in \[0, 1\]"):
        IsolatedFunctionReward(lambda text: value)(state)


def test_what_cannot_be_sent_or_made(state):
    lock = threading.Lock()
    with pytest.raises(RewardError, match="cannot be sent to another process"):
        IsolatedFunctionReward(lambda text: lock.locked())(state)
    with pytest.raises(RewardError, match="not 0"):
        IsolatedFunctionReward(0.5)
    for options in ({"timeout": 0}, {"timeout": float("nan")}, {"on_failure": 2}, {"workers": 0}, {"workers": 1.5}):
        with pytest.raises(OptionError, match=f"{next(iter(options))}="):
            IsolatedFunctionReward(len, **options)


def test_prints_of_the_function_do_no_harm(state, capfd):
    assert IsolatedFunctionReward(lambda text: print(text) or 0.5)(state).tolist() == [0.0] * 4


SCRIPT = """
import os, sys, time, torch
from pyro_llm.lm import TableLM
from pyro_llm.rewards import IsolatedFunctionReward

def hang(text):
    import subprocess
    child = subprocess.Popen(["sleep", "60"])  # what the function starts must end with it
    with open(sys.argv[1], "w") as file:
        file.write(f"{os.getpid()} {child.pid}\\n")
    time.sleep({seconds})
    return 0.5

state = TableLM(lambda tokens: [0.9, 0.1], ["a", "."], eos_token_id=1).prompt("")
reward = IsolatedFunctionReward(hang, timeout={timeout})
reward(state)
print("done", flush=True)
"""


def start(path, **values):
    script = SCRIPT
    for name, value in values.items():
        script = script.replace(f"{{{name}}}", repr(value))
    code = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)\n" + script
    return subprocess.Popen([sys.executable, "-c", code.replace("sys.argv[1]", repr(str(path)))])


def pids(path, process):
    for _ in range(1500):
        if path.exists() and path.read_text().endswith("\n"):
            return [int(pid) for pid in path.read_text().split()]
        assert process.poll() is None
        time.sleep(0.02)
    raise AssertionError("the function was never called")


@pytest.mark.parametrize(("ending", "timeout"), [("exit", 30.0), ("interrupt", None), ("kill", 1.0)])
def test_nothing_is_left_behind(tmp_path, ending, timeout):
    """After the end of the interpreter, Ctrl-C, and (with a time limit) even SIGKILL of the master."""
    process = start(tmp_path / "pids", seconds=0.01 if ending == "exit" else 60, timeout=timeout)
    worker, child = pids(tmp_path / "pids", process)
    try:
        if ending != "exit":
            process.send_signal(signal.SIGINT if ending == "interrupt" else signal.SIGKILL)
        status = {"exit": 0, "interrupt": -signal.SIGINT, "kill": -signal.SIGKILL}[ending]
        assert process.wait(timeout=30) == status
        assert gone(worker)
        # After SIGKILL nobody is left to end what the function had started.
        assert ending == "kill" or gone(child)
    finally:
        for pid in (worker, child):
            if runs(pid):
                os.kill(pid, signal.SIGKILL)
