"""Presets and the plan."""

import re
from pathlib import Path

import pytest

from suite.discovery import ROOT, discover
from suite.errors import UsageError
from suite.plan import Selection, by_proof, make_plan, shuffled
from suite.presets import Preset, load_preset, names
from suite.registry import Operator, Registry
from suite.targets import aim

GOOD = """
operators = ["linear_attention"]
[[sweep]]
T = [128, 64]
dtype = ["float32"]
shapes = [{H = 1, K = 32}, {H = 2, K = 64, V = 32}]
axes = {normalised = [true]}
tunables = {chunk = [32]}
"""


@pytest.fixture(scope="module")
def registry() -> Registry:
    return discover()


def preset_of(folder: Path, text: str):
    path = folder / "mine.toml"
    path.write_text(text)
    return load_preset(str(path))


@pytest.mark.parametrize("name", names())
def test_presets_that_come_with_the_suite_load(name: str, registry: Registry) -> None:
    preset = load_preset(name)
    assert preset.description
    tags = {tag for op in registry.operators.values() for tag in op.tags}
    if not preset.tags or set(preset.tags) & tags:
        assert make_plan(registry, preset, Selection())


@pytest.mark.parametrize("name", sorted(set(names()) - {"full", "numerics"}))
def test_all_cases_of_a_preset_have_a_cost_a_configuration_and_launches_to_try(name: str) -> None:
    """On a GPU each is asked for in the middle of a sweep: a plan that raises there would cost the run."""
    registry = discover()
    with aim("sm_90"):
        for group in make_plan(registry, load_preset(name), Selection()):
            operator = registry.operator(group.operator)
            for case in group.cases:
                made, tunables = operator.implementations[case.implementation], dict(case.tunables)
                assert operator.cost_of(case.problem, made, tunables).flops_exec > 0, case.case_id
                if made.unsupported(case.problem, tunables, operator.axes) is None:
                    asked = [each for each in (made.configuration, made.search) if each]
                    assert all(each(case.problem, tunables) is not None for each in asked), case.case_id


def test_the_set_of_presets() -> None:
    assert set(names()) == {
        "smoke",
        "registry",
        "interpret",
        "cpu",
        "gpu",
        "full",
        "numerics",
        "first-contact",
        "first-times",
        "fla-shapes",
        "gated-delta",
        "tiles",
        "decode",
        "llama3-8b",
        "mamba2-2.7b",
        "qwen3-next",
        "kimi-linear",
        "xlstm-7b",
        "mamba-2.8b",
        "recurrentgemma-2b",
        "s4-wikitext103",
    }


def test_smoke_has_one_operator_of_each_family_and_the_registry_all(registry: Registry) -> None:
    """A family is a row of docs/operators.md: its operators share kernels, and one of them shows that these run."""
    section = (ROOT / "docs" / "operators.md").read_text()
    rows = re.findall(r"^\| [^|]+ \| (`[^|]+) \| ", section, re.MULTILINE)
    families = [set(re.findall(r"`(\w+)`", operators)) for operators in rows]
    assert len(families) >= 8
    smoke = load_preset("smoke")
    assert all(len(family & set(smoke.operators)) == 1 for family in families)
    assert set(smoke.operators) <= set.union(*families)
    assert (smoke.static, load_preset("registry").static) == (False, True)
    assert {group.operator for group in make_plan(registry, load_preset("registry"), Selection())} == set(
        registry.operators
    )
    passes = {group.problem.pass_ for group in make_plan(registry, smoke, Selection())}
    assert passes == {"fwd", "fwdbwd", "decode"}


def test_sweep_is_a_product(tmp_path: Path, registry: Registry) -> None:
    plan = make_plan(registry, preset_of(tmp_path, GOOD), Selection())
    ids = [group.problem_id for group in plan]
    assert ids == [
        "linear_attention/B1_T64_H1_K32_V32_fp32_fwd_normalised",
        "linear_attention/B1_T64_H2_K64_V32_fp32_fwd_normalised",
        "linear_attention/B1_T128_H1_K32_V32_fp32_fwd_normalised",
        "linear_attention/B1_T128_H2_K64_V32_fp32_fwd_normalised",
    ]
    chunked = [case.case_id for case in plan[0].cases if dict(case.tunables)]
    assert chunked
    assert all(case_id.endswith("_C32") for case_id in chunked)


def test_flags_replace_axes(tmp_path: Path, registry: Registry) -> None:
    flags = Selection(
        implementations=("naive",), values={"T": (16,), "K": (8,), "pass": ("bwd",)}, axes={"normalised": (False,)}
    )
    plan = make_plan(registry, preset_of(tmp_path, GOOD), flags)
    assert [case.case_id for group in plan for case in group.cases] == [
        "linear_attention/naive/B1_T16_H1_K8_V8_fp32_bwd",
        "linear_attention/naive/B1_T16_H2_K8_V8_fp32_bwd",
    ]


def test_skip_and_all_chunks(tmp_path: Path, registry: Registry) -> None:
    flags = Selection(skip=("linear_attention/naive",), values={"T": (16,), "H": (1,)}, tunables={"chunk": ("all",)})
    cases = [case for group in make_plan(registry, preset_of(tmp_path, GOOD), flags) for case in group.cases]
    assert "naive" not in {case.implementation for case in cases}
    ours = registry.implementation("linear_attention", "torch_chunk").tunables["chunk"]
    swept = {dict(case.tunables)["chunk"] for case in cases if case.implementation == "torch_chunk"}
    assert swept == set(ours)


def test_order_is_short_to_long_with_operators_side_by_side(registry: Registry) -> None:
    plan = make_plan(registry, load_preset("cpu"), Selection())
    lengths = [group.problem.T for group in plan]
    assert lengths == sorted(lengths)
    shapes = [(g.problem.T, g.problem.K, g.problem.pass_) for g in plan]
    for shape in set(shapes):
        at = [i for i, each in enumerate(shapes) if each == shape]
        assert at == list(range(at[0], at[-1] + 1)), f"{shape} is not measured in one go"


def test_of_one_length_the_problem_with_less_work_comes_first(registry: Registry, tmp_path: Path) -> None:
    text = GOOD.replace("{H = 1, K = 32}, {H = 2, K = 64, V = 32}", "{B = 4, H = 8}, {B = 2, H = 1}, {B = 1, H = 4}")
    plan = make_plan(registry, preset_of(tmp_path, text), Selection())
    order = [(g.problem.T, g.problem.B, g.problem.H) for g in plan]
    assert order == [(T, *shape) for T in (64, 128) for shape in ((2, 1), (1, 4), (4, 8))]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("oops = 1\n[[sweep]]", "mine.toml: unknown preset key 'oops'"),
        ("[[sweep]]\nTT = [1]", "mine.toml: unknown sweep key 'TT'; did you mean 'T'"),
        ("[[sweep]]\nT = 1", "'T' must be a list"),
        ('[[sweep]]\nT = ["a"]', "of the wrong type"),
        ("[[sweep]]\nT = [true]", "of the wrong type"),
        ("[[sweep]]\nshapes = [{Q = 1}]", "unknown axis in shapes 'Q'"),
        ("rep_ms = nan\n[[sweep]]", "mine.toml: 'rep_ms' must be from 0 to 1e+09 ms, got nan"),
        ("warmup_ms = -1\n[[sweep]]", "'warmup_ms' must be from 0 to 1e+09 ms, got -1"),
        ("description = 'no sweep'", "'sweep' must be a list of at least one table"),
        ("T = [", "mine.toml"),
        ("static = 0\n[[sweep]]", "'static' has 0, which is of the wrong type"),
    ],
)
def test_wrong_presets(tmp_path: Path, text: str, words: str) -> None:
    with pytest.raises(UsageError) as raised:
        preset_of(tmp_path, text)
    assert words in str(raised.value)


@pytest.mark.parametrize(
    ("selection", "words"),
    [
        (Selection(operators=("softmax",)), "unknown operator 'softmax'; did you mean 'softmax_attention'"),
        (Selection(implementations=("triton_chunky",)), "did you mean 'triton_chunk'"),
        (Selection(skip=("nave",)), "did you mean 'naive'"),
        (Selection(axes={"casual": (True,)}), "did you mean 'causal'"),
        (Selection(tunables={"chunks": (64,)}), "did you mean 'chunk'"),
        (Selection(tunables={"chunk": (48,)}), "chunk must be a power of two >= 16, got 48"),
        (Selection(tunables={"chunk": (8,)}), "chunk must be a power of two >= 16, got 8"),
        (Selection(values={"T": (0,)}), "T = 0 is not a size"),
        (Selection(operators=("linear_attention",), implementations=("sdpa_math",)), "unknown implementation"),
    ],
)
def test_wrong_selections(registry: Registry, selection: Selection, words: str) -> None:
    with pytest.raises(UsageError) as raised:
        make_plan(registry, load_preset("smoke"), selection)
    assert words in str(raised.value)


def test_a_chunk_beyond_T_is_valid(registry: Registry) -> None:
    assert make_plan(registry, load_preset("smoke"), Selection(tunables={"chunk": (1024,)}, values={"T": (16,)}))


def held(preset: Preset, operator: Operator) -> bool:
    return any(not sweep.tags or set(sweep.tags) & set(operator.tags) for sweep in preset.sweeps)


@pytest.mark.parametrize("preset", ["cpu", "gpu", "decode", "qwen3-next", "mamba2-2.7b", "recurrentgemma-2b"])
def test_every_operator_that_is_named_gets_the_shapes_of_the_preset(registry: Registry, preset: str) -> None:
    loaded = load_preset(preset)
    shapes = {(g.problem.T, g.problem.pass_, g.problem.dtype) for g in make_plan(registry, loaded, Selection())}
    for name, operator in registry.operators.items():
        if set(operator.passes).isdisjoint(pass_ for _, pass_, _ in shapes):
            with pytest.raises(UsageError, match=f"{name} has no pass .*, as preset {preset}"):
                make_plan(registry, loaded, Selection(operators=(name,)))
            continue
        plan = make_plan(registry, loaded, Selection(operators=(name,)))
        assert {(g.problem.T, g.problem.pass_, g.problem.dtype) for g in plan} <= shapes, name
        ids = [case.case_id for group in plan for case in group.cases]
        assert len(ids) == len(set(ids)), name
        if not held(loaded, operator):
            passes = {pass_ for _, pass_, _ in shapes} & set(operator.passes)
            assert {g.problem.pass_ for g in plan} == passes, name


def test_a_named_operator_that_the_preset_holds_keeps_its_own_sweeps(registry: Registry) -> None:
    cpu = load_preset("cpu")
    unasked = {g.problem_id for g in make_plan(registry, cpu, Selection()) if g.operator == "ssd"}
    named = {g.problem_id for g in make_plan(registry, cpu, Selection(operators=("ssd", "retention")))}
    assert unasked == {each for each in named if each.startswith("ssd/")} != named


def test_no_operator_joins_a_preset_unasked(registry: Registry) -> None:
    cpu = load_preset("cpu")
    found = {group.operator for group in make_plan(registry, cpu, Selection())}
    assert found == {name for name, operator in registry.operators.items() if held(cpu, operator)}


def test_a_pass_that_a_named_operator_lacks_is_told(registry: Registry) -> None:
    with pytest.raises(UsageError, match="attention_decode has no pass bwd, fwd, as preset smoke and the flags ask"):
        make_plan(
            registry, load_preset("smoke"), Selection(operators=("attention_decode",), values={"pass": ("fwd", "bwd")})
        )


def test_unknown_preset() -> None:
    with pytest.raises(UsageError, match="unknown preset 'smok'; did you mean 'smoke'"):
        load_preset("smok")


def test_a_check_begins_with_what_proves_most_and_ends_with_single_tokens(registry: Registry) -> None:
    groups = by_proof(make_plan(registry, load_preset("numerics"), Selection(operators=("retention",))))
    first, last = groups[0].problem, groups[-1].problem
    assert (first.dtype, first.cu_seqlens is not None, first.T) == ("bfloat16", True, 2048)
    assert (last.T, last.dtype) == (1, "float32")
    lengths = [group.problem.T for group in groups]
    assert 1 not in lengths[: lengths.index(1)]
    assert set(lengths[lengths.index(1) :]) == {1}


def test_the_preset_of_a_first_contact_has_about_four_problems_per_operator(registry: Registry) -> None:
    groups = make_plan(registry, load_preset("first-contact"), Selection())
    counts = {name: sum(group.operator == name for group in groups) for name in registry.operators}
    assert set(counts.values()) <= {1, 2, 3, 4}
    assert all(group.problem.dtype == "bfloat16" and group.problem.T > 1 for group in groups)


# Naive forms that loop over tokens in Python; all others are a few large products.
STEPWISE = {f"{name}/naive" for name in ("gru", "lstm", "s4d", "selective_scan", "gated_scan")}


# Those for checks take each case once.
@pytest.mark.parametrize("name", sorted(set(names()) - {"first-contact", "numerics"}))
def test_no_preset_steps_through_long_sequences_from_python(name: str, registry: Registry) -> None:
    groups = make_plan(registry, load_preset(name), Selection())
    long = {f"{g.operator}/{case.implementation}" for g in groups if g.problem.T > 1024 for case in g.cases}
    assert not long & STEPWISE


def test_the_order_is_random_reproducible_and_still_from_short_to_long(registry: Registry) -> None:
    plan = make_plan(registry, load_preset("cpu"), Selection())
    one, again, other = shuffled(plan, 1), shuffled(plan, 1), shuffled(plan, 2)
    assert one == again
    assert one != other
    assert one != plan
    assert [g.problem.T for g in one] == sorted(g.problem.T for g in plan)
    assert sorted(case.case_id for g in one for case in g.cases) == sorted(
        case.case_id for g in plan for case in g.cases
    )
    first = {g.problem_id: [case.implementation for case in g.cases] for g in plan}
    assert any([case.implementation for case in g.cases] != first[g.problem_id] for g in one)


def test_head_dims_alone_leave_the_shapes_of_a_preset(registry: Registry) -> None:
    """B, T and H that vary together in the preset still do."""
    asked = Selection(("retention",), shapes=({"K": 64, "V": 64}, {"K": 128, "V": 32}))
    plan = make_plan(registry, load_preset("fla-shapes"), asked)
    own = {(p.B, p.T, p.H) for p in (group.problem for group in plan)}
    assert own == {(1, 8192, 96), (2, 16384, 16), (4, 2048, 16), (4, 4096, 64), (8, 1024, 8), (8, 2048, 32)}
    assert {(group.problem.K, group.problem.V) for group in plan} == {(64, 64), (128, 32)}
    whole = make_plan(registry, load_preset("fla-shapes"), Selection(("retention",), shapes=({"B": 1, "T": 64},)))
    assert {(p.B, p.T, p.H) for p in (group.problem for group in whole)} == {(1, 64, 1)}
