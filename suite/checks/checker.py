"""The check: one implementation's outputs and gradients against the oracle, on inputs it has not seen.

Memory that the implementation allocates is guarded (suite/checks/guarding.py). Elements that it does not write are NaN
and fail; a write outside of a tensor is seen. Inputs must be unchanged afterwards; only a step may change its state.
Outputs are copied as the call returns: what is computed later is not an answer.
"""

from __future__ import annotations

import math
import os
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from importlib.metadata import version

import torch

from suite.checks.calling import GRADIENT, Call, Tensors, draw_cotangents
from suite.checks.guarding import Guard
from suite.checks.inputs import Inputs, draw_inputs, each, fill, flat
from suite.checks.oracle import OUTPUT_DIMS, Reference, Slope, pick_of_shortest, reference
from suite.checks.outputs import whole_shape, wrong_form
from suite.checks.permuting import permutation
from suite.errors import OracleFailed, UsageError
from suite.faults import blamed, classify, place_of_code, returned
from suite.interpreting import fault, install
from suite.interpreting.host_code import interpreted_on
from suite.numerics import EPS, Difference, difference, limit_of, not_finite, rms
from suite.problem import Problem, Value
from suite.registry import Implementation, Operator
from suite.targets import REPRESENTATIVES, is_aimed, target

# Beyond this the gradients are checked at this T, with everything else as in the problem; the record says so.
BACKWARD_T = 2048
# An error in a directional derivative may be so many standard deviations of what errors at their limits make of it.
SLOPE_DEVIATIONS = 5.0
# ... and what float64 leaves of a difference of two sums.
SLOPE_ROUNDING = 1e-6
# A gradient that cancels to far less than the others of the same call (dq of a normalised token that sees only itself)
# is rounding error: errors count against at least this part of the largest one.
GRADIENT_EPS = 1e-4
# ... and what fp32, in which everything is summed, may leave of the largest where a gradient is exactly 0.
ROUNDING = 1e-6


class WrongForm(Exception):
    """An output that is no answer, whatever its elements are."""


@dataclass
class Check:
    """What a check found: `errors` holds each output's and gradient's error by name.

    repeatable: whether a second call on the same inputs agreed bit for bit; None when there was none
    equivariant: whether outputs moved bit for bit with their inputs, when sequences and heads changed places; None
                where nothing could move
    first_s:    seconds of the first call, in which kernels are compiled
    approximation_error: how far the operator is from the one that it approximates, in float64; None where there is none
    raised:     what the implementation or the oracle raised, of which the status was made
    """

    status: str
    reason: str = ""
    errors: dict[str, float] = field(default_factory=dict)
    limit: float = 0.0
    check_T: int | None = None
    repeatable: bool | None = None
    equivariant: bool | None = None
    first_s: float = 0.0
    approximation_error: float | None = None
    raised: Exception | None = field(default=None, repr=False, compare=False)

    @property
    def ok(self) -> bool:
        return self.status == "ok"


class Checker:
    """Checks the implementations of one problem on the same inputs, with the oracle run once.

    pick:  which sequence and head group are compared with the oracle, as in suite.checks.oracle.reference; None: `seed`
    whole: look at long gradients at the problem's own T, along one direction; else in full at a T of BACKWARD_T
    """

    def __init__(
        self,
        operator: Operator,
        problem: Problem,
        *,
        device: str,
        seed: int,
        pick: int | None = None,
        whole: bool = False,
    ) -> None:
        self._long = problem.differentiates and problem.T > BACKWARD_T
        short = self._long and not whole
        self.operator = operator
        self.problem = problem.replace(T=BACKWARD_T) if short else problem
        self.check_T = BACKWARD_T if short else None
        self.seed, self.pick, self.whole = seed, seed if pick is None else pick, whole
        self.device = torch.device(device)
        self.inputs = draw_inputs(operator, self.problem, seed, device)
        self._reference: Reference | None = None
        self._failed: str | None = None
        self._shortest: Reference | None = None
        self._cotangents: Tensors | None = None

    def check(self, implementation: Implementation, tunables: Mapping[str, Value]) -> Check:
        """Run one implementation and compare; what it raises becomes a status."""
        call = self._call(implementation, tunables)
        start = time.perf_counter()
        try:
            with Guard() as guard:
                produced = self._produce(call)
            first_s = time.perf_counter() - start
            if wrong := guard.broken() or self._changed(call.inputs) or self._cotangents_changed():
                return Check("incorrect", wrong, check_T=self.check_T, first_s=first_s)
            check = self._compare(produced)
            moved = self._moved(implementation, tunables) if check.ok else None
            if moved is not None:
                self._compare_moved(check, produced, moved)
            # What agrees bit for bit from other places has been repeated.
            again = moved if check.equivariant else None
            again = again or self._produce(self._call(implementation, tunables))
        except WrongForm as error:
            return Check("incorrect", str(error), check_T=self.check_T)
        except Exception as error:
            status, reason = classify(error, implementation)
            return Check(status, reason, check_T=self.check_T, raised=error)
        check.first_s = first_s
        check.repeatable = _equal(produced, again)
        return check

    def produce(self, implementation: Implementation, tunables: Mapping[str, Value]) -> Tensors:
        """What one implementation makes of the inputs, in guarded memory. What it raises is raised; WrongForm, also
        where it writes what it must not."""
        call = self._call(implementation, tunables)
        with Guard() as guard:
            produced = self._produce(call)
        if wrong := guard.broken() or self._changed(call.inputs) or self._cotangents_changed():
            raise WrongForm(wrong)
        return produced

    def draw_flowing_in(self, implementation: Implementation, tunables: Mapping[str, Value]) -> None:
        """Draw the gradients that flow into a backward pass, which takes a forward one. Raises what `produce` does."""
        if self.problem.differentiates:
            with Guard():
                self._draw_cotangents(self._call(implementation, tunables))

    def judge_produced(self, implementation: Implementation, produced: Tensors) -> Check:
        """Judge what `produce` gave."""
        try:
            return self._compare(produced)
        except Exception as error:
            return Check(*classify(error, implementation), check_T=self.check_T, raised=error)

    def judge(self, call: Call, produced: Tensors) -> Check:
        """Judge what a timed call returned last. Its inputs held these values; `produced` was copied as it returned."""
        if self.problem.differentiates:
            self._cotangents = self._cotangents or call.cotangents
        try:
            return self._compare(produced)
        except Exception as error:
            return Check(*classify(error, call.implementation), raised=error)

    def judge_moved(self, check: Check, call: Call, produced: Tensors) -> None:
        """Judge a check of a timed call also by a call on the same memory, its sequences and heads in other places.

        Packed sequences stay: libraries keep what they derived from `cu_seqlens` by the tensor, which is the same one.
        """
        places = permutation(self.operator, call.implementation, self.problem, self.pick, packed=False)
        if places is None or not check.ok:
            return
        moved = places.inputs(self.inputs)
        other = replace(call, cotangents=call.cotangents and places.outputs(call.cotangents), _graph=None)
        if self.problem.pass_ == "bwd":
            other.problem = self.problem.replace(pass_="fwdbwd")
        try:
            fill(call.inputs, moved)
            found = self._formed(other.run())
            if self.problem.pass_ == "decode":
                found |= flat({"state": call.inputs["state"]})
            self._compare_moved(check, produced, places.restored(found))
        except WrongForm as error:
            check.status, check.reason = "incorrect", str(error)
        except Exception as error:
            check.status, check.reason = classify(error, call.implementation)
            check.raised = error
        finally:
            fill(call.inputs, self.inputs)

    def evidence(self, produced: Tensors) -> tuple[Tensors, dict[str, list[int]]]:
        """What of outputs and gradients is compared, and the shapes of the whole, for another process to judge."""
        expected = self.reference()
        along = expected.slope.direction if expected.slope else {}
        names = [*expected.values, *(GRADIENT + name for name in along)]
        shown = {name: produced[name] for name in dict.fromkeys(names) if name in produced}
        return (
            {name: expected.cut(name, x) if self._is_cut(name) else x for name, x in shown.items()},
            {name: list(x.shape) for name, x in shown.items()},
        )

    def judge_evidence(self, parts: Tensors, shapes: Mapping[str, list[int]], seed: int) -> Check:
        """Judge what `evidence` gave in another process. Raises OracleFailed.

        seed: of the call's cotangents
        """
        if self.problem.differentiates:
            outputs = {
                name: torch.empty(shapes[name], dtype=x.dtype, device=self.device)
                for name, x in parts.items()
                if name.partition("[")[0] in OUTPUT_DIMS
            }
            self._cotangents = draw_cotangents(outputs, seed)
        expected = self.reference()
        values = expected.values
        if wrong := {n: w for n in values if n in shapes and (w := self._misshapen(n, shapes[n], values[n]))}:
            return Check("incorrect", "; ".join(f"{name}: {why}" for name, why in wrong.items()))
        of_whole = expected.cut

        def cut(name: str, x: torch.Tensor) -> torch.Tensor:
            return x if self._is_cut(name) else of_whole(name, x)

        self._reference, self._shortest = replace(expected, cut=cut, whole=False), None
        try:
            return self._compare({name: x.to(self.device) for name, x in parts.items()})
        finally:
            self._reference = expected

    def _is_cut(self, name: str) -> bool:
        """Whether evidence has only the compared part: a parameter's gradient is small, and is judged by its whole."""
        return bool({"B", "N", "T"} & set(self.reference().dims(name).split()))

    def changed(self, call: Call) -> str:
        """Which input or cotangent a timed call wrote into, as a reason; empty when none."""
        return self._changed(call.inputs) or self._cotangents_changed(call)

    def _moved(self, implementation: Implementation, tunables: Mapping[str, Value]) -> Tensors | None:
        """What a call produces from sequences and heads in other places, put back; None where nothing may move."""
        places = permutation(self.operator, implementation, self.problem, self.seed)
        if places is None:
            return None
        call = self._call(implementation, tunables, places.inputs(self.inputs))
        call.cotangents = self._cotangents and places.outputs(self._cotangents)
        return places.restored(self._produce(call))

    def _compare_moved(self, check: Check, produced: Tensors, moved: Tensors) -> None:
        """Judge a check by what came from other places too."""
        check.equivariant = _equal(produced, moved)
        if check.equivariant:
            return
        wrong = []
        largest = max((rms(x.double()) for name, x in produced.items() if name.startswith(GRADIENT)), default=0.0)
        for name, x in produced.items():
            least = GRADIENT_EPS * largest if name.startswith(GRADIENT) else EPS
            out = moved.get(name)
            if not self._filled(name) and out is not None:
                x, out = x.nan_to_num(), out.nan_to_num()
            found = difference(out, x, self._token_dim(name), least, name.startswith(GRADIENT))
            if found.exceeds(self._limit(name)):
                wrong.append(found.describe(name, self._limit(name)))
        if wrong:
            check.status = "incorrect"
            check.reason = f"with its sequences and heads in other places: {'; '.join(wrong)}"

    def _changed(self, inputs: Inputs) -> str:
        """Which input a call wrote into although it must not, as a reason; empty when none."""
        for name, before in flat(self.inputs).items():
            writes = self.problem.pass_ == "decode" and name.partition("[")[0] == "state"
            if not writes and not torch.equal(before, flat(inputs)[name]):
                return f"it changes its input {name}"
        return ""

    def _call(
        self, implementation: Implementation, tunables: Mapping[str, Value], inputs: Inputs | None = None
    ) -> Call:
        given = _fresh(self.inputs if inputs is None else inputs)
        return Call(self.operator, implementation, self.problem, tunables, given, self.seed)

    def _cotangents_changed(self, call: Call | None = None) -> str:
        """Which gradient that flows in a backward pass wrote into, as a reason; the checker's own are then drawn anew.

        call: whose cotangents are looked at; None: those that all calls of a check share
        """
        held = self._cotangents if call is None else call.cotangents
        if not held:
            return ""
        drawn = draw_cotangents(held, self.seed if call is None else call.seed)
        changed = next((name for name, x in held.items() if not torch.equal(x, drawn[name])), None)
        if changed is not None and call is None:
            self._cotangents = drawn
        return "" if changed is None else f"its backward pass changes the gradient of {changed} that flows in"

    def _produce(self, call: Call) -> Tensors:
        if self.problem.differentiates:
            call.problem = self.problem.replace(pass_="fwdbwd")
            self._draw_cotangents(call)
            call.cotangents = call.cotangents or self._cotangents
        places = _addresses(call)
        produced = self._formed(call.run())
        if places != _addresses(call):
            raise WrongForm("its step gives the state other memory; it must update the state in place")
        if any(x.is_cuda for x in produced.values()):
            # What goes wrong on the device is this call's: it would else be met in the oracle, or by the next case.
            torch.cuda.synchronize()
        if self.problem.pass_ == "decode":
            produced = produced | flat({"state": call.inputs["state"]})
        return produced

    def _draw_cotangents(self, call: Call) -> None:
        if self._cotangents is None:
            outputs = call.forward()
            self._formed(outputs)
            self._cotangents = draw_cotangents(outputs, self.seed)

    def _formed(self, produced: Tensors) -> Tensors:
        """Copies of outputs, taken at once. Raises WrongForm for what is no answer whatever its elements are."""
        if wrong := wrong_form(self.problem, produced, self.device):
            raise WrongForm(wrong)
        return copied(produced)

    def reference(self) -> Reference:
        """The oracle's values, computed when first asked for.

        Raises OracleFailed, for every implementation alike: an oracle that failed once is not asked again.
        """
        if self._failed is not None:
            raise OracleFailed(self._failed)
        if self._reference is None:
            try:
                self._reference = self._answered()
            except Exception as error:
                self._failed = f"the oracle failed: {classify(error)[1]}"
                raise OracleFailed(self._failed) from error
        return self._reference

    def _answered(self) -> Reference:
        op = self.operator
        place = place_of_code(op.oracle, op.place)
        with blamed("oracle", op.name, place):
            along = self.pick if self._long and self.whole else None
            found = reference(op, self.problem, self.inputs, self._cotangents, self.pick, along)
            if (pick := pick_of_shortest(op, self.problem, self.inputs, self.pick)) is not None:
                self._shortest = reference(op, self.problem, self.inputs, self._cotangents, pick, along)
        o = found.values.get("o")
        if o is None or bool(o.isnan().any()):
            raise returned("oracle", op.name, place, o, "an o, a tensor without NaN, first")
        for name, x in found.values.items():
            if bool(x.isnan().any()) or (name.startswith(GRADIENT) and not bool(x.isfinite().all())):
                raise returned("oracle", op.name, place, x, f"values whose {name} is finite")
        return found

    def _compare(self, produced: Tensors) -> Check:
        expected = self.reference()
        found = self._differences(produced, expected)
        if expected.slope is not None:
            found["gradient"] = self._off_slope(produced, expected, expected.slope)
        if self._shortest is not None:
            sizes = {name: rms(x) for name, x in expected.values.items() if name.startswith(GRADIENT)}
            for name, other in self._differences(produced, self._shortest, sizes).items():
                if other.exceeds(self._limit(name)) and not found[name].exceeds(self._limit(name)):
                    why = other.describe(name, self._limit(name)).partition(": ")[2]
                    found[name] = replace(other, error=math.inf, why=f"in the shortest sequence: {why}")
        found |= self._without_tokens(produced) | self._unused(produced, expected)
        limits = {name: self._limit(name) for name in found}
        wrong = [d.describe(name, limits[name]) for name, d in found.items() if d.exceeds(limits[name])]
        errors = {name: d.error for name, d in found.items()}
        return Check(
            "incorrect" if wrong else "ok",
            "; ".join(wrong),
            errors,
            limits["o"],
            self.check_T,
            approximation_error=expected.approximation,
        )

    def _differences(
        self, produced: Tensors, expected: Reference, sizes: Mapping[str, float] | None = None
    ) -> dict[str, Difference]:
        """How far what was produced is from one slice's values, by name.

        sizes: what errors count against at least: of one token, a gate's gradient may be all rounding
        """
        found: dict[str, Difference] = {}
        largest = max((rms(x) for n, x in expected.values.items() if n.startswith(GRADIENT)), default=0.0)
        for name, value in expected.values.items():
            out = produced.get(name)
            token_dim = self._token_dim(name)
            if out is not None and expected.whole and (wrong := self._misshapen(name, list(out.shape), value)):
                found[name] = Difference(math.inf, why=wrong)
                continue
            cut = None if out is None else expected.cut(name, out)
            floor = max(GRADIENT_EPS, ROUNDING / self._limit(name)) * largest
            least = max(floor, expected.typical.get(name, 0.0)) if name.startswith(GRADIENT) else EPS
            least = max(least, (sizes or {}).get(name, 0.0))
            found[name] = difference(cut, value, token_dim, least, name.startswith(GRADIENT))
            if not found[name].why and out is not None and self._filled(name) and (why := not_finite(out)):
                found[name] = Difference(math.inf, why=f"{why}, beside the sequence and heads that are compared")
        return found

    def _unused(self, produced: Tensors, expected: Reference) -> dict[str, Difference]:
        """What is wrong with gradients of inputs that the mathematics does not use: they are 0, or missing."""
        known = expected.slope.direction if expected.slope else expected.values
        names = [GRADIENT + name for name in flat(self.inputs)]
        others = [n for n in names if n in produced and n not in known and n.removeprefix(GRADIENT) not in known]
        largest = max((rms(x) for n, x in expected.values.items() if n.startswith(GRADIENT)), default=0.0)
        return {
            name: Difference(math.inf, why="is not 0, and the oracle does not use this input")
            for name in others
            if not bool(produced[name].isfinite().all()) or rms(produced[name].double()) > GRADIENT_EPS * largest
        }

    def _misshapen(self, name: str, shape: list[int], value: torch.Tensor) -> str:
        """What is wrong with the shape of a whole output, of which `value` is the oracle's part."""
        right = whole_shape(self.problem, self.reference().dims(name), value.shape)
        return "" if shape == right else f"shape {shape}, not {right}"

    def _off_slope(self, produced: Tensors, expected: Reference, slope: Slope) -> Difference:
        """How far gradients are from a directional derivative, over what errors at their limits would make of it.

        The error of a gradient whose direction is random is its norm times the direction's, in one standard deviation.
        """
        made = {name: produced.get(GRADIENT + name) for name in slope.direction}
        if missing := [name for name, x in made.items() if x is None and bool(slope.direction[name].any())]:
            return Difference(math.inf, why=f"d{missing[0]} is missing")
        cuts = {name: expected.cut(GRADIENT + name, x).double() for name, x in made.items() if x is not None}
        if wrong := next((name for name, x in cuts.items() if x.shape != slope.direction[name].shape), None):
            return Difference(math.inf, why=f"d{wrong} has shape {list(cuts[wrong].shape)}")
        for name, x in made.items():
            if x is not None and (why := not_finite(x)):
                return Difference(math.inf, why=f"d{name}: {why}")
        largest = max((rms(x) for x in cuts.values()), default=0.0)
        variance, value = 0.0, 0.0
        for name, x in cuts.items():
            along, limit = slope.direction[name], self._limit(GRADIENT + name)
            value += float((x * along).sum())
            size = max(rms(x), max(GRADIENT_EPS, ROUNDING / limit) * largest)
            variance += (limit * size) ** 2 * float(along.square().sum())
        apart = abs(value - slope.value)
        allowed = SLOPE_DEVIATIONS * math.sqrt(variance) + SLOPE_ROUNDING * abs(slope.value)
        if apart <= allowed:
            return Difference(0.0)
        why = f"along a direction, at T = {self.problem.T}: {value:.4g}, not {slope.value:.4g} (within {allowed:.1e})"
        return Difference(math.inf, why=why)

    def _without_tokens(self, produced: Tensors) -> dict[str, Difference]:
        """What is wrong with the states of sequences without tokens, by name: they pass through, bit for bit."""
        empty, wrong = list(self.problem.empty) if self.reference().whole else [], {}
        given, ends = flat(self.inputs), self._cotangents or {}
        for name, start in given.items():
            if not empty or name.partition("[")[0] != "initial_state":
                continue
            end = name.replace("initial", "final")
            for out, expected in ((end, start), (GRADIENT + name, ends.get(end))):
                made = produced.get(out)
                if made is None or expected is None or not made.ndim:
                    continue
                passed = made.shape == expected.shape and torch.equal(made[empty], expected[empty].to(made.dtype))
                if not passed:
                    why = f"sequences {', '.join(map(str, empty))} have no tokens, and what goes in does not come out"
                    wrong[out] = Difference(math.inf, why=why)
        return wrong

    def _filled(self, name: str) -> bool:
        """Whether all of an output must be finite: a cache given to a step may hold anything beyond its tokens."""
        given = flat(self.inputs).get(name)
        return given is None or bool(given.isfinite().all())

    def _token_dim(self, name: str) -> int | None:
        """Which dimension of an output or gradient counts tokens, so that a single wrong one is seen."""
        if name == "o":
            return 1
        inputs = [known for known in self.inputs if name == GRADIENT + known]
        dims = str(self.operator.dims_of(inputs[0])).split() if inputs else []
        return dims.index("T") if "T" in dims else None

    def _limit(self, name: str) -> float:
        own = limit_of(self.problem.dtype, name, self.operator.limits)
        # A state is held to the precision in which it is kept, and so is what a step reads out of it.
        kept = "state" in name or self.problem.pass_ == "decode"
        return max(own, limit_of(self.problem.state_dtype, name)) if kept else own


def _equal(some: Tensors, others: Tensors) -> bool:
    """Whether tensors agree bit for bit, by name; a cache may hold NaN beyond its tokens."""
    return all(
        name in others
        and x.shape == others[name].shape
        and torch.allclose(x, others[name].to(x.dtype), rtol=0, atol=0, equal_nan=True)
        for name, x in some.items()
    )


def copied(tensors: Tensors) -> Tensors:
    """Copies without a graph; what another thread or stream writes later is not in them."""
    return {name: x.detach().clone() for name, x in tensors.items()}


def _addresses(call: Call) -> list[int]:
    """Where the state of a step lies."""
    return [x.data_ptr() for x in flat({"state": call.inputs.get("state")}).values()]


def _fresh(inputs: Inputs) -> Inputs:
    # An implementation may write where it should not, and a step must: each gets its own copy.
    return each(lambda x: x.detach().clone().requires_grad_(x.requires_grad), inputs)


def interpreting() -> bool:
    """Whether Triton's interpreter is on in this process."""
    return os.environ.get("TRITON_INTERPRET") == "1"


@contextmanager
def device_context(device: str) -> Iterator[str]:
    """The torch device for `cuda`, `cpu` or `interpret`; the interpreter answers as an sm_90 unless aimed otherwise.

    It computes bfloat16 and TF32 as a GPU does from then on.
    """
    if device == "interpret":
        if not interpreting():
            raise UsageError("the interpreter must be on before Triton is imported; set TRITON_INTERPRET=1")
        install()
        with interpreted_on(target() if is_aimed() else REPRESENTATIVES["sm_90"]):
            yield "cpu"
        return
    if device == "cuda" and not torch.cuda.is_available():
        raise UsageError("--device cuda: no CUDA device here; use --device cpu, or interpret for Triton's interpreter")
    yield device


def refusal(
    operator: Operator, implementation: Implementation, problem: Problem, tunables: Mapping[str, Value], device: str
) -> str | None:
    """Why a case cannot run on a device, or None: known before anything is called."""
    if problem.pass_ not in operator.passes:
        return f"{operator.name} has no {problem.pass_} pass"
    if problem.initial_state and not operator.stateful:
        return f"{operator.name} has no state to start from"
    if reason := operator.refused(problem):
        return reason
    if reason := implementation.runs_elsewhere(device):
        return reason
    if device == "interpret" and (reason := _not_interpreted(problem)):
        return reason
    return implementation.unsupported(problem, tunables, operator.axes)


def _not_interpreted(problem: Problem) -> str | None:
    triton, numpy = (version(name).split(".")[:2] for name in ("triton", "numpy"))
    if triton == ["3", "6"] and [int(part) for part in numpy] >= [2, 4]:
        return "Triton 3.6's interpreter fails under numpy 2.4 and later: pip install 'numpy<2.4'"
    # Another process than the one that checks has no interpreter to ask.
    dtypes = dict.fromkeys((problem.dtype, problem.state_dtype))
    return next((wrong for dtype in dtypes if (wrong := fault(dtype))), None) if interpreting() else None


def check_case(
    operator: Operator,
    implementation: str,
    problem: Problem,
    tunables: Mapping[str, Value] | None = None,
    *,
    device: str = "cpu",
    seed: int = 0,
) -> Check:
    """Check one implementation on one problem: outputs, final state and, where it differentiates, all gradients.

    Raises UsageError for an unknown implementation or axis, or when the device is not there.
    """
    problem = operator.complete(problem)
    if implementation not in operator.implementations:
        from suite.errors import unknown

        raise unknown(f"implementation of {operator.name}", implementation, operator.implementations)
    made = operator.implementations[implementation]
    chosen = {**made.default_tunables, **(tunables or {})}
    if reason := refusal(operator, made, problem, chosen, device):
        return Check("unsupported", reason)
    with device_context(device) as torch_device:
        # What is supported may depend on the GPU that the interpreter answers for.
        if reason := refusal(operator, made, problem, chosen, device):
            return Check("unsupported", reason)
        return Checker(operator, problem, device=torch_device, seed=seed).check(made, chosen)
