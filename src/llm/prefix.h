/* Prompts that were computed before: their whole pages, found by the tokens in them and before them, so that
 * a prompt that begins as another did starts behind what they share. A page stays until its room is needed;
 * what was not used for longest goes first, ends before beginnings. One thread at a time. */
#pragma once
#include <stddef.h>
#include <stdint.h>

#include "llm/kv_pages.h"

struct prefix_index;

/* For a pool of so many pages, which must outlive it. NULL when memory is out. */
struct prefix_index *prefix_index_create(struct kv_pool *pool, int pages);
void prefix_index_free(struct prefix_index *index);

/* How far a sequence has been followed. What it has come to stays until prefix_leave. */
struct prefix_place {
    uint64_t scope; /* only sequences of one scope share */
    int32_t node;   /* -1: the beginning */
    int blocks;     /* pages that are behind it */
};
#define PREFIX_BEGINNING(shared_by)      \
    (struct prefix_place) {              \
        .scope = (shared_by), .node = -1 \
    }

/* Take over pages of tokens[0, count), as long as there are: they are added to `pages`, which has exactly
 * place->blocks. Returns how many were. */
int prefix_follow(struct prefix_index *index, struct prefix_place *place, const int32_t *tokens, size_t count,
                  struct kv_pages *pages);
/* Pages [place->blocks, blocks) of a sequence are computed: let others find them. Where there is such a page
 * already, the sequence has that one from now on. */
void prefix_add(struct prefix_index *index, struct prefix_place *place, const int32_t *tokens, int blocks,
                struct kv_pages *pages);
void prefix_leave(struct prefix_index *index, struct prefix_place *place);

/* Forget what was not used for longest until `pages` pages of the pool are free. False: all that is left is
 * in use. */
bool prefix_make_room(struct prefix_index *index, int pages);
