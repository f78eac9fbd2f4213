/* The functions of product.h for one element type: included once for each by product.c, with
 *   ELEMENT   the type of elements,
 *   SUM       the type to multiply and add in: ELEMENT, or its unsigned twin, which wraps,
 *   NAME(x)   x with the type's suffix.
 *
 * The right-hand matrix is taken in tiles of TILE columns, packed as panels of PANEL columns:
 * [panel][depth][PANEL]. */

#define PANEL (32 / (int)sizeof(SUM))
#define LANES (16 / (int)sizeof(SUM))
typedef SUM NAME(vector) __attribute__((vector_size(16), may_alias));

/* Four rows times one panel, over a part of the depth; added to sums[4][PANEL]. */
static void NAME(multiply_panel)(int64_t depth, const ELEMENT *const rows[4], const ELEMENT *panel,
                                 SUM *sums) {
    NAME(vector) total[4][2] = {0};
    const NAME(vector) *right = (const NAME(vector) *)panel;
    for (int64_t k = 0; k < depth; k++, right += 2)
        for (int r = 0; r < 4; r++) {
            SUM left = (SUM)rows[r][k];
            total[r][0] += left * right[0];
            total[r][1] += left * right[1];
        }
    for (int r = 0; r < 4; r++)
        for (int j = 0; j < PANEL; j++)
            sums[r * PANEL + j] += total[r][j / LANES][j % LANES];
}

/* c[rows, columns] = a[rows, depth] x the packed tile; row strides a_row and c_row. Depth goes in blocks,
 * which keeps rounding small. */
static void NAME(multiply_tile)(int64_t rows, int64_t depth, int64_t columns, const ELEMENT *a, int64_t a_row,
                                const ELEMENT *packed, ELEMENT *c, int64_t c_row) {
    for (int64_t row = 0; row < rows; row += 4)
        for (int64_t column = 0; column < columns; column += PANEL) {
            SUM sums[4 * PANEL] = {0};
            const ELEMENT *panel = packed + column * depth;
            for (int64_t k = 0; k < depth; k += DEPTH_BLOCK) {
                const ELEMENT *block[4];
                for (int r = 0; r < 4; r++) /* past the last row: the last one again, not stored */
                    block[r] = a + (row + r < rows ? row + r : rows - 1) * a_row + k;
                NAME(multiply_panel)
                (depth - k < DEPTH_BLOCK ? depth - k : DEPTH_BLOCK, block, panel + k * PANEL, sums);
            }
            int64_t width = columns - column < PANEL ? columns - column : PANEL;
            for (int64_t r = 0; r < 4 && row + r < rows; r++)
                for (int64_t j = 0; j < width; j++)
                    c[(row + r) * c_row + column + j] = (ELEMENT)sums[r * PANEL + j];
        }
}

static void NAME(pack_matrix)(int64_t depth, int64_t columns, const ELEMENT *b, int64_t k_stride,
                              int64_t j_stride, ELEMENT *packed) {
    for (int64_t column = 0; column < columns; column += PANEL, packed += depth * PANEL)
        for (int64_t k = 0; k < depth; k++)
            for (int64_t j = 0; j < PANEL; j++)
                packed[k * PANEL + j] = column + j < columns ? b[k * k_stride + (column + j) * j_stride] : 0;
}

bool NAME(product)(int64_t rows, int64_t depth, int64_t columns, int64_t batch, const ELEMENT *a,
                   const int64_t *a_offsets, const ELEMENT *b, const int64_t *b_offsets, bool b_transposed,
                   ELEMENT *c) {
    int64_t row_tiles = (rows + ROW_TILE - 1) / ROW_TILE, column_tiles = (columns + TILE - 1) / TILE;
    int64_t tasks = batch * row_tiles * column_tiles;
    bool failed = false;
#pragma omp parallel if (tasks > 1 && rows * depth > PARALLEL_ELEMENTS / columns / batch)
    {
        ELEMENT *packed =
            tasks ? aligned_alloc(64, ((size_t)depth * TILE * sizeof(ELEMENT) + 64) & ~(size_t)63) : NULL;
        if (!packed) {
#pragma omp atomic write
            failed = true;
        }
#pragma omp for schedule(static)
        for (int64_t task = 0; task < tasks; task++) {
            if (!packed)
                continue;
            int64_t pair = task / (row_tiles * column_tiles),
                    row = task / column_tiles % row_tiles * ROW_TILE;
            int64_t column = task % column_tiles * TILE,
                    width = columns - column < TILE ? columns - column : TILE;
            const ELEMENT *right = b + b_offsets[pair] + column * (b_transposed ? depth : 1);
            NAME(pack_matrix)
            (depth, width, right, b_transposed ? 1 : columns, b_transposed ? depth : 1, packed);
            NAME(multiply_tile)
            (rows - row < ROW_TILE ? rows - row : ROW_TILE, depth, width, a + a_offsets[pair] + row * depth,
             depth, packed, c + (pair * rows + row) * columns + column, columns);
        }
        free(packed);
    }
    return !failed || !tasks;
}

/* What a tile of output places sees of the input: one row of the matrix for each channel and place in the
 * kernel. */
static void NAME(pack_input)(const struct window *w, int64_t channels, int64_t first, int64_t columns,
                             const ELEMENT *input, ELEMENT *packed) {
    int64_t start[WINDOW_DIMS][TILE], depth = channels * window_kernel_size(w), k = 0;
    for (int64_t j = 0; j < columns; j++) {
        int64_t place = first + j;
        for (int i = WINDOW_DIMS - 1; i >= 0; i--) {
            start[i][j] = place % w->output[i] * w->stride[i] - w->pad[i];
            place /= w->output[i];
        }
    }
    if (window_is_point(w)) {
        NAME(pack_matrix)(channels, columns, input + first, window_input_size(w), 1, packed);
        return;
    }
    int64_t padded = (columns + PANEL - 1) / PANEL * PANEL;
    for (int64_t c = 0; c < channels; c++, input += window_input_size(w))
        for (int64_t kd = 0; kd < w->kernel[0]; kd++)
            for (int64_t kh = 0; kh < w->kernel[1]; kh++)
                for (int64_t kw = 0; kw < w->kernel[2]; kw++, k++)
                    for (int64_t j = 0; j < padded; j++) {
                        int64_t from = j < columns ? j : 0;
                        int64_t d = start[0][from] + kd * w->dilation[0],
                                h = start[1][from] + kh * w->dilation[1];
                        int64_t x = start[2][from] + kw * w->dilation[2];
                        bool inside = (uint64_t)d < (uint64_t)w->input[0] &&
                                      (uint64_t)h < (uint64_t)w->input[1] &&
                                      (uint64_t)x < (uint64_t)w->input[2];
                        packed[j / PANEL * PANEL * depth + k * PANEL + j % PANEL] =
                            inside ? input[(d * w->input[1] + h) * w->input[2] + x] : 0;
                    }
}

bool NAME(convolve)(const struct window *window, int64_t batch, int64_t groups, int64_t channels,
                    int64_t filters, const ELEMENT *input, const ELEMENT *weights, ELEMENT *output) {
    int64_t places = window_output_size(window), tiles = (places + TILE - 1) / TILE,
            tasks = batch * groups * tiles;
    int64_t depth = channels * window_kernel_size(window), image = channels * window_input_size(window);
    bool failed = false;
#pragma omp parallel if (tasks > 1 && filters * depth > PARALLEL_ELEMENTS / places)
    {
        ELEMENT *packed =
            tasks ? aligned_alloc(64, ((size_t)depth * TILE * sizeof(ELEMENT) + 64) & ~(size_t)63) : NULL;
        if (!packed) {
#pragma omp atomic write
            failed = true;
        }
#pragma omp for schedule(static)
        for (int64_t task = 0; task < tasks; task++) {
            if (!packed)
                continue;
            int64_t part = task / tiles, group = part % groups,
                    first = task % tiles * TILE; /* part: image and group */
            int64_t columns = places - first < TILE ? places - first : TILE;
            NAME(pack_input)(window, channels, first, columns, input + part * image, packed);
            NAME(multiply_tile)
            (filters, depth, columns, weights + group * filters * depth, depth, packed,
             output + part * filters * places + first, places);
        }
        free(packed);
    }
    return !failed || !tasks;
}

#undef PANEL
#undef LANES
#undef ELEMENT
#undef SUM
#undef NAME
