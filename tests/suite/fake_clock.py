"""A clock for sampling and telemetry that only samples and pauses move."""


class FakeClock:
    """Stands in the place of the module `time`. All times are in milliseconds."""

    def __init__(self) -> None:
        self.ms = 0.0

    def perf_counter_ns(self) -> int:
        return round(self.ms * 1e6)

    def monotonic(self) -> float:
        return self.ms / 1e3

    def sleep(self, seconds: float) -> None:
        self.ms += seconds * 1e3

    def passes(self, samples: list[float], each_ms: float = 0.0) -> list[float]:
        """The samples, while they and each_ms beside every one of them pass."""
        self.ms += sum(samples) + each_ms * len(samples)
        return samples
