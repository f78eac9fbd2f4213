#include "tokenizer/merge.h"

#include <stdlib.h>

/* Two neighbours that might be merged, as they were when they were looked at. */
struct candidate {
    float cost;
    int32_t left, right;
    uint32_t size; /* of both */
};

/* A binary heap; the least is first. */
struct heap {
    struct candidate *candidates;
    size_t count, capacity;
};

static bool before(const struct candidate *a, const struct candidate *b) {
    return a->cost < b->cost || (a->cost == b->cost && a->left < b->left);
}

static bool heap_push(struct heap *heap, struct candidate candidate) {
    if (heap->count == heap->capacity) {
        size_t capacity = heap->capacity ? heap->capacity * 2 : 64;
        struct candidate *grown = realloc(heap->candidates, capacity * sizeof *grown);
        if (!grown)
            return false;
        heap->candidates = grown;
        heap->capacity = capacity;
    }

    size_t at = heap->count++;
    for (; at > 0 && before(&candidate, &heap->candidates[(at - 1) / 2]); at = (at - 1) / 2)
        heap->candidates[at] = heap->candidates[(at - 1) / 2];
    heap->candidates[at] = candidate;
    return true;
}

static struct candidate heap_pop(struct heap *heap) {
    struct candidate first = heap->candidates[0], last = heap->candidates[--heap->count];
    size_t at = 0;

    for (size_t child; (child = 2 * at + 1) < heap->count; at = child) {
        if (child + 1 < heap->count && before(&heap->candidates[child + 1], &heap->candidates[child]))
            child++;
        if (!before(&heap->candidates[child], &last))
            break;
        heap->candidates[at] = heap->candidates[child];
    }
    heap->candidates[at] = last;
    return first;
}

struct merging {
    struct symbol *symbols;
    const char *text;
    merge_rule rule;
    const void *context;
    struct heap heap;
};

/* Note the pair (left, right), where there is one and a rule for it. False when memory is out. */
static bool consider(struct merging *merging, int32_t left, int32_t right) {
    if (left < 0 || right < 0)
        return true;

    const struct symbol *a = &merging->symbols[left], *b = &merging->symbols[right];
    struct candidate candidate = {.left = left, .right = right, .size = a->size + b->size};
    if (!merging->rule(merging->context, merging->text + a->start, a->size, candidate.size, &candidate.cost))
        return true;
    return heap_push(&merging->heap, candidate);
}

static bool merge(struct merging *merging) {
    while (merging->heap.count) {
        struct candidate best = heap_pop(&merging->heap);
        struct symbol *left = &merging->symbols[best.left], *right = &merging->symbols[best.right];
        if (!left->size || !right->size || left->size + right->size != best.size || left->next != best.right)
            continue; /* one of them has been merged with another since */

        left->size = best.size;
        left->next = right->next;
        right->size = 0;
        if (left->next >= 0)
            merging->symbols[left->next].previous = best.left;

        if (!consider(merging, left->previous, best.left) || !consider(merging, best.left, left->next))
            return false;
    }
    return true;
}

bool symbols_merge(struct symbol *symbols, int32_t count, const char *text, merge_rule rule,
                   const void *context) {
    struct merging merging = {symbols, text, rule, context, {0}};
    bool done = true;

    for (int32_t i = 0; i < count; i++) {
        symbols[i].previous = i - 1;
        symbols[i].next = i + 1 < count ? i + 1 : -1;
    }
    for (int32_t i = 1; done && i < count; i++)
        done = consider(&merging, i - 1, i);

    done = done && merge(&merging);
    free(merging.heap.candidates);
    return done;
}
