/* Primitives bound to memory, and run. */
#include <stdlib.h>
#include <threads.h>

#include "plan/dnnl_pool.h"

#define EXECUTION_ARGUMENTS (ARGUMENT_COUNT + 2) /* and scales, and a zero point */

struct execution {
    const struct primitive *primitive;
    int count;
    dnnl_exec_arg_t arguments[EXECUTION_ARGUMENTS];
    dnnl_memory_t by_role[ARGUMENT_COUNT];
};

/* A stream belongs to one thread, and is destroyed when the thread ends. */
static tss_t stream_key;
static once_flag stream_once = ONCE_FLAG_INIT;

static void stream_destroy(void *stream) {
    dnnl_stream_destroy(stream);
}

static void stream_key_create(void) {
    tss_create(&stream_key, stream_destroy);
}

static dnnl_stream_t stream_of_thread(void) {
    call_once(&stream_once, stream_key_create);

    dnnl_stream_t stream = tss_get(stream_key);
    if (!stream && dnnl_stream_create(&stream, dnnl_processor(), dnnl_stream_default_flags) == dnnl_success)
        tss_set(stream_key, stream);
    return stream;
}

static int argument_number(const struct primitive *primitive, enum primitive_argument argument) {
    if (primitive->is_gradient && argument == ARGUMENT_SOURCE_1)
        return DNNL_ARG_DIFF_DST;
    if (primitive->is_gradient && argument == ARGUMENT_DESTINATION)
        return DNNL_ARG_DIFF_WEIGHTS;

    switch (argument) {
    case ARGUMENT_SOURCE:
        return DNNL_ARG_SRC; /* DNNL_ARG_FROM, too */
    case ARGUMENT_SOURCE_1:
        return DNNL_ARG_SRC_1;
    case ARGUMENT_WEIGHTS:
        return DNNL_ARG_WEIGHTS;
    case ARGUMENT_BIAS:
        return DNNL_ARG_BIAS;
    case ARGUMENT_DESTINATION:
        return DNNL_ARG_DST; /* DNNL_ARG_TO, too */
    case ARGUMENT_SCRATCHPAD:
        return DNNL_ARG_SCRATCHPAD;
    default:
        return DNNL_ARG_ATTR_MULTIPLE_POST_OP((int)argument - ARGUMENT_OPERAND) | DNNL_ARG_SRC_1;
    }
}

static bool execution_add(struct execution *execution, int number, md_const md, void *pointer) {
    dnnl_memory_t memory;
    if (dnnl_memory_create(&memory, md, dnnl_processor(), pointer) != dnnl_success)
        return false;
    execution->arguments[execution->count++] = (dnnl_exec_arg_t){number, memory};
    return true;
}

#if DNNL_VERSION_MAJOR >= 3
/* [count] at `pointer`. */
static bool execution_add_vector(struct execution *execution, int number, dnnl_data_type_t dtype,
                                 int64_t count, void *pointer) {
    dnnl_dims_t dims = {count}, strides = {1};
    md_handle md = md_create_strided(1, dims, dtype, strides);

    bool done = md && execution_add(execution, number, md, pointer);
    md_destroy(md);
    return done;
}
#endif

/* Scales and zero points, which generation 3 takes as memory. */
static bool execution_add_quantization(struct execution *execution) {
#if DNNL_VERSION_MAJOR >= 3
    struct primitive *primitive = (struct primitive *)execution->primitive;

    if (primitive->zero_point && !execution_add_vector(execution, DNNL_ARG_ATTR_ZERO_POINTS | DNNL_ARG_SRC,
                                                       dnnl_s32, 1, &primitive->zero_point))
        return false;
    if (primitive->scales)
        return execution_add_vector(execution, DNNL_ARG_ATTR_SCALES | DNNL_ARG_WEIGHTS, dnnl_f32,
                                    primitive->scale_count, primitive->scales);
#endif
    (void)execution;
    return true;
}

static bool execution_add_layouts(struct execution *execution, const struct primitive *primitive) {
    for (int i = 0; i < ARGUMENT_COUNT; i++) {
        const struct layout *layout = primitive->layouts[i];
        if (!layout || layout_bytes(layout) == 0)
            continue;
        if (!execution_add(execution, argument_number(primitive, i), layout_md(layout), DNNL_MEMORY_NONE))
            return false;
        execution->by_role[i] = execution->arguments[execution->count - 1].memory;
    }
    return true;
}

struct execution *execution_create(const struct primitive *primitive, struct error *error) {
    struct execution *execution = calloc(1, sizeof *execution);

    if (execution) {
        execution->primitive = primitive;
        if (execution_add_layouts(execution, primitive) && execution_add_quantization(execution))
            return execution;
    }

    execution_free(execution);
    error_set(error, ERROR_MEMORY, "not enough memory to bind a primitive");
    return NULL;
}

void execution_free(struct execution *execution) {
    if (!execution)
        return;

    for (int i = 0; i < execution->count; i++)
        dnnl_memory_destroy(execution->arguments[i].memory);
    free(execution);
}

void execution_set(struct execution *execution, enum primitive_argument argument, const void *pointer) {
    if (execution->by_role[argument])
        dnnl_memory_set_data_handle(execution->by_role[argument], (void *)pointer);
}

bool execution_run(struct execution *execution, struct error *error) {
    dnnl_stream_t stream = stream_of_thread();
    dnnl_status_t status = stream ? dnnl_primitive_execute(execution->primitive->handle, stream,
                                                           execution->count, execution->arguments)
                                  : dnnl_out_of_memory;

    if (status == dnnl_success)
        status = dnnl_stream_wait(stream);
    if (status != dnnl_success)
        return error_set(error, ERROR_INTERNAL, "oneDNN's %s failed (status %d)",
                         execution->primitive->kernel, (int)status);
    return true;
}
