"""The workspace as a table: rows of numbers by stage, in a shape that the compiler knows.

``x = stage(ws, 0)`` and ``ahead = stage(ws, 1)`` are two views of the same memory: ``x[P, k]`` is
the position of stage k and ``ahead[P, k]`` that of stage k + 1. A constant shape lets the compiler
prove that rows do not overlap, and a second view (not ``k + 1`` as an index) that a loop over the
stages reads them side by side: only then does the loop become SIMD code.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from numba.core import cgutils, types
from numba.extending import intrinsic

from cartpole.messages import FloatArray
from cartpole.optimizer.compiled.layout import ROWS, STRIDE

if TYPE_CHECKING:

    def stage(ws: FloatArray, offset: int) -> FloatArray:
        """(ROWS + 1, STRIDE) view of a workspace, shifted by ``offset`` stages (0 or 1)."""

else:

    @intrinsic
    def stage(typing_context: Any, ws: Any, offset: Any) -> Any:
        """(ROWS + 1, STRIDE) view of a workspace, shifted by ``offset`` stages (0 or 1).

        The view does not keep the workspace alive: it is for use inside a kernel that was given it.
        """
        table = types.Array(types.float64, 2, "C")

        def build(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            flat = context.make_array(signature.args[0])(context, builder, arguments[0])
            view = context.make_array(table)(context, builder)
            number = context.get_constant
            size = 8
            context.populate_array(
                view,
                data=builder.gep(flat.data, [arguments[1]]),
                shape=cgutils.pack_array(
                    builder, [number(types.intp, ROWS + 1), number(types.intp, STRIDE)]
                ),
                strides=cgutils.pack_array(
                    builder, [number(types.intp, size * STRIDE), number(types.intp, size)]
                ),
                itemsize=number(types.intp, size),
                meminfo=None,
            )
            return view._getvalue()

        return table(ws, types.intp), build
