"""System calls that fail, and reads and writes that are short. See faults.py."""
import subprocess
from pathlib import Path

import pytest

from faults import DEADLINE, SCENARIOS, Laboratory, undeclared_calls

pytestmark = [pytest.mark.linux, pytest.mark.timeout(180)]
CASES = [(scenario, call) for scenario, calls in SCENARIOS.items() for call in calls.split()]


@pytest.fixture(scope="session")
def laboratory():
    laboratory = Laboratory()
    yield laboratory
    assert laboratory.close() == 0


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_a_scenario_without_faults_goes_right(laboratory, scenario):
    wrong, _ = laboratory.run_without_fault(scenario)
    assert not wrong


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_all_system_calls_of_a_scenario_are_declared(laboratory, scenario):
    _, trace = laboratory.run_without_fault(scenario)
    assert not undeclared_calls(scenario, trace)


@pytest.mark.parametrize("scenario, call", CASES)
def test_every_failure_of_a_call_ends_in_an_echo_or_a_clear_message(laboratory, scenario, call):
    runs = laboratory.run_all(scenario, call)
    if not runs:
        pytest.skip("the C library of this system does not make this call here")
    print(f"{len(runs)} faults:", *runs, sep="\n")
    assert not {fault: wrong for fault, wrong in runs.items() if wrong}


def test_a_failing_close_of_the_output_is_an_error(laboratory):
    """Some file systems report only then that the disk is full."""
    inject = ["-P", Path("output").resolve(), "-e", "inject=close:error=EDQUOT"]
    with open("output", "w") as output:
        got = subprocess.run(
            ["strace", "-f", "-o", "trace", *inject, laboratory.home / "client", "unix:unix.sock"],
            cwd=laboratory.shared,
            input=b"x",
            stdout=output,
            stderr=subprocess.PIPE,
            timeout=DEADLINE,
        )
    assert got.stderr == b"client: standard output: close: Disk quota exceeded\n"
    assert got.returncode == 1


# ---- Short reads and writes


@pytest.fixture(scope="session")
def short_library(tmp_path_factory):
    """A library under which reads and writes take a few bytes at a time."""
    library = tmp_path_factory.mktemp("short") / "short.so"
    source = Path(__file__).with_name("short.c")
    subprocess.run(["cc", "-O1", "-shared", "-fPIC", "-o", library, source], check=True)
    return library


@pytest.mark.parametrize("network", ["tcp4:0", "unix"])
def test_short_reads_and_writes_lose_no_byte(start_server, client, short_library, network):
    server = start_server(network, preload=[short_library])
    data = bytes(range(250)) * 1200
    got = client(server.endpoints()[0], data=data, preload=[short_library], deadline=60)
    assert (got.status, got.errors) == (0, "")
    assert got.output == data
    assert Path("short.log").stat().st_size > 1000  # a byte for each call that was cut
