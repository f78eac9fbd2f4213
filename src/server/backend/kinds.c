#include "server/backend/kinds.h"

#include <string.h>

void kinds_init(struct kinds *kinds) {
    *kinds = (struct kinds){.count = 0};
    pthread_mutex_init(&kinds->lock, NULL);
}

void kinds_release(struct kinds *kinds) {
    pthread_mutex_destroy(&kinds->lock);
}

void kind_inputs(const struct request_kind *kind, int64_t rows, struct tensor *ret) {
    for (int i = 0; i < kind->input_count; i++) {
        ret[i] = kind->inputs[i];
        ret[i].shape.dims[0] = rows;
    }
}

static bool kind_describe(const struct tensor *inputs, int input_count, struct request_kind *ret) {
    *ret = (struct request_kind){.input_count = input_count};
    for (int i = 0; i < input_count; i++) {
        if (inputs[i].shape.rank < 1 || inputs[i].shape.dims[0] != inputs[0].shape.dims[0])
            return false;
        ret->inputs[i] = (struct tensor){.dtype = inputs[i].dtype, .shape = inputs[i].shape};
        ret->inputs[i].shape.dims[0] = 1;
    }
    return input_count > 0;
}

static bool kind_equal(const struct request_kind *a, const struct request_kind *b) {
    for (int i = 0; i < a->input_count; i++)
        if (!shape_equal(&a->inputs[i].shape, &b->inputs[i].shape))
            return false;
    return a->input_count == b->input_count;
}

/* Lock held. BATCHER_KEYS: there is none. */
static int look_up(const struct kinds *kinds, const struct request_kind *kind) {
    for (int i = 0; i < kinds->count; i++)
        if (kind_equal(&kinds->list[i], kind))
            return i;
    return BATCHER_KEYS;
}

int kinds_find(struct kinds *kinds, const struct model *model, const struct tensor *inputs, int input_count,
               bool are_photos) {
    struct request_kind kind;
    if (!kind_describe(inputs, input_count, &kind))
        return -1;

    pthread_mutex_lock(&kinds->lock);
    int key = look_up(kinds, &kind);
    bool full = kinds->count == BATCHER_KEYS;
    pthread_mutex_unlock(&kinds->lock);

    if (key == BATCHER_KEYS && !full) {
        kind.apart = engine_rows_are_apart(model_engine(model), kind.inputs, input_count, 2);
        pthread_mutex_lock(&kinds->lock);
        key = look_up(kinds, &kind); /* another thread may have been quicker */
        if (key == BATCHER_KEYS && kinds->count < BATCHER_KEYS) {
            key = kinds->count++;
            kinds->list[key] = kind;
        }
        pthread_mutex_unlock(&kinds->lock);
    }

    return key < BATCHER_KEYS && (are_photos || kinds->list[key].apart) ? key : -1;
}
