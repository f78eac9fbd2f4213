#include "engine/watch.h"

#include <string.h>

#include "base/float_flags.h"

void watch_begin(void) {
    float_flags_take();
}

bool watch_end(int threads) {
    int raised = 0;

    if (threads <= 1)
        return float_flags_take();
#pragma omp parallel num_threads(threads) reduction(| : raised)
    raised |= float_flags_take();
    return raised != 0;
}

/* An exponent of all ones; in integers, which raise no flag. */
static bool are_finite(const float *data, int64_t count) {
    uint32_t found = 0;

    for (int64_t i = 0; i < count; i++) {
        uint32_t bits;
        memcpy(&bits, &data[i], sizeof bits);
        found |= (bits & 0x7f800000u) == 0x7f800000u;
    }
    return !found;
}

bool watch_is_finite(const struct tensor *tensors, int count) {
    for (int i = 0; i < count; i++)
        if (tensors[i].dtype == DTYPE_F32 && tensors[i].data &&
            !are_finite(tensors[i].data, shape_elements(&tensors[i].shape)))
            return false;
    return true;
}
