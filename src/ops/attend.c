#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "ops/heads.h"

static const void *pair_at(const struct pair_view *view, size_t size, int64_t batch, int64_t head,
                           int64_t query) {
    return (const char *)view->data +
           (batch * view->batch + head * view->head + query * view->query) * (int64_t)size;
}

/* Adds what bias and masks say of one row of scores. */
static void mask_row(const struct attend *attend, int64_t batch, int64_t head, int64_t query, float *scores) {
    int64_t offset = attend->offsets ? attend->offsets[batch] : 0;
    int64_t end = attend->lengths ? attend->lengths[batch] : attend->keys, start = 0;

    if (attend->bias.data) {
        const float *bias = pair_at(&attend->bias, sizeof *bias, batch, head, query);
        for (int64_t k = 0; k < attend->keys; k++)
            scores[k] += bias[k * attend->bias.key];
    }
    if (attend->allowed.data) {
        const uint8_t *allowed = pair_at(&attend->allowed, 1, batch, head, query);
        for (int64_t k = 0; k < attend->keys; k++)
            scores[k] += allowed[k * attend->allowed.key] ? 0 : attend->hidden;
    }

    if (attend->causal && query + offset + 1 < end)
        end = query + offset + 1;
    if (attend->window && query + offset + 1 > attend->window)
        start = query + offset + 1 - attend->window;
    for (int64_t k = 0; k < attend->keys; k++)
        if (k < start || k >= end)
            scores[k] += attend->hidden;
}

static void cap_row(const struct attend *attend, float *scores) {
    for (int64_t k = 0; attend->softcap > 0 && k < attend->keys; k++)
        scores[k] = attend->softcap * tanhf(scores[k] / attend->softcap);
}

/* Scores become weights that add up to 1, or to 0 where every key is hidden. */
static void soften_row(float *scores, int64_t keys) {
    float most = -INFINITY;
    double sum = 0;
    for (int64_t k = 0; k < keys; k++)
        most = fmaxf(most, scores[k]);
    if (most == -INFINITY) {
        memset(scores, 0, (size_t)keys * sizeof *scores);
        return;
    }

    for (int64_t k = 0; k < keys; k++) {
        scores[k] = expf(scores[k] - most);
        sum += (double)scores[k];
    }
    for (int64_t k = 0; k < keys; k++)
        scores[k] = (float)((double)scores[k] / sum);
}

static void attend_row(const struct attend *attend, int64_t batch, int64_t head, int64_t query, float *scores,
                       float *to) {
    const struct heads *q = &attend->query, *k = &attend->key, *v = &attend->value;
    int64_t from = head / (attend->heads / attend->key_heads);
    const float *row = q->data + batch * q->batch + head * q->head + query * q->row;
    const float *keys = k->data + batch * k->batch + from * k->head;
    const float *values = v->data + batch * v->batch + from * v->head;

    for (int64_t j = 0; j < attend->keys; j++) {
        float sum = 0;
#pragma omp simd reduction(+ : sum)
        for (int64_t i = 0; i < attend->size; i++)
            sum += row[i] * keys[j * k->row + i];
        scores[j] = sum * attend->scale;
    }

    cap_row(attend, scores);
    mask_row(attend, batch, head, query, scores);
    soften_row(scores, attend->keys);

    memset(to, 0, (size_t)attend->value_size * sizeof *to);
    for (int64_t j = 0; j < attend->keys; j++) {
        if (scores[j] == 0)
            continue;
        for (int64_t i = 0; i < attend->value_size; i++)
            to[i] += scores[j] * values[j * v->row + i];
    }
}

bool attend_run(const struct attend *attend, bool by_head, float *output) {
    int64_t rows = attend->batches * attend->heads * attend->queries;
    bool whole = true;

#pragma omp parallel if (rows * attend->keys * attend->size > PARALLEL_ELEMENTS)
    {
        float *scores = malloc((size_t)attend->keys * sizeof *scores + 64);
        if (!scores)
            __atomic_store_n(&whole, false, __ATOMIC_RELAXED);
#pragma omp for schedule(static)
        for (int64_t i = 0; i < rows; i++) {
            int64_t batch = i / (attend->heads * attend->queries);
            int64_t head = i / attend->queries % attend->heads, query = i % attend->queries;
            int64_t place = by_head ? i : (batch * attend->queries + query) * attend->heads + head;
            if (scores)
                attend_row(attend, batch, head, query, scores, output + place * attend->value_size);
        }
        free(scores);
    }

    return whole;
}

void rotary_turn(const struct rotary *rotary, const float *from, const float *cosines, const float *sines,
                 int64_t size, float *to) {
    int64_t half = rotary->half;
    for (int64_t i = 0; i < half; i++) {
        int64_t first = rotary->interleaved ? 2 * i : i, second = rotary->interleaved ? 2 * i + 1 : half + i;
        float a = from[first], b = from[second];
        to[first] = a * cosines[i] - b * sines[i];
        to[second] = a * sines[i] + b * cosines[i];
    }
    if (to != from)
        memcpy(to + 2 * half, from + 2 * half, (size_t)(size - 2 * half) * sizeof *to);
}

/* ---- Layouts ---- */

bool head_layout_read(const struct node *node, const struct shape *shape, int64_t heads,
                      struct head_layout *ret, struct error *error) {
    if (shape->rank == 4) {
        *ret = (struct head_layout){shape->dims[0], shape->dims[1], shape->dims[2], shape->dims[3], true};
    } else if (shape->rank == 3 && heads > 0 && shape->dims[2] % heads == 0) {
        *ret = (struct head_layout){shape->dims[0], heads, shape->dims[1], shape->dims[2] / heads, false};
    } else {
        char text[SHAPE_TEXT];
        return node_error(node, error, "%s is neither [batch, heads, rows, size] nor rows of %lld heads",
                          shape_format(shape, text, sizeof text), (long long)heads);
    }
    return true;
}

struct heads head_layout_view(const struct head_layout *layout, const float *data) {
    if (layout->by_head)
        return heads_by_head(data, layout->heads, layout->rows, layout->size);
    return (struct heads){data, layout->rows * layout->heads * layout->size, layout->size,
                          layout->heads * layout->size};
}

struct heads heads_by_head(const float *data, int64_t heads, int64_t rows, int64_t size) {
    return (struct heads){data, heads * rows * size, rows * size, size};
}

/* past [batch, heads, past_rows, size] (NULL where past_rows is 0), then the rows of `now`, into `ret`
 * [batch, heads, past_rows + now_rows, size], whose rows are `capacity` apart (>= their number). */
static void heads_join(const float *past, int64_t past_rows, const struct heads *now,
                       const struct head_layout *layout, float *ret, int64_t capacity) {
    int64_t size = layout->size;
    for (int64_t i = 0; i < layout->batches * layout->heads; i++) {
        const float *rows = now->data + i / layout->heads * now->batch + i % layout->heads * now->head;
        float *to = ret + i * capacity * size;
        if (past_rows)
            memcpy(to, past + i * past_rows * size, (size_t)(past_rows * size) * sizeof *to);
        for (int64_t row = 0; row < layout->rows; row++)
            memcpy(to + (past_rows + row) * size, rows + row * now->row, (size_t)size * sizeof *to);
    }
}

bool heads_with_past(const float *past, int64_t past_rows, const struct heads *now,
                     const struct head_layout *layout, float *to, struct heads *ret, float **ret_copy) {
    int64_t rows = past_rows + layout->rows;
    if (!past_rows && !to) {
        *ret = *now;
        return true;
    }
    if (!to)
        to = *ret_copy =
            malloc((size_t)(layout->batches * layout->heads * rows * layout->size) * sizeof *to + 64);
    if (!to)
        return false;
    heads_join(past, past_rows, now, layout, to, rows);
    *ret = heads_by_head(to, layout->heads, rows, layout->size);
    return true;
}

bool pair_view_make(const struct shape *shape, const void *data, const int64_t dims[4],
                    struct pair_view *ret) {
    int64_t strides[4] = {0}, step = 1;
    if (shape->rank > 4)
        return false;

    for (int i = 1; i <= shape->rank; i++) {
        int64_t dim = shape->dims[shape->rank - i];
        if (dim != 1 && dim != dims[4 - i])
            return false;
        strides[4 - i] = dim == 1 ? 0 : step;
        step *= dim;
    }
    *ret = (struct pair_view){data, strides[0], strides[1], strides[2], strides[3]};
    return true;
}
