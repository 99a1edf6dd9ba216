"""Energy on a device of known power, whose counter moves in steps."""

import pytest

from suite.errors import UsageError
from suite.telemetry import energy
from suite.telemetry.energy import Meter, NoEnergy, check_window, idle, saturated, window
from suite.telemetry.nvml import Gpu
from tests.suite.telemetry.fakes import NOT_SUPPORTED, FakeNvml

IDLE_W, BUSY_W, STEP_S = 80.0, 500.0, 0.1
COUNTER = "nvmlDeviceGetTotalEnergyConsumption"
POWER = "nvmlDeviceGetPowerUsage"


class Board(FakeNvml):
    """Draws BUSY_W while it works and IDLE_W else; looking at it takes 0.1 ms."""

    def __init__(self, **more) -> None:
        super().__init__(**more)
        self.now, self.joules, self.watts = 0.0, 0.0, IDLE_W

    def spend(self, seconds: float, watts: float) -> None:
        """Time passes; the counter is written every STEP_S."""
        while seconds > 0:
            part = min(seconds, STEP_S - self.now % STEP_S + 1e-9)
            self.now += part
            self.joules += part * watts
            seconds -= part
            if self.now % STEP_S < 2e-9:
                self.energy_mj = round(self.joules * 1e3)
        self.watts = watts

    def clock(self) -> float:
        return self.now

    def nvmlDeviceGetTotalEnergyConsumption(self, handle: str) -> int:
        self.spend(1e-4, self.watts)
        return self.energy_mj

    def nvmlDeviceGetPowerUsage(self, handle: str) -> int:
        self.spend(1e-4, self.watts)
        return round(self.watts * 1e3)


@pytest.fixture
def board() -> Board:
    return Board()


def meter_of(board: Board) -> Meter:
    return Meter(Gpu(board, "handle"), board.clock)


@pytest.mark.parametrize("call_s", [0.0002, 0.004, 0.05])
@pytest.mark.parametrize("refuses", [{}, {COUNTER: NOT_SUPPORTED}])
def test_joules_a_call(call_s: float, refuses: dict[str, int]) -> None:
    board = Board(refuses=refuses)
    meter = meter_of(board)
    assert meter.method == ("power" if refuses else "counter")
    used = saturated(meter, lambda: board.spend(call_s, BUSY_W), lambda: None, 2.0, board.clock)
    assert used.seconds >= 2.0
    assert used.watts == pytest.approx(BUSY_W, rel=0.01)
    # A look takes its time too, which is not the call's.
    assert used.joules / used.calls == pytest.approx(call_s * BUSY_W, rel=0.03)


def test_idle_power_is_that_of_the_quiet_device(board: Board) -> None:
    board.spend(1.0, BUSY_W)
    meter = meter_of(board)
    assert idle(meter, lambda s: board.spend(s, IDLE_W), board.clock) == pytest.approx(IDLE_W, rel=0.01)


def test_a_window_begins_and_ends_at_steps_of_the_counter(board: Board) -> None:
    board.spend(0.03, IDLE_W)

    def work() -> int:
        board.spend(0.001, BUSY_W)
        return 1

    used = window(meter_of(board), work, 0.25, board.clock)
    assert used.seconds == pytest.approx(0.3, abs=0.005)
    assert used.joules == pytest.approx(0.3 * BUSY_W, rel=0.01)


def test_a_short_window_is_refused(board: Board) -> None:
    with pytest.raises(UsageError, match=r"energy over 1\.9 s: the counter moves every 0\.1 s; give at least 2 s"):
        check_window(1.9)
    with pytest.raises(UsageError):
        saturated(meter_of(board), lambda: board.spend(0.01, BUSY_W), lambda: None, 1.0, board.clock)
    check_window(2.0)


def test_a_board_that_tells_neither() -> None:
    refusing = Board(refuses={COUNTER: NOT_SUPPORTED, POWER: NOT_SUPPORTED})
    with pytest.raises(NoEnergy, match=r"^Not Supported$"):
        meter_of(refusing)


def test_a_counter_that_stands_still(board: Board, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Board, COUNTER, lambda self, handle: 5)
    meter = meter_of(board)
    with pytest.raises(NoEnergy, match="not moved for 1 s"):
        saturated(meter, lambda: board.spend(0.01, BUSY_W), lambda: None, 2.0, board.clock)


def test_a_counter_that_goes_silent(board: Board) -> None:
    meter = meter_of(board)
    board.refuses[COUNTER] = NOT_SUPPORTED
    with pytest.raises(NoEnergy, match="stopped telling its counter"):
        meter.joules()


def test_columns(monkeypatch: pytest.MonkeyPatch, board: Board) -> None:
    from suite.measuring import energy as module

    monkeypatch.setattr(module, "source", lambda device: Gpu(board, "handle"))
    monkeypatch.setattr(module, "Meter", lambda source: Meter(source, board.clock))
    monkeypatch.setattr(module, "idle", lambda meter: idle(meter, lambda s: board.spend(s, IDLE_W), board.clock))
    monkeypatch.setattr(
        module, "saturated", lambda meter, run, wait, seconds: saturated(meter, run, wait, seconds, board.clock)
    )
    monkeypatch.setattr(module, "_IDLE_W", {})
    of = module.EnergyOf("cuda", 2.0, None, lambda: None)
    found = of.columns(lambda: board.spend(0.01, BUSY_W), tokens=1000)
    assert found["telemetry.energy_j_token"] == pytest.approx(0.01 * BUSY_W / 1000, rel=0.03)
    assert found["telemetry.idle_w"] == pytest.approx(IDLE_W, rel=0.01)
    assert found["telemetry.energy_w"] == pytest.approx(BUSY_W, rel=0.01)
    assert found["telemetry.energy_method"] == "counter"
    assert found["telemetry.energy_window_s"] >= energy.SHORTEST_S
    late = module.EnergyOf("cuda", 2.0, 0.0, lambda: None)
    assert late.columns(lambda: None, 1) == {"telemetry.no_energy": "the budget ended before"}
    monkeypatch.setattr(module, "source", lambda device: None)
    unread = module.EnergyOf("cuda", 2.0, None, lambda: None).columns(lambda: None, 1)
    assert unread == {"telemetry.no_energy": "the GPU's telemetry cannot be read"}
