"""The plan of a step: its products, found by tracing the equations once, and the choices that depend on sizes."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from rnn_jax.base import Array, State
from rnn_jax.cells.equations import Dense, DenseCall, Precision, apply_equations, honours_axis
from rnn_jax.implementations.problem import Problem

# The source of the vector of a product: the number of a leaf of the state, or one of these.
X = -1  # the input of the step
VALUE = -2  # a value computed in the step

# On the CPU, a product of few rows with a large matrix is up to twice as fast with the batch as the last axis of vector
# and result; elementwise work is slower (benchmarks/RESULTS.md, layout). Both layouts compute the same numbers.
LARGE_MATRICES = 1 << 20  # numbers in all matrices of the cell together
MOST_ROWS = 128

# Several vectors are joined into one unless that is more than this many times as long as the result: then the copy
# costs more than the sum of several products (benchmarks/RESULTS.md, joining).
LONGEST_JOINED = 2

# A joined vector is saved for the gradient unless the input is more than this many times as long as the rest: then its
# copies cost more than a product for each matrix.
LONGEST_SAVED_INPUT = 2

# From this many numbers on, the results of the products of all steps do not fit into a CPU's cache, and the backward
# loop writes their cotangents over them: two LSTM layers at 128,28,28,128 take 0.8 of the time, small cells up to 1.2.
MANY_RESULTS = 1 << 19

# A product of few vectors takes as long as its matrix takes to read. So on the CPU, a loop without a gradient over few
# sequences multiplies the inputs of some steps at once, with the features last. On one core of an AMD EPYC with
# AVX-512, an LSTM of 1024 units and inputs takes 0.5, 0.8 and 0.85 of the time so for 4, 16 and 32 sequences, one of
# 256 units and inputs 0.6, 0.9 and 0.95 for 2, 16 and 32, and one of 128 units with 64 inputs 0.75 for one sequence.
# 64 sequences and smaller matrices gain nothing (64,30,512,512; 16,100,128,128). Each step of a chunk adds 0.05 s of
# compilation.
CHUNK_SIZE = 8
SMALL_MATRICES = 1 << 16  # for one sequence: numbers in all matrices of the cell together
SMALL_INPUT_MATRICES = 1 << 17  # for more: numbers in the matrices of the inputs
MOST_CHUNKED_ROWS = 32


class Term(NamedTuple):
    """A product in a step: the source of its vector, and the number of its matrix among the leaves of params."""

    source: int
    matrix: int


class Call(NamedTuple):
    """One use of `Dense` in a step: its terms, the number of the bias among the leaves of params, and their columns.

    Joined, the terms are computed as one product, z = [v_1 v_2 ... 1] [w_1; w_2; ...; b], and so are their gradients,
    unless the input is wide; else one by one.
    """

    terms: tuple[Term, ...]
    bias: int | None
    columns: slice
    num_columns: int
    joined: bool
    wide_input: bool

    @property
    def sources(self) -> tuple[int, ...]:
        """The source of the vector of each product."""
        return (VALUE,) if self.joined else tuple(term.source for term in self.terms)

    @property
    def joins_gradients(self) -> bool:
        """True if the gradients are one product with the joined vector."""
        return self.joined and not self.wide_input

    @property
    def gradient_sources(self) -> tuple[int, ...]:
        """The source of the vector of each product after the backward loop."""
        return (VALUE,) if self.joins_gradients else tuple(term.source for term in self.terms)


class Plan(NamedTuple):
    """Everything that is static in the loops.

    Attributes:
      cell: the cell.
      tree: the structure of its parameters.
      calls: the uses of `Dense` in a step, in order.
      others: the numbers of the leaves of params that the step uses outside of `Dense`.
      uses_x: True if it uses its input outside of `Dense`.
      reverse: True if the loop starts at the last step.
      precision: of the products, see `multiply`.
      axis: of the features, see `Dense`.
      in_place: True to write the cotangents dz over z in the backward loop.
      chunk_size: steps whose inputs are multiplied at once where no gradient is taken.
    """

    cell: Any
    tree: Any
    calls: tuple[Call, ...]
    others: tuple[int, ...]
    uses_x: bool
    reverse: bool
    precision: Precision = None
    axis: int = -1
    in_place: bool = False
    chunk_size: int = 1

    def apart(self) -> "Plan":
        """Returns the plan with no terms joined."""
        return self._replace(calls=tuple(call._replace(joined=False) for call in self.calls))


def make_plan(problem: Problem, longest_joined: float = LONGEST_JOINED) -> Plan:
    """Traces the equations once, on shapes, to find their products and the parameters used outside of them."""
    cell, state = problem.cell, problem.state
    leaves, tree = jax.tree.flatten(problem.params)
    calls: list[Call] = []

    def trace(x: Array, leaves: list[Array], state: State, noise: Any) -> Any:
        state_leaves = jax.tree.leaves(state)

        def number_of(array: Array) -> int:
            for number, leaf in enumerate(leaves):
                if leaf is array:
                    return number
            raise ValueError(
                f"{cell} gives dense an array of shape {array.shape} that is not one of its parameters as it stands: "
                "take columns of a parameter with columns=, or make this one a parameter"
            )

        def source(v: Array) -> int:
            return X if v is x else next((n for n, leaf in enumerate(state_leaves) if leaf is v), VALUE)

        def product(call: DenseCall) -> tuple[Array, ...]:
            terms = tuple(Term(source(v), number_of(w)) for v, w in call.terms)
            bias = None if call.bias is None else number_of(call.bias)
            columns = len(range(call.terms[0][1].shape[1])[call.columns])
            rows = sum(len(w) for _, w in call.terms)
            input_rows = sum(len(w) for (_, w), term in zip(call.terms, terms, strict=True) if term.source == X)
            joined = len(terms) > 1 and rows <= longest_joined * columns
            wide_input = input_rows > LONGEST_SAVED_INPUT * (rows - input_rows)
            calls.append(Call(terms, bias, call.columns, columns, joined, wide_input))
            # Zeros, so that parameters used in products do not count as used outside of them.
            return jax.tree.map(lambda part: jnp.zeros(part.shape, part.dtype), jax.eval_shape(call.plain))

        return apply_equations(cell, jax.tree.unflatten(tree, leaves), state, x, Dense(product), noise)

    x, first_noise = jax.tree.map(lambda a: jax.ShapeDtypeStruct(a.shape[1:], a.dtype), (problem.xs, problem.noise))
    jaxpr = jax.make_jaxpr(trace)(x, leaves, state, first_noise).jaxpr
    used = {id(v) for v in [*jaxpr.outvars, *(v for equation in jaxpr.eqns for v in equation.invars)]}
    x_used, *leaves_used = [id(v) in used for v in jaxpr.invars[: 1 + len(leaves)]]
    others = tuple(n for n, leaf_used in enumerate(leaves_used) if leaf_used)
    return Plan(cell, tree, tuple(calls), others, x_used, problem.reverse, problem.precision)


def choose_axis(plan: Plan, leaves: list[Array], rows: int, large_matrices: int = LARGE_MATRICES) -> int:
    """Returns the axis of the features inside the loops, see `Dense`; -1 for a symbolic number of rows."""
    matrices = _matrix_numbers(plan)
    in_calls = matrices | {call.bias for call in plan.calls}
    large = sum(leaves[n].size for n in matrices) >= large_matrices
    on_cpu = jax.default_backend() == "cpu"
    few = isinstance(rows, int) and 1 < rows <= MOST_ROWS
    possible = honours_axis(plan.cell) and not in_calls & set(plan.others)
    return 0 if on_cpu and large and few and possible else -1


def has_many_results(plan: Plan, rows: int, many_results: int = MANY_RESULTS) -> bool:
    """Returns True if the products of all steps have that many results on the CPU; False for symbolic rows."""
    on_cpu = jax.default_backend() == "cpu"
    return on_cpu and isinstance(rows, int) and rows * sum(call.num_columns for call in plan.calls) >= many_results


def choose_chunk_size(plan: Plan, leaves: list[Array], rows: int, num_steps: int) -> int:
    """Returns the number of steps whose inputs are multiplied at once; 1 for symbolic sizes."""
    symbolic = not (isinstance(rows, int) and isinstance(num_steps, int))
    if symbolic or num_steps < CHUNK_SIZE or jax.default_backend() != "cpu":
        return 1
    matrices = _matrix_numbers(plan)
    of_inputs = {term.matrix for call in plan.calls for term in call.terms if term.source == X}
    large = sum(leaves[n].size for n in matrices) >= SMALL_MATRICES
    large_inputs = sum(leaves[n].size for n in of_inputs) >= SMALL_INPUT_MATRICES
    return CHUNK_SIZE if (rows == 1 and large) or (1 < rows <= MOST_CHUNKED_ROWS and large_inputs) else 1


def _matrix_numbers(plan: Plan) -> set[int]:
    """Returns the numbers of the matrices of all products among the leaves of params."""
    return {term.matrix for call in plan.calls for term in call.terms}
