/* Loading and running a network.
 *
 * An engine is immutable once loaded: weights packed once and shared by every context and thread. A context
 * is one running thread's: it holds the activations. Shapes need not be known at load time: a plan for each
 * concrete set of input shapes is made on first use, kept, and shared. */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"
#include "tensor/tensor.h"

enum precision {
    PRECISION_AUTO, /* quantised files in integers where that is exact (the processor has VNNI, and the
                       weights fit 8 signed bits), else in float32, rounded as they say; others in bfloat16
                       where the processor multiplies it natively (AMX, AVX512-BF16), else float32 */
    PRECISION_F32,  /* strict; a quantised file's rounding to 8 bits is part of what it says, and stays */
    PRECISION_BF16,
    PRECISION_INT8, /* quantised files in integers, what is left in floats; without VNNI as PRECISION_F32;
                       files that are not quantised are refused */
};

/* "auto", "f32", "bf16", "int8" <-> enum; false where the name is none of them. */
bool precision_parse(const char *name, enum precision *ret);
const char *precision_name(enum precision precision);

struct engine_options {
    enum precision precision;
    int threads;   /* of one run; 0: as many as the process may use, or OMP_NUM_THREADS */
    bool no_baked; /* read the ONNX file even where a baked one is current */
    bool no_bf16;  /* PRECISION_AUTO never means bfloat16: the outputs are numbers to be used as such */
    bool profile;  /* keep the time of every step; the rows of a batch then never run in parallel */
    struct engine *share_weights_with; /* packs the weights that both graphs hold, once for both; must live
                                          longer. NULL: none */
};

/* One input or output of the model. */
struct engine_port {
    const char *name;
    enum dtype dtype;
    struct shape shape; /* -1: free */
};

/* What the network's last operators make of an output. */
enum engine_ending {
    ENGINE_ENDING_UNKNOWN, /* none of those below */
    ENGINE_ENDING_LINEAR,  /* a product or sum: numbers of any size */
    ENGINE_ENDING_SOFTMAX,
    ENGINE_ENDING_LOG_SOFTMAX,
    ENGINE_ENDING_SIGMOID,
};

struct engine;
struct engine_context;

/* Load an ONNX file. Everything that can be refused is refused here. Thread-safe. */
struct engine *engine_load(const char *path, const struct engine_options *options, struct error *error);
/* The same from a graph whose nodes are bound (operators_bind); it is taken over, also on failure. */
struct graph;
struct engine *engine_load_graph(struct graph *graph, const struct engine_options *options,
                                 struct error *error);
void engine_free(struct engine *engine); /* after its contexts */

int engine_input_count(const struct engine *engine);
const struct engine_port *engine_input(const struct engine *engine, int index);
int engine_output_count(const struct engine *engine);
const struct engine_port *engine_output(const struct engine *engine, int index);
/* Seen through operators that only move, copy, slice or round values. */
enum engine_ending engine_output_ending(const struct engine *engine, int index);
/* The precision in use: never PRECISION_AUTO. */
enum precision engine_precision(const struct engine *engine);
/* PRECISION_AUTO became bfloat16, and the outputs turn out to be numbers to be used as such: compute in
 * float32 from here on. Before the first context is created. False where the weights in use are a baked
 * file's: then load again, with no_bf16. */
bool engine_leave_bf16(struct engine *engine, struct error *error);
int engine_threads(const struct engine *engine);
/* "f32", "bf16" or "int8": for replies and logs. */
const char *engine_precision_used(const struct engine *engine);

/* Write the baked form of a model that was loaded from a file: what is packed by now, so after engine_prepare
 * of the usual shapes. `path` NULL: the default path, where engine_load finds it. */
bool engine_bake(struct engine *engine, const char *path, struct error *error);
/* Need no ONNX file any more, whatever becomes of those that the model was loaded from: what a later plan may
 * want of them becomes private memory. After engine_prepare or a run of the usual shape, and after
 * engine_bake; not while plans are made. ERROR_MEMORY: the model is as good as before, and still needs a part
 * of its files.
 */
bool engine_detach(struct engine *engine, struct error *error);
/* … and no baked file, which takes longer (a copy of all weights). Any thread, also while others run it. */
bool engine_detach_baked(const struct engine *engine, struct error *error);
/* The default path; "" where the model came from no file. Returns `text`. */
const char *engine_baked_path(const struct engine *engine, char *text, size_t size);
/* "" where the model came from its ONNX file and there was no baked one; "used"; else why the baked file was
 * refused: it is worth baking again. */
const char *engine_baked_state(const struct engine *engine);

struct engine_context *engine_context_create(struct engine *engine, struct error *error);
void engine_context_free(struct engine_context *context);

/* Make the plan for these inputs' shapes without running it, so that the first request does not pay for it.
 * inputs[i].data may be NULL, except for inputs whose values determine shapes. */
bool engine_prepare(struct engine_context *context, const struct tensor *inputs, int input_count,
                    struct error *error);

/* May the rows of several requests be run as one? True where it is certain that row i of every output follows
 * from row i of the inputs alone, for `rows` rows. `inputs`: of one request, with any number of rows; data is
 * not looked at. Takes as long as a part of engine_prepare. Any thread. */
bool engine_rows_are_apart(const struct engine *engine, const struct tensor *inputs, int input_count,
                           int64_t rows);

/* No NaN and no infinity among them: with one, engine_run is many times slower. Any thread. */
bool engine_inputs_are_finite(const struct tensor *inputs, int input_count);

/* Run. inputs[i] are in the order of engine_input; outputs[i] are filled with views into the context's
 * memory, right until its next run. One thread at a time per context. The calling thread and its OpenMP team
 * take denormal numbers for zero from then on (engine_prepare does so, too): they cost a hundred times as
 * much as others. */
bool engine_run(struct engine_context *context, const struct tensor *inputs, int input_count,
                struct tensor *outputs, int output_count, struct error *error);

/* Type and shape of output `index` as engine_prepare found them; of one row where the rows of a batch run
 * in parallel. After engine_prepare only. */
struct tensor engine_prepared_output(const struct engine_context *context, int index);

/* The plan and the times of the context's last run or preparation, for tables and profiles; NULL
 * before. */
struct plan;
const struct plan *engine_context_plan(const struct engine_context *context);
const int64_t *engine_context_times(const struct engine_context *context); /* ns of each step, with profile */
