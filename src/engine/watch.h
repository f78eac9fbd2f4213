/* Whether a run met NaN or infinities, which oneDNN's kernels do not pass on as ONNX wants: its Relu of NaN
 * is 0. The processor's floating-point flags tell, so that a run without such numbers costs no look at them.
 */
#pragma once
#include <stdbool.h>

#include "tensor/tensor.h"

/* Right before a run: forget what the calling thread's flags tell of other work. Its team has none. */
void watch_begin(void);
/* Right after it: a flag was raised in the calling thread or in another one of its OpenMP team of `threads`.
 * Clears the flags. */
bool watch_end(int threads);
/* All elements of the float32 tensors among `tensors` are finite. Other types are taken to be. */
bool watch_is_finite(const struct tensor *tensors, int count);
