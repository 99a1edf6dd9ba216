from suite.reporting.data.sentences import sentences
from suite.reporting.rendering import prepare
from tests.suite.reporting.synthetic import failed, record, run_of


def said(rows, **environment):
    content = prepare([run_of(rows, **environment)])
    return sentences(content.rows, content.panels, content.runs, content.changed)


def sides():
    """Ours, a peer and PyTorch, linear and quadratic; at T = 4000 the quadratic one is out of memory."""
    rows = []
    for name, origin, slower in (("triton", "ours", 1.0), ("fla", "peer", 1.5), ("torch", "baseline", 4.0)):
        rows += [
            record("linear_attention", name, T, time_ms=slower * T / 1000, origin=origin, check={"o": 1e-4})
            for T in (500, 2000, 4000)
        ]
    rows += [record("softmax_attention", "flash", T, time_ms=(T / 1000) ** 2, origin="peer") for T in (500, 2000)]
    return [*rows, failed("softmax_attention", "flash", 4000, "oom", "no memory", origin="peer")]


def test_the_first_sentence_names_every_side_at_the_longest_length_that_both_kinds_have():
    first, cost, missing, tuning = said(sides())
    assert first.startswith(
        "At T = 2,000, K = V = 64, fp32, forward (B 1, H 4, warm-cpu): linear_attention/triton (ours) takes 2.00 ms; "
        "linear_attention/fla (peer) 3.00 ms, 1.50 times as long; softmax_attention/flash (peer) 4.00 ms, 2.00 times "
        "as long; linear_attention/torch (PyTorch) 8.00 ms, 4.00 times as long."
    )
    assert "The longest T is 4,000, at which linear_attention/triton takes 4.00 ms." in first
    assert "linear_attention/triton is faster than softmax_attention/flash: from T = 1,000" in first
    assert cost == (
        "linear_attention/triton reaches 40.0 % of the roofline (bound by memory), allocates 1.00 MiB beyond "
        "its inputs (linear_attention/fla: 1.00) and has an error of 1.0e-04 against the oracle "
        "(linear_attention/fla: 1.0e-04)."
    )
    assert missing == "1 of 12 timed cases have no time: 1 oom (no memory)."
    assert tuning == "Tuning per side: ours: none; peer: none; PyTorch: none."


def test_what_each_side_was_tuned_is_told():
    rows = [record("a", "x", 128, origin="ours") | {"tunable.chunk": chunk} for chunk in (128, 64)]
    kernels = {"one": {"candidates": 12}, "two": {"candidates": 8}}
    rows.append(record("a", "y", 128, origin="peer") | {"tuning.kernels": kernels, "tuning.seconds": 3.5})
    (tuning,) = [text for text in said(rows) if text.startswith("Tuning")]
    assert tuning == ("Tuning per side: ours: chunk 64, 128; peer: 20 configurations in 2 autotuned kernels, 3.50 s.")


def test_a_setting_with_unlike_head_dims_and_others_beside_it_says_so():
    rows = [record("a", "x", 128) | {"V": 128}, record("a", "x", 64, K=32)]
    first = said(rows)[0]
    assert "At T = 128, K = 64, V = 128, fp32, forward (B 1, H 4, warm-cpu, one of 2 settings)" in first


def test_without_any_time_that_is_the_first_thing_said():
    first, missing = said([failed("a", "x", 128, "error", "broke"), failed("a", "y", 128, "error", "burst")])
    assert first == "None of 2 timed cases has a time; the tables below say why."
    assert missing == "2 of 2 timed cases have no time: 2 error (mostly: broke)."


def test_times_that_are_the_hosts_are_counted_and_named():
    rows = [record("a", name, 128, host_bound=bound) for name, bound in (("x", True), ("y", False), ("z", True))]
    (bound,) = [text for text in said([*rows, failed("a", "w", 128, "error", "broke")]) if "by the host" in text]
    assert bound == (
        "2 of 3 times are bound by the host: the GPU waited for launches, so they say nothing of the kernels "
        "(a/x, a/z)."
    )
    assert not [text for text in said([record("a", "x", 128)]) if "by the host" in text]


def test_what_was_not_recorded_is_left_out_of_the_sentence():
    without_range = {
        key: value
        for key, value in record("a", "x", 128).items()
        if key not in ("roof_pct", "bound", "memory_mib", "check", "origin")
    }
    first, cost = said([without_range])
    assert "a/x (of unknown origin) takes 1.00 ms" in first
    assert cost == "Only the time of a/x is known."
