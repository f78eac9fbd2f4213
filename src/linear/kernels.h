/* The kernels behind linear.h, once for each instruction set. Used inside linear/ and by its tests.
 *
 * Activations are rounded to whole numbers. Within each 32 columns all kernels have the even columns first,
 * then the odd ones: so nibbles and bytes come out of a register by masks and shifts alone. Columns are
 * padded with zeros to a multiple of 32. */
#pragma once
#include "linear/attention.h"
#include "linear/linear.h"

enum {
    LINEAR_PANEL = 16,  /* rows of weights that are unpacked together for prompts */
    LINEAR_CHUNK = 256, /* columns that share a scale there */
    LINEAR_GROUP = 4,   /* rows of activations side by side */
    LINEAR_BLOCK = 512, /* rows of activations that are multiplied with an unpacked panel */
};

/* Rows of a prompt: 12 bits each and a scale for each row and chunk. Sums of LINEAR_CHUNK products with 13
 * bits of a weight fit 32 bits. */
struct linear_prompt {
    int64_t rows, inputs;
    const float *values; /* [rows][inputs], as they are: for weights that are float32 */
    int16_t *words; /* [chunks][groups][LINEAR_CHUNK / 2][LINEAR_GROUP][2]; tiles_template.inc has its own */
    float *scales;  /* [chunks][groups * LINEAR_GROUP] */
};

/* Rows of steps: 15 bits each, a scale for each row. */
struct linear_steps {
    int64_t rows, inputs;
    size_t stride;       /* inputs, padded to LINEAR_CHUNK */
    const float *values; /* [rows][inputs], as they are: for weights that are floats */
    int16_t *words;      /* [rows][stride] */
    float *scales;       /* [rows] */
    int32_t *
        sums16; /* [rows][stride / 256][2][8]: of 16 words each, the first ones of each 32, then the others */
    float *sums32; /* [rows][stride / 32] */
};

struct linear_kernels {
    const char *name;
    void (*prepare_prompt)(const struct linear_prompt *prompt, int64_t row);
    void (*prepare_step)(const struct linear_steps *steps, int64_t row);
    /* Rows [first, first + LINEAR_PANEL) of the weights with rows [begin, end) of a prompt, both multiples of
     * LINEAR_GROUP. ret: [end - begin][LINEAR_PANEL]. panel: [LINEAR_PANEL_WORDS], aligned to 64 bytes. */
    void (*multiply_panel)(const struct linear *linear, int64_t first, const struct linear_prompt *prompt,
                           int64_t begin, int64_t end, float *ret, int16_t *panel);
    /* Rows [first, last) of the weights with all rows of steps. y: [rows, outputs]. */
    void (*multiply_steps)(const struct linear *linear, int64_t first, int64_t last,
                           const struct linear_steps *steps, const float *bias, float *y);
    /* As attention_run, row_rms_norm, row_gate. */
    void (*attend)(const struct attention_shape *shape, const struct attention_pages *pages,
                   const struct attention_query *queries, int count, float *scratch);
    void (*rms_norm)(const float *x, int64_t count, const float *scale, float epsilon, float *y);
    void (*gate)(float *gate, const float *up, int64_t count, bool gelu);
};

/* Those for this processor. */
const struct linear_kernels *linear_kernels(void);

/* 16-bit numbers of an unpacked panel, and behind it of its rows before they are put side by side. */
enum { LINEAR_PANEL_WORDS = 2 * LINEAR_PANEL * LINEAR_CHUNK };

extern const struct linear_kernels linear_kernels_portable;
#if defined(__x86_64__)
extern const struct linear_kernels linear_kernels_avx2, linear_kernels_avx512;
#endif

/* What matrix tiles do instead. */
struct linear_tiles {
    void (*prepare_prompt)(const struct linear_prompt *prompt, int64_t row);
    void (*multiply_panel)(const struct linear *linear, int64_t first, const struct linear_prompt *prompt,
                           int64_t begin, int64_t end, float *ret, int16_t *panel);
};
#if defined(__x86_64__)
extern const struct linear_tiles linear_tiles_amx;
/* Whether this processor has them and the kernel lets this process use them, which this asks for. */
bool linear_tiles_usable(void);
#endif
/* A table whose prompts run on tiles. */
struct linear_kernels linear_kernels_with_tiles(const struct linear_kernels *kernels, const char *name,
                                                const struct linear_tiles *tiles);
