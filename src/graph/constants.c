/* What passes and lowering ask about constants. */
#include "graph/graph.h"

bool value_scalar(const struct value *value, float *ret) {
    if (!value || !value->constant || value->constant->dtype == DTYPE_STRING ||
        shape_elements(&value->constant->shape) != 1)
        return false;
    *ret = (float)tensor_get_f64(value->constant, 0);
    return true;
}

bool value_is_scalar(const struct value *value, float expected) {
    float actual, tolerance = 1e-6f * (expected < 0 ? -expected : expected);
    return value_scalar(value, &actual) && actual >= expected - tolerance && actual <= expected + tolerance;
}
