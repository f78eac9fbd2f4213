/* Shapes for a network's inputs, whose free dimensions its file does not know. One thread. */
#pragma once
#include "cli/cli.h"
#include "model/model.h"

struct shape_wishes {
    struct option_list shapes; /* of --shape: NAME=DIMS, or DIMS for the only input */
    int batch;                 /* rows; 0: one */
    int size;                  /* of other free dimensions; 0: guessed */
    bool noise;                /* give the inputs values */
};

struct shaped_inputs {
    struct tensor *inputs; /* [count] in the order of engine_input */
    int count;
    int guess; /* what free dimensions were taken for; 0: none was left to guess */
};

/* "1x3x224x224", "scalar". */
bool cli_shape_parse(const char *text, struct shape *ret);
/* The shape that --shape gives an input; *ret_given false where it gives none. Errors name what is wrong. */
bool cli_shape_given(const struct engine *engine, const struct option_list *shapes, int input,
                     struct shape *ret, bool *ret_given, struct error *error);
/* Does each word of --shape name an input, and is it a shape? */
bool cli_shapes_check(const struct engine *engine, const struct option_list *shapes, struct error *error);

/* Find shapes that the network takes, and prepare the context's plan for them. Where the file leaves a
 * dimension free and no option gives it, lengths are tried until one fits: usual ones, then those of the
 * network's constants. */
bool cli_inputs_prepare(const struct model *model, struct engine_context *context,
                        const struct shape_wishes *wishes, struct shaped_inputs *ret, struct error *error);
void shaped_inputs_release(struct shaped_inputs *inputs);
/* "input 1x512x50, mask 1x512": malloc'ed; NULL when memory is out. */
char *shaped_inputs_text(const struct engine *engine, const struct shaped_inputs *inputs);
