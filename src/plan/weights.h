/* The constants of a model, packed for primitives once, and shared by every plan of an engine.
 *
 * A weight is known by the address of its data. It may be packed in several ways: each has the layout that a
 * primitive asked for, and a role that says what was done to the values ("" for nothing). Any thread, unless
 * said; one lock in the store covers its list and its memory (docs/threads.md). */
#pragma once
#include "graph/graph.h"
#include "plan/primitive.h"

struct weights_store;

/* `graph`'s constants are the ones that are shared; it must live longer. */
struct weights_store *weights_store_create(const struct graph *graph, struct error *error);
void weights_store_free(struct weights_store *store);
/* Constants that the parent's graph holds, too (the same data at the same address), are packed in the parent,
 * once for both. Call it before anything is packed; the parent must live longer. */
void weights_store_share(struct weights_store *store, struct weights_store *parent);

/* The constant belongs to the graph that the store was made for, and was not folded for one plan. */
bool weights_is_shared(const struct weights_store *store, const void *data);

struct packed_weights {
    const void *source; /* the constant's data */
    const char *role;
    const struct layout *layout;
    const struct layout *from; /* how the constant's own data lies: the way back */
    void *bytes;               /* [size], 64-byte aligned */
    size_t size;
    bool adopted;     /* from a baked file: not ours to free, and the constant's own data may not be there */
    bool source_gone; /* the constant's own data was given back to the system after packing */
};

/* A packed form that is there already, or NULL. `layout` NULL: any with that role. It lives as long as the
 * store. */
const struct packed_weights *weights_find(struct weights_store *store, const void *data, const char *role,
                                          const struct layout *layout);

/* What is to be packed, and how. */
struct weights_request {
    const void *data; /* the constant's */
    const char *role;
    const struct layout *from;   /* how it lies */
    const struct layout *layout; /* how it is to lie */
    bool discard; /* give the constant's own data back to the system where that is possible: it is read again
                     from its file if that is mapped, else unpacked again (weights_restore) */
};
/* Packs, or returns what was packed before. NULL with an error: no memory, or oneDNN has no such reorder. */
const struct packed_weights *weights_pack(struct weights_store *store, const struct weights_request *request,
                                          struct error *error);

/* Weights that were packed before, in a baked file, which may hold anything. */
struct weights_baked {
    const void *data; /* the constant's, by which they are known */
    const char *role;
    size_t data_bytes; /* of the constant */
    struct layout_record layout, from;
    const void *bytes; /* [size], not copied */
    size_t size;
};
/* False where the layouts are none, or not of so many bytes. */
bool weights_adopt(struct weights_store *store, const struct weights_baked *baked, struct error *error);

/* The constant's own elements again, malloc'ed, where only packed ones are left; *ret NULL where they are
 * still at `data`. */
bool weights_restore(struct weights_store *store, const void *data, void **ret, struct error *error);

/* Need the files of the graph no more, once plans were made for a first shape: constants that are packed are
 * unpacked again where a later plan wants them (weights_restore), the others become private memory. Not while
 * plans are made, nor for a store with a parent. ERROR_MEMORY: a part still needs the files. */
bool weights_store_detach(struct weights_store *store, struct error *error);

/* The constant's own elements can be unpacked from the packed ones. */
bool packed_is_reversible(const struct packed_weights *packed);

size_t weights_total_bytes(struct weights_store *store);
/* Packed form `index`, in the order in which they were packed; NULL past the last. Not while plans are made.
 */
const struct packed_weights *weights_at(struct weights_store *store, int index);
