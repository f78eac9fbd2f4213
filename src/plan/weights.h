/* The constants of a model, made ready for primitives once, and shared by every plan of an engine.
 *
 * A weight is known by where its data lies. It may be packed in several ways: the layout that a primitive
 * asked for, and a role that says what was done to the values ("" for nothing). Thread-safe. */
#pragma once
#include "graph/graph.h"
#include "plan/primitive.h"

struct weights_store;

/* `graph`'s constants are the ones that are shared; it must live longer. */
struct weights_store *weights_store_create(const struct graph *graph, struct error *error);
void weights_store_free(struct weights_store *store);
/* From now on what the parent's graph holds, too (the same data at the same address), is packed there, once
 * for both. Before anything is packed; the parent lives longer. */
void weights_store_share(struct weights_store *store, struct weights_store *parent);

/* The constant belongs to the graph that the store was made for (and not to one plan's folding). */
bool weights_is_shared(const struct weights_store *store, const void *data);

struct packed_weights {
    const void *source; /* the constant's data */
    const char *role;
    const struct layout *layout;
    const struct layout *from; /* how the constant's own data lies: the way back */
    void *bytes;               /* 64-byte aligned */
    size_t size;
    bool adopted;     /* from a baked file: not ours to free, and the constant's own data may not be there */
    bool source_gone; /* the constant's own data was given back to the system after packing */
};

/* An already packed form, or NULL: where `layout` is NULL, any with that role. The answer lives as long as
 * the store. */
const struct packed_weights *weights_find(struct weights_store *store, const void *data, const char *role,
                                          const struct layout *layout);
/* Pack `data`, which lies as `from` says, into `layout`; or return what was packed before. With `discard`,
 * the constant's own data is given back to the system where that is possible: read again from its file if it
 * is mapped, else unpacked again if anybody asks (weights_restore). */
const struct packed_weights *weights_pack(struct weights_store *store, const void *data, const char *role,
                                          const struct layout *from, const void *from_data,
                                          const struct layout *layout, bool discard, struct error *error);
/* Take bytes that are packed already (a baked file's), with both layouts (layout_to_bytes). */
bool weights_adopt(struct weights_store *store, const void *data, const char *role, const void *layout_bytes,
                   size_t layout_size, const void *from_bytes, size_t from_size, const void *bytes,
                   size_t size, struct error *error);
/* The constant's own elements again, malloc'ed, where only packed ones are left; *ret NULL where they are
 * still at `data`. */
bool weights_restore(struct weights_store *store, const void *data, void **ret, struct error *error);

/* The constant's own elements can be had from the packed ones. */
bool packed_is_reversible(const struct packed_weights *packed);

size_t weights_total_bytes(struct weights_store *store);
/* Visit every packed form, in the order in which they were packed. Not while plans are made. */
const struct packed_weights *weights_at(struct weights_store *store, int index);
